"""A pipeline file becomes DAGs, one kind per module.

Parsed again and again by Airflow, so it imports nothing that takes long and asks no server: what is
slow belongs into `run_step` of an operator.
"""

import logging
from collections.abc import Callable

from airflow.sdk import DAG

from retraining.errors import SpecError
from retraining.settings import Settings
from retraining.spec import PipelineSpec, find_specs, load_spec
from retraining_airflow.dag_factory.feedback import build_feedback
from retraining_airflow.dag_factory.incident import build_incident
from retraining_airflow.dag_factory.monitoring import build_monitoring
from retraining_airflow.dag_factory.rollback import build_rollback
from retraining_airflow.dag_factory.weekly import build_weekly
from retraining_airflow.settings import DagSettings

__all__ = [
    "build_dags",
    "build_feedback",
    "build_incident",
    "build_monitoring",
    "build_rollback",
    "build_weekly",
    "check_pipeline_files",
]

Build = Callable[[PipelineSpec, DagSettings], DAG | None]

log = logging.getLogger(__name__)


def build_dags(build: Build) -> dict[str, DAG]:
    """Return the DAG that `build` makes of every pipeline file that is right, by id.

    A wrong file is left out, so that the other models keep running; `check_pipeline_files` reports
    it. `build` returns None for a file that asks for no such DAG.
    """
    settings = DagSettings.load()
    dags = {}
    for path in find_specs(Settings.load().pipelines):
        try:
            dag = build(load_spec(path), settings)
        except SpecError as error:
            log.error("%s", error)
        else:
            if dag is not None:
                dags[dag.dag_id] = dag
    return dags


def check_pipeline_files() -> None:
    """Raise one SpecError that lists every mistake in every pipeline file."""
    mistakes = []
    for path in find_specs(Settings.load().pipelines):
        try:
            load_spec(path)
        except SpecError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SpecError("\n".join(mistakes))
