"""What Airflow finds when it parses the DAG files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.workspace import Workspace, make_workspace

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
DAGS = REPOSITORY / "dags"
HEAVY = (
    *("boto3", "dp_accounting", "mlflow", "numpy", "pandas", "pyarrow", "scipy", "sklearn"),
    *("tensorflow", "retraining.steps", "airflow.providers.amazon"),
)

# As the DAG processor does it, in a process of its own; prints what a test asks for.
_PARSE = """
import json, sys, time
from pathlib import Path
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag
before = set(sys.modules)
started = time.process_time()
bag = DagBag(sys.argv[1], bundle_path=Path(sys.argv[1]))
seconds = time.process_time() - started
print(json.dumps({
    "dags": sorted(bag.dags), "errors": bag.import_errors, "seconds": seconds,
    "loaded": sorted(set(sys.modules) - before),
}))
"""


def parse(workspace: Workspace, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, str(DAGS)],
        env=_environment(workspace) | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _environment(workspace: Workspace) -> dict[str, str]:
    import os

    return {**os.environ, **workspace.environment}


@pytest.fixture
def two_models(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "workspace")
    return workspace.add_model("other_filter")


def test_every_pipeline_file_becomes_one_dag(two_models: Workspace) -> None:
    found = parse(two_models)

    assert found["errors"] == {}
    assert found["dags"] == ["secure_retraining__other_filter", "secure_retraining__small_filter"]


def test_parsing_loads_nothing_heavy(two_models: Workspace) -> None:
    loaded = set(parse(two_models)["loaded"])

    assert loaded & set(HEAVY) == set()
    assert "retraining_airflow.operators" in loaded  # else this looked at nothing


def test_a_mistake_names_file_field_found_and_allowed(two_models: Workspace) -> None:
    two_models.edit_spec({"gate": {"margin": "a bit"}})

    (error,) = parse(two_models)["errors"].values()

    assert str(two_models.spec_file) in error
    assert "gate.margin: found 'a bit', allowed:" in error
    assert "ValidationError" not in error  # pydantic's own words, and its page of context


def test_a_mistake_in_one_file_stops_no_other_model(two_models: Workspace) -> None:
    two_models.edit_spec({"gate": {"margin": "a bit"}})

    found = parse(two_models)

    assert found["dags"] == ["secure_retraining__small_filter"]
    # Airflow takes every DAG of a file with an import error out of service.
    assert list(found["errors"]) == ["check_pipeline_files.py"]


def test_mistakes_in_several_files_are_all_shown(two_models: Workspace) -> None:
    two_models.edit_spec({"nonsense": 1})
    (two_models.home / "pipelines" / "small_filter.yaml").write_text("model: [")

    (error,) = parse(two_models)["errors"].values()

    assert "other_filter.yaml: nonsense: no such field here" in error
    assert "small_filter.yaml: is not valid YAML" in error


def test_a_wrong_setting_is_named(two_models: Workspace) -> None:
    errors = parse(two_models, RETRAINING_RETRY_SECONDS="soon")["errors"]

    assert "RETRAINING_RETRY_SECONDS" in errors["secure_retraining.py"]
