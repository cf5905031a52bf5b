"""The incident DAG: its form, its three tasks, and what it says where a key is missing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retraining.spec import load_spec
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace
from tests.retraining.reviews.cases import add_reviewer

pytestmark = pytest.mark.airflow

FIRST, SECOND = WEEKS[:2]


def build() -> Any:
    from retraining_airflow.dag_factory import build_incident

    return build_incident


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The DAG as Airflow stores it, with a queue for promotions."""
    from airflow.serialization.serialized_objects import DagSerialization

    from retraining_airflow.settings import DagSettings

    spec = load_spec(make_workspace(tmp_path_factory.mktemp("factory")).spec_file)
    built = build()(spec, DagSettings(promotion_queue="promotion"))
    return DagSerialization.from_dict(DagSerialization.to_dict(built))


def test_it_is_started_by_hand_only_and_restores_where_the_promoters_key_is(dag: Any) -> None:
    assert (dag.dag_id, dag.timetable.summary) == ("incident__small_filter", "None")
    assert dag.max_active_runs == 1
    queues = {name: task.queue for name, task in dag.task_dict.items()}
    assert queues == {"trace": "default", "incident": "default", "restore": "promotion"}
    for task in dag.tasks:
        assert "red" in task.doc_md.lower()


@pytest.mark.parametrize(
    ("form", "taken"),
    [
        ({}, True),
        ({"source": "feed", "week": FIRST, "dry_run": False}, True),
        ({"screening": "ab12", "pattern": 1}, True),
        ({"week": "last week"}, False),
        ({"pattern": 0}, False),
        ({"dry_run": "no"}, False),
        ({"withdraw": True}, True),
        ({"withdraw": "yes"}, False),
        ({"reason": None}, False),
    ],
    ids=str,
)
def test_the_form_takes_what_can_be_meant(dag: Any, form: dict[str, Any], taken: bool) -> None:
    from airflow.exceptions import ParamValidationError

    try:
        dag.params.deep_merge({"reason": "a test", **form}).validate()
    except ParamValidationError:
        assert not taken
    else:
        assert taken


# --- the tasks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two promoted weeks; anna's key is a reviewer's, and lies where workers have none."""
    home = tmp_path_factory.mktemp("incident") / "workspace"
    workspace = make_workspace(home, weeks=(FIRST, SECOND))
    add_reviewer(workspace)
    for week in (FIRST, SECOND):
        assert workspace.run_week(week).entry is not None
    return workspace


@pytest.fixture
def workspace(original: Workspace, tmp_path: Path) -> Workspace:
    return original.copied(tmp_path / "workspace")


NEW = {"source": "feed", "week": SECOND}


@pytest.mark.slow
def test_a_dry_run_says_who_learned_and_signs_nothing(run_dag: Any, workspace: Workspace) -> None:
    outcome = run_dag(workspace, build=build(), **NEW)

    assert outcome.states == {"trace": "success", "incident": "skipped", "restore": "skipped"}
    assert len(workspace.registry()) == 2
    assert workspace.steps().reviews(workspace.model).links == ()


@pytest.mark.slow
def test_without_a_reviewers_key_it_names_the_command_and_signs_nothing(
    run_dag: Any, workspace: Workspace
) -> None:
    outcome = run_dag(workspace, build=build(), dry_run=False, **NEW)

    assert outcome.states == {
        "trace": "success",
        "incident": "failed",
        "restore": "upstream_failed",
    }
    assert len(workspace.registry()) == 2
    assert workspace.steps().reviews(workspace.model).links == ()


@pytest.mark.slow
def test_with_all_keys_it_runs_whole(run_dag: Any, workspace: Workspace) -> None:
    key = workspace.home / "reviewers" / "anna.pem"
    key.rename(workspace.settings.keys / "reviewer.pem")

    outcome = run_dag(workspace, build=build(), dry_run=False, **NEW)

    assert outcome.states == {"trace": "success", "incident": "success", "restore": "success"}
    registry = workspace.steps().registry(workspace.model)
    assert (registry.version, set(registry.convicted)) == (1, {2})
    assert outcome.xcom("incident") == registry.links[-1].record.decision


@pytest.mark.slow
def test_where_no_clean_version_is_left_the_form_withdraws_the_model(
    run_dag: Any, workspace: Workspace
) -> None:
    key = workspace.home / "reviewers" / "anna.pem"
    key.rename(workspace.settings.keys / "reviewer.pem")
    old = {"source": "feed", "week": FIRST, "dry_run": False, "withdraw": True}

    outcome = run_dag(workspace, build=build(), **old)

    assert outcome.states == {"trace": "success", "incident": "success", "restore": "success"}
    registry = workspace.steps().registry(workspace.model)
    assert (registry.version, set(registry.convicted)) == (0, {1, 2})


def execute(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, **form: Any) -> Any:
    """Execute the task `incident` with that form."""
    from retraining_airflow.operators import IncidentOperator

    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    task = IncidentOperator(task_id="incident", model=workspace.model)
    return task.execute(
        {
            "run_id": "manual__1",
            "dag_run": SimpleNamespace(triggering_user_name="anna"),
            "params": {"reason": "it's poison", "dry_run": False, **form},
        }  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_red_says_what_to_do_in_one_sentence(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    def said(**form: Any) -> str:
        with pytest.raises(AirflowFailException) as refused:
            execute(workspace, monkeypatch, **form)
        return " ".join(str(refused.value).split())

    assert (
        f"retraining incident small_filter --source feed --week {SECOND}"
        """ --why 'it'"'"'s poison' --key REVIEWER.pem""" in said(**NEW)
    )
    assert "--withdraw --why" in said(**NEW, withdraw=True)
    (workspace.home / "reviewers" / "anna.pem").rename(workspace.settings.keys / "reviewer.pem")
    assert "Name one thing" in said()
    assert "Name one thing" in said(source="feed", screening="ab")
    assert "number of the screening's pattern" in said(screening="ab")
    assert "no column `user`" in said(source="feed", user="mallory")
    assert "No version is left that did not learn from it" in said(source="feed", week=FIRST)
    (workspace.settings.keys / "pipeline.pem").unlink()
    assert "does not hold the pipeline's key" in said(**NEW)
    assert len(workspace.registry()) == 2


@pytest.mark.slow
def test_where_nobody_learned_it_is_confirmed_and_nothing_restored(
    run_dag: Any, workspace: Workspace
) -> None:
    steps = workspace.steps()
    steps.restore(
        steps.request_rollback(workspace.model, to_version=1, reason="a test").attestation.digest
    )
    key = workspace.home / "reviewers" / "anna.pem"
    key.rename(workspace.settings.keys / "reviewer.pem")

    outcome = run_dag(workspace, build=build(), dry_run=False, **NEW)

    assert outcome.states == {"trace": "success", "incident": "success", "restore": "skipped"}
    assert len(workspace.registry()) == 3
