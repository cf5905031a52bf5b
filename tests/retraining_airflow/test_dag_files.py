"""What Airflow finds when it parses the DAG files."""

import json
import os
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
import json, sys
from pathlib import Path
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag
before = set(sys.modules)
bag = DagBag(sys.argv[1], bundle_path=Path(sys.argv[1]))
print(json.dumps({
    "dags": sorted(bag.dags), "errors": bag.import_errors,
    "loaded": sorted(set(sys.modules) - before),
}))
"""


def parse(workspace: Workspace, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, str(DAGS)],
        env={**os.environ, **workspace.environment, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is found where all pipeline files are right."""
    workspace = make_workspace(tmp_path_factory.mktemp("clean"))
    workspace.add_model("other_filter")
    return parse(workspace)


@pytest.fixture(scope="module")
def with_mistakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is found where two of three pipeline files are wrong."""
    workspace = make_workspace(tmp_path_factory.mktemp("mistakes"))
    workspace.add_model("misspelt_filter", {"gate": {"margin": "a bit"}})
    (workspace.home / "pipelines" / "broken_filter.yaml").write_text("model: [")
    return parse(workspace) | {"home": str(workspace.home)}


def dags_of(*models: str) -> list[str]:
    """The DAGs of models whose pipeline files ask for nothing more."""
    kinds = ("incident", "rollback", "secure_retraining")
    return sorted(f"{kind}__{model}" for kind in kinds for model in models)


def test_every_pipeline_file_becomes_its_dags(clean: dict[str, Any]) -> None:
    assert clean["errors"] == {}
    assert clean["dags"] == dags_of("other_filter", "small_filter")


def test_parsing_loads_nothing_heavy(clean: dict[str, Any]) -> None:
    loaded = set(clean["loaded"])

    assert loaded & set(HEAVY) == set()
    assert "retraining_airflow.operators" in loaded  # else this looked at nothing


def test_a_mistake_names_file_field_found_and_allowed(with_mistakes: dict[str, Any]) -> None:
    (error,) = with_mistakes["errors"].values()

    file = f"{with_mistakes['home']}/pipelines/misspelt_filter.yaml"
    assert f"{file}: gate.margin: found 'a bit', allowed:" in error
    assert "ValidationError" not in error  # pydantic's own words, and its page of context


def test_mistakes_in_several_files_are_all_shown(with_mistakes: dict[str, Any]) -> None:
    (error,) = with_mistakes["errors"].values()

    assert "broken_filter.yaml: is not valid YAML" in error
    assert "misspelt_filter.yaml: gate.margin" in error


def test_a_mistake_in_one_file_stops_no_other_model(with_mistakes: dict[str, Any]) -> None:
    assert with_mistakes["dags"] == dags_of("small_filter")
    # Airflow takes every DAG of a file with an import error out of service.
    assert list(with_mistakes["errors"]) == ["check_pipeline_files.py"]


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)

    errors = parse(workspace, RETRAINING_RETRY_SECONDS="soon")["errors"]

    assert "RETRAINING_RETRY_SECONDS" in errors["secure_retraining.py"]
