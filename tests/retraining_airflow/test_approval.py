"""The task that asks people: what it shows, whose answer counts, and that a silence is no yes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retraining.digests import Digest
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace
from tests.retraining.approvals.cases import TOO_FEW_ROWS, add_people, approve, decision_of

pytestmark = pytest.mark.airflow

ANNA = {"id": "anna", "name": "anna"}


def held_workspace(home: Path, **approval: Any) -> tuple[Workspace, str]:
    """A held first week; return also the digest of its pinned run."""
    workspace = make_workspace(home, spec=TOO_FEW_ROWS | {"approval": approval}, weeks=WEEKS[:1])
    add_people(workspace)
    return workspace, str(workspace.run_week(WEEKS[0]).screened.run.attestation.digest)


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """Held; reviewers sign. Not to be changed."""
    return held_workspace(tmp_path_factory.mktemp("signed") / "workspace")


@pytest.fixture
def signed(signed_once: tuple[Workspace, str], tmp_path: Path) -> tuple[Workspace, str]:
    """A copy of it, to do what one likes with."""
    return signed_once[0].copied(tmp_path / "workspace"), signed_once[1]


@pytest.fixture(scope="module")
def in_ui_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """Held; an answer in Airflow counts. Not to be changed."""
    return held_workspace(tmp_path_factory.mktemp("in_ui") / "workspace", in_ui=True)


@pytest.fixture
def in_ui(in_ui_once: tuple[Workspace, str], tmp_path: Path) -> tuple[Workspace, str]:
    """A copy of it, to do what one likes with."""
    return in_ui_once[0].copied(tmp_path / "workspace"), in_ui_once[1]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What Airflow's server was told to ask; the server itself is for the tests beside this."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail",
        lambda **question: asked.append(question),
    )
    yield asked


class Task:
    """One task instance of a workspace's approving task."""

    def __init__(
        self, workspace: Workspace, run: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from retraining_airflow.operators import ApproveOperator

        for name, value in workspace.environment.items():
            monkeypatch.setenv(name, value)
        self.operator = ApproveOperator(task_id="approve", run=run, expires_hours=72)
        self.context: Any = {
            "run_id": "manual__1",
            "dag_run": SimpleNamespace(triggering_user_name="oncall"),
            "task_instance": SimpleNamespace(id="a task instance"),
        }

    def execute(self) -> str:
        return self.operator.execute(self.context)

    def park(self) -> Any:
        from airflow.sdk.exceptions import TaskAwaitingInput

        with pytest.raises(TaskAwaitingInput) as parked:
            self.execute()
        return parked.value

    def answer(self, *chosen: str, by: Any = ANNA, **event: Any) -> str:
        said = {
            "chosen_options": list(chosen),
            "params_input": {},
            "responded_by_user": by,
            "responded_at": datetime.now(UTC),
            "timedout": False,
        }
        return self.operator.execute_complete(self.context, said | event)


def test_it_waits_for_a_signature_and_goes_on_when_there_is_one(
    signed: tuple[Workspace, str], questions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, run = signed
    task = Task(workspace, run, monkeypatch)

    parked = task.park()

    (question,) = questions
    decision = decision_of(workspace)
    assert (question["options"], question["defaults"]) == (["It is signed", "Leave it"], None)
    assert question["subject"] == "Promote small_filter 2026-W05, although the gate says HOLD?"
    assert f"retraining approve {decision}" in question["body"]
    assert "| holdout rows | 400 rows | at least 401 |" in question["body"]
    assert parked.timeout.total_seconds() == 72 * 3600
    approve(workspace)
    assert task.answer("It is signed") == str(decision)
    assert Task(workspace, run, monkeypatch).execute() == str(decision)  # cleared: goes on at once


def test_a_click_alone_counts_for_nothing(
    signed: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from retraining_airflow.notifications import GateRefused

    workspace, run = signed
    task = Task(workspace, run, monkeypatch)
    for chosen in (["It is signed"], [], ["Approve", "Leave it"]):
        with pytest.raises(GateRefused, match="Not enough people have signed") as caught:
            task.answer(*chosen)
        assert f"retraining approve {decision_of(workspace)}" in " ".join(str(caught.value).split())
    with pytest.raises(AirflowFailException, match="counts no answer in Airflow"):
        task.answer("Approve")
    assert workspace.steps().approvals(workspace.model).links == ()


def test_a_silence_is_no_yes(in_ui: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    workspace, run = in_ui
    task = Task(workspace, run, monkeypatch)

    with pytest.raises(AirflowFailException, match="a silence is no yes"):
        task.operator.execute_complete(
            task.context, {"error": "The time has passed", "error_type": "timeout"}
        )
    with pytest.raises(AirflowFailException, match="does not say who answered"):
        task.answer("Approve", by=None, timedout=True)  # as Airflow applies a default
    assert workspace.steps().approvals(workspace.model).links == ()


def test_an_answer_in_the_ui_is_recorded_as_what_it_is(
    in_ui: tuple[Workspace, str], questions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, run = in_ui
    task = Task(workspace, run, monkeypatch)
    task.park()
    assert questions[0]["options"] == ["Approve", "Leave it"]
    assert list(questions[0]["params"]) == ["why"]

    decision = task.answer("Approve", by={"id": "7", "name": "anna"}, params_input={"why": "fine"})

    (link,) = workspace.steps().approvals(workspace.model).links
    said = link.record
    assert (said.approver, said.strength, said.why) == (
        "airflow:anna (7)",
        "ui",
        "chose Approve in Airflow: fine",
    )
    assert link.key_id == "promoter"
    entry = workspace.steps().promote(Digest(decision)).record
    assert entry.approvals == (link.digest,)


@pytest.mark.parametrize("why", [None, "", "  ", 5, ["x"], {"a": 1}])
def test_a_form_that_airflow_did_not_check_breaks_nothing(
    in_ui: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch, why: Any
) -> None:
    workspace, run = in_ui

    Task(workspace, run, monkeypatch).answer("Approve", params_input={"why": why, "other": 1})

    (link,) = workspace.steps().approvals(workspace.model).links
    assert len(link.record.why) >= 3


def test_leaving_it_skips_the_task(
    in_ui: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    workspace, run = in_ui
    with pytest.raises(AirflowSkipException, match="anna chose to leave it"):
        Task(workspace, run, monkeypatch).answer("Leave it")
    assert workspace.steps().approvals(workspace.model).links == ()


def test_nothing_is_asked_about_another_run(
    signed: tuple[Workspace, str], questions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that broke before its gate finds the held decision of an earlier one."""
    from airflow.sdk.exceptions import AirflowSkipException

    workspace, _ = signed
    pinned = workspace.steps().pin(workspace.model, WEEKS[0]).attestation.digest
    for run in (None, "", str(pinned)):
        with pytest.raises(AirflowSkipException, match="Nothing to approve"):
            Task(workspace, run, monkeypatch).execute()
    assert questions == []


def test_what_nobody_can_approve_is_not_asked(
    tmp_path: Path, questions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    workspace, run = held_workspace(tmp_path / "workspace", ask=["always"])
    with pytest.raises(AirflowSkipException, match="asks nobody"):
        Task(workspace, run, monkeypatch).execute()
    assert questions == []


def test_what_a_stranger_wrote_is_not_rendered_as_a_template(
    signed: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from retraining_airflow.operators import ApproveOperator

    assert set(ApproveOperator.template_fields) == {"run"}


# --- in the graph ---------------------------------------------------------------------------


def test_the_task_stands_between_gate_and_promotion(tmp_path: Path) -> None:
    from retraining.spec import load_spec
    from retraining_airflow.dag_factory import build_weekly
    from retraining_airflow.settings import DagSettings

    workspace = make_workspace(tmp_path / "workspace")
    asking = build_weekly(load_spec(workspace.spec_file), DagSettings(promotion_queue="promotion"))
    workspace.edit_spec({"approval": {"ask": []}})
    never = build_weekly(load_spec(workspace.spec_file), DagSettings())

    approving, promoting = asking.get_task("approve"), asking.get_task("promote")
    assert approving.upstream_task_ids == {"pin", "gate"}
    assert approving.trigger_rule == "one_failed"
    assert approving.queue == "promotion"
    assert promoting.upstream_task_ids == {"gate", "approve"}
    assert promoting.trigger_rule == "one_success"
    assert not never.has_task("approve")
    assert never.get_task("promote").trigger_rule == "all_success"
