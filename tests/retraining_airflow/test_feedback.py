"""The feedback DAG: built where a pipeline file asks for it, green when it closed a batch."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retraining.chains import feedback_chain
from retraining.digests import Digest
from retraining.records import FeedbackEntry, FeedbackReport
from retraining.registry import previous_week, week_of
from retraining.spec import load_spec
from tests.fixtures.airflow_server import AirflowServer, eventually
from tests.fixtures.workspace import Workspace, make_workspace
from tests.retraining.feedback.weeks import (
    FIRST,
    NEXT,
    SOURCE,
    WEEK,
    ask_for_feedback,
    ask_model,
    delivered,
    make_feedback_workspace,
    say_a_week,
    votes,
    write_lines,
)

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Weeks that build on one another: the tests of this module run in their order."""
    return make_feedback_workspace(tmp_path_factory.mktemp("feedback") / "workspace")


@pytest.fixture
def close(run_dag: Callable[..., Any], workspace: Workspace) -> Callable[..., Any]:
    """Run the feedback DAG with a form."""
    from retraining_airflow.dag_factory import build_feedback

    return lambda **form: run_dag(workspace, build=build_feedback, **form)


def test_a_week_without_feedback_is_skipped(close: Callable[..., Any]) -> None:
    assert close(week=WEEK).states == {"close_batch": "skipped"}


def test_a_closed_week_is_green_and_its_xcom_names_the_signed_report(
    close: Callable[..., Any], workspace: Workspace
) -> None:
    say_a_week(workspace, WEEK)

    run = close(week=WEEK, reason="the users are waiting")

    assert run.states == {"close_batch": "success"}
    digest = Digest(run.xcom("close_batch"))
    result = workspace.steps().open_any("feedback", digest, FeedbackReport)
    assert (result.report.week, result.report.n_applied) == (WEEK, 50)
    assert result.report.reason == "the users are waiting"
    assert len(delivered(workspace, WEEK)) == 50


def test_the_second_trigger_is_skipped_and_closes_nothing(
    close: Callable[..., Any], workspace: Workspace
) -> None:
    assert close(week=WEEK).states == {"close_batch": "skipped"}
    assert len(workspace.steps().store.names(f"feedback/{workspace.model}/")) == 1


def test_what_cannot_be_mended_by_trying_again_fails_at_once(
    close: Callable[..., Any], workspace: Workspace
) -> None:
    say_a_week(workspace, NEXT)
    key = workspace.settings.keys / "providers" / f"{SOURCE}.pem"
    key.rename(workspace.home / "away.pem")
    try:
        run = close(week=NEXT)
    finally:
        (workspace.home / "away.pem").rename(key)

    (task,) = run.dag_run.get_task_instances()
    assert (str(task.state), task.try_number) == ("failed", 1)


def test_a_manual_run_needs_a_reason(close: Callable[..., Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        close(week=NEXT, reason="")


@pytest.mark.parametrize("week", ["2026-W00", "2026-w07", "week", "2026-W07\n"])
def test_the_form_takes_weeks_only(close: Callable[..., Any], week: str) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        close(week=week)


def test_the_dag_stands_where_the_pipeline_file_asks_for_it(tmp_path: Path) -> None:
    from retraining_airflow.dag_factory import build_feedback
    from retraining_airflow.settings import DagSettings

    workspace = make_workspace(tmp_path)
    assert build_feedback(load_spec(workspace.spec_file), DagSettings()) is None

    ask_for_feedback(workspace, schedule="0 4 * * 1")
    dag = build_feedback(load_spec(workspace.spec_file), DagSettings())

    assert dag is not None
    assert (dag.dag_id, dag.schedule) == (f"feedback_batch__{workspace.model}", "0 4 * * 1")
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert f"secure_retraining__{workspace.model}" in (dag.doc_md or "")
    assert "counted twice" in dag.task_dict["close_batch"].doc_md


def test_on_the_schedule_the_last_full_week_is_closed_without_a_reason(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from retraining_airflow.operators import CloseFeedbackOperator

    asked: dict[str, Any] = {}
    steps: Any = SimpleNamespace(
        close_feedback=lambda model, week, reason: (
            asked.update(model=model, week=week, reason=reason)
            or SimpleNamespace(attestation=SimpleNamespace(digest="sha256:0"))
        )
    )
    context: Any = {
        "params": {"week": None, "reason": None},
        "dag_run": SimpleNamespace(
            run_type="scheduled", run_after=datetime(2026, 2, 16, 4, tzinfo=UTC)
        ),
    }

    said = CloseFeedbackOperator(task_id="x", model="m").run_step(steps, context)

    assert (asked, said) == ({"model": "m", "week": "2026-W07", "reason": "scheduled"}, "sha256:0")


@pytest.mark.timeout(900)
def test_a_real_scheduler_closes_weeks_on_its_schedule_and_from_the_form(
    airflow_server: AirflowServer,
) -> None:
    workspace = airflow_server.workspace.add_model("voted_filter", weeks=[FIRST])
    ask_for_feedback(workspace, schedule="0 4 * * 1", uri="said/voted_filter/{week}")
    last_week = previous_week(week_of(datetime.now(UTC).date()))
    assert workspace.run_week(FIRST, left_out=[SOURCE]).entry is not None
    for week in (WEEK, last_week):
        rows = ask_model(workspace, week)
        write_lines(workspace, week, votes(rows, week), folder="said/voted_filter")
    dag_id = f"feedback_batch__{workspace.model}"
    airflow_server.wait_for_dag(dag_id)
    run_id, state = airflow_server.run_week(dag_id, WEEK)

    # Let loose, the schedule closes the newest full week; whichever of the two came second to an
    # older week is skipped, as no batch may follow a later one.
    assert state == "success"
    eventually(lambda: len(_ended(airflow_server, dag_id)) == 2, seconds=120)
    ended = _ended(airflow_server, dag_id)
    assert set(ended) == {"scheduled", "manual"}
    (link, *more) = _closed(workspace)
    weeks = {link.week, *(entry.week for entry in more)}
    assert last_week in weeks
    states = airflow_server.states(dag_id, run_id)
    assert states == {"close_batch": "success" if WEEK in weeks else "skipped"}
    assert len(delivered(workspace, last_week)) == 50

    run_id, state = airflow_server.run_week(dag_id, last_week)

    assert (state, airflow_server.states(dag_id, run_id)) == ("success", {"close_batch": "skipped"})
    said = [line.get("reason", "") for line in airflow_server.log(dag_id, run_id, "close_batch")]
    assert any(f"The feedback of {last_week} is closed already" in line for line in said)

    run_id, state = airflow_server.run_week(dag_id, last_week, reason=None)

    assert state == "failed"
    headline = airflow_server.headline(dag_id, run_id, "close_batch")
    assert "Say why this run is started by hand" in headline


def _ended(server: AirflowServer, dag_id: str) -> dict[str, str]:
    runs = server.get(f"dags/{dag_id}/dagRuns")["dag_runs"]
    return {run["run_type"]: run["state"] for run in runs if run["state"] in ("success", "failed")}


def _closed(workspace: Workspace) -> list[FeedbackEntry]:
    steps = workspace.steps()
    links = feedback_chain(steps.store, steps.trust, workspace.model).load()
    return [link.record for link in links]
