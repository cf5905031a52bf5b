"""The rollback DAG: its form, its two tasks, and what they make of what travels between them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retraining.spec import load_spec
from tests.fixtures.airflow_server import AirflowServer
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace

pytestmark = pytest.mark.airflow

FIRST, SECOND, *_ = WEEKS


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The DAG as Airflow stores it, with a queue for promotions."""
    from airflow.serialization.serialized_objects import DagSerialization

    from retraining_airflow.dag_factory import build_rollback
    from retraining_airflow.settings import DagSettings

    workspace = make_workspace(tmp_path_factory.mktemp("factory"))
    spec = load_spec(workspace.spec_file)
    built = build_rollback(spec, DagSettings(promotion_queue="promotion"))
    return DagSerialization.from_dict(DagSerialization.to_dict(built))


def test_it_is_started_by_hand_only_and_restores_where_the_promoters_key_is(dag: Any) -> None:
    tasks = dag.task_dict

    assert dag.dag_id == "rollback__small_filter"
    assert dag.timetable.summary == "None"
    assert dag.max_active_runs == 1
    assert tasks["restore"].upstream_task_ids == {"request"}
    assert (tasks["request"].queue, tasks["restore"].queue) == ("default", "promotion")
    assert str(tasks["restore"].trigger_rule) == "all_success"
    (asset,) = tasks["restore"].outlets
    assert asset.name == "small_filter_champion"


def test_each_page_says_what_red_means(dag: Any) -> None:
    assert "| red | nothing was rolled back" in dag.doc_md
    assert "Cannot be taken back" in dag.params.get_param("convict").description
    for task in dag.tasks:
        assert "red" in task.doc_md.lower()


def accepts(dag: Any, **form: Any) -> bool:
    """Whether Airflow would start a run with that form: it validates exactly so."""
    from airflow.exceptions import ParamValidationError

    try:
        dag.params.deep_merge({"reason": "a test", "to_version": 1, **form}).validate()
    except ParamValidationError:
        return False
    return True


def test_the_form_takes_a_version_and_a_reason(dag: Any) -> None:
    assert accepts(dag)
    assert accepts(dag, to_version=17, convict=True)
    assert accepts(dag, to_version=0)


@pytest.mark.parametrize(
    "form",
    [
        *({"to_version": found} for found in (None, -1, 1.5, "1", True, [1])),
        *({"reason": found} for found in (None, "", "x", 7)),
        *({"convict": found} for found in (None, "yes", 1)),
    ],
    ids=str,
)
def test_the_form_refuses_anything_else(dag: Any, form: dict[str, Any]) -> None:
    assert not accepts(dag, **form)


# --- the tasks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two models with two promoted weeks each."""
    workspace = make_workspace(tmp_path_factory.mktemp("two_versions") / "workspace")
    for model in (workspace, workspace.add_model("neighbour_filter")):
        for week in (FIRST, SECOND):
            model.deliver(week)
            assert model.run_week(week).entry is not None
    return workspace


@pytest.fixture
def two_versions(original: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it, to do what one likes with."""
    return original.copied(tmp_path / "workspace")


def build() -> Any:
    from retraining_airflow.dag_factory import build_rollback

    return build_rollback


@pytest.mark.slow
def test_a_run_lets_the_older_version_serve_and_tells_who_waits_for_the_champion(
    run_dag: Any, two_versions: Workspace
) -> None:
    outcome = run_dag(two_versions, build=build(), to_version=1, convict=True)

    assert outcome.states == {"request": "success", "restore": "success"}
    link = two_versions.steps().registry(two_versions.model).links[-1]
    entry = link.record
    assert (entry.verdict, entry.version, entry.convicted) == ("ROLLBACK", 1, (2,))
    assert outcome.xcom("request") == entry.decision
    assert outcome.xcom("restore") == link.digest


@pytest.mark.slow
def test_a_version_that_may_not_serve_is_red_at_once_and_asks_for_nothing(
    run_dag: Any, two_versions: Workspace
) -> None:
    outcome = run_dag(two_versions, build=build(), to_version=7)

    assert outcome.states == {"request": "failed", "restore": "upstream_failed"}
    (request,) = [t for t in outcome.dag_run.get_task_instances() if t.task_id == "request"]
    assert request.try_number == 1
    assert len(two_versions.registry()) == 2


def restore(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, request: Any) -> Any:
    """Execute the restoring task with that XCom; return what the asset was told."""
    from retraining_airflow.operators import RestoreOperator, champion_asset

    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    asset = champion_asset(workspace.model)
    events = {asset: SimpleNamespace(extra={})}
    RestoreOperator(task_id="restore", model=workspace.model, request=request).execute(
        {
            "run_id": "manual__1",
            "dag_run": SimpleNamespace(triggering_user_name="anna"),
            "outlet_events": events,
        }  # type: ignore[arg-type]
    )
    return events[asset].extra


@pytest.mark.slow
def test_the_asset_says_which_version_serves(
    two_versions: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = two_versions.steps().request_rollback(
        two_versions.model, to_version=1, reason="a test", convict=True
    )

    told = restore(two_versions, monkeypatch, str(asked.attestation.digest))

    entry = two_versions.registry()[-1]
    assert told["version"] == 1
    assert told["model"] == entry.champion
    assert told["week"] == FIRST
    assert told["convicted"] == [2]
    assert told["registry_entry"] == two_versions.steps().registry(two_versions.model).head


@pytest.mark.slow
def test_the_asset_says_when_none_serves(
    two_versions: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = two_versions.steps().request_rollback(two_versions.model, to_version=0, reason="a test")

    told = restore(two_versions, monkeypatch, str(asked.attestation.digest))

    assert (told["version"], told["model"], told["week"]) == (0, None, SECOND)


@pytest.mark.slow
def test_what_is_no_signed_request_for_this_model_restores_nothing(
    two_versions: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    other = replace(two_versions, model="neighbour_filter")
    theirs = other.steps().request_rollback(other.model, to_version=1, reason="a test")
    before = two_versions.registry()
    forgeries = {
        None: "No record of request arrived",
        "yes": "Nothing signed asks for a rollback, so small_filter keeps its champion",
        before[0].decision: "Nothing signed asks for a rollback, so small_filter keeps",
        str(theirs.attestation.digest): "names one of neighbour_filter",
    }
    for found, said in forgeries.items():
        with pytest.raises(AirflowFailException) as refused:
            restore(two_versions, monkeypatch, found)
        assert said in " ".join(str(refused.value).split())
    assert two_versions.registry() == before
    assert len(other.registry()) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_scheduler_rolls_back_what_was_asked_for_in_the_form(
    airflow_server: AirflowServer,
) -> None:
    workspace = airflow_server.workspace.add_model("returning_filter", weeks=[FIRST, SECOND])
    for week in (FIRST, SECOND):
        workspace.run_week(week)
    dag_id = f"rollback__{workspace.model}"
    airflow_server.wait_for_dag(dag_id)
    refused = airflow_server.call(
        "POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": {"to_version": 1}}
    )
    assert refused.status_code == 400 and "reason" in refused.text

    run_id = airflow_server.trigger(dag_id, to_version=1)

    assert airflow_server.wait_for_run(dag_id, run_id) == "success"
    assert workspace.registry()[-1].version == 1
    (event,) = airflow_server.get("assets/events", source_dag_id=dag_id)["asset_events"]
    assert (event["source_task_id"], event["extra"]["version"]) == ("restore", 1)

    airflow_server.clear(dag_id, run_id, "restore")  # somebody runs it again

    assert airflow_server.wait_for_run(dag_id, run_id) == "success"
    assert len(workspace.registry()) == 3

    run_id = airflow_server.trigger(dag_id, to_version=1)

    assert airflow_server.wait_for_run(dag_id, run_id) == "failed"
    headline = airflow_server.headline(dag_id, run_id, "request")
    assert "Version 1 of returning_filter serves already; versions that may serve: 1, 2" in headline
