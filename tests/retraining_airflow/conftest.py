"""Airflow for tests: a home of its own, made before anything imports Airflow."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.workspace import Workspace

REPOSITORY = Path(__file__).parents[2]

if "airflow" not in sys.modules:  # else somebody else has set it up, and it reads this only once
    _home = tempfile.mkdtemp(prefix="airflow-tests-")
    atexit.register(shutil.rmtree, _home, ignore_errors=True)
    os.environ |= {
        "AIRFLOW_HOME": _home,
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": f"{_home}/plugins",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{_home}/logs",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


@dataclass(frozen=True)
class DagOutcome:
    """A run that has ended."""

    dag_run: Any

    @property
    def states(self) -> dict[str, str]:
        """The colour of each task, `ingest[0]` for the first source."""
        return {
            f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: str(ti.state)
            for ti in self.dag_run.get_task_instances()
        }

    def xcom(self, task_id: str) -> Any:
        """What a task passed on."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            entry = session.scalar(
                XComModel.get_many(
                    run_id=self.dag_run.run_id,
                    dag_ids=[self.dag_run.dag_id],
                    task_ids=[task_id],
                    key="return_value",
                )
            )
            return entry and XComModel.deserialize_value(entry)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's tables, in a file of this session."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    initdb()
    DagBundlesManager().sync_bundles_to_db()


@pytest.fixture
def run_dag(airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DagOutcome]:
    """Return a function that runs a workspace's DAG in this process, as `dag.test()` does.

    The weekly DAG, unless `build` makes another one.
    """

    def run(workspace: Workspace, *, build: Any = None, **form: Any) -> DagOutcome:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

        from retraining.spec import load_spec
        from retraining_airflow.dag_factory import build_weekly
        from retraining_airflow.settings import DagSettings

        for name, value in workspace.environment.items():
            monkeypatch.setenv(name, value)
        make = build or build_weekly
        dag = make(load_spec(workspace.spec_file), DagSettings(retry_seconds=0.1))
        bag = DagBag(os.devnull)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        # Without a logical date, as in every run that the scheduler or a person starts.
        outcome = dag.test(logical_date=None, run_conf={"reason": "a test asks for it", **form})
        return DagOutcome(outcome)

    return run
