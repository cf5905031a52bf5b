"""How operators translate: what a step raises becomes a colour, and what travels is checked."""

from types import SimpleNamespace
from typing import Any

import pytest

from retraining.digests import Digest
from retraining.errors import (
    ArtifactTamperedError,
    ConfigError,
    EvidenceError,
    NothingToDo,
    RetrainingError,
    StoreUnreachableError,
)
from tests.fixtures.workspace import Workspace

pytestmark = pytest.mark.airflow

ONE, TWO, THREE = (str(Digest.of(text)) for text in (b"1", b"2", b"3"))


def execute(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: Any, user: Any = None
) -> Any:
    """Execute an operator whose step is `step(steps)`, as a task of that user's run."""
    from retraining_airflow.operators import RetrainingOperator

    class StepOperator(RetrainingOperator):
        def run_step(self, steps: Any, context: Any) -> str:
            return str(step(steps))

    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    run = SimpleNamespace(triggering_user_name=user)
    return StepOperator(task_id="step").execute({"run_id": "manual__1", "dag_run": run})


def raising(error: BaseException) -> Any:
    def step(_steps: Any) -> str:
        try:
            raise KeyError("what lies beneath")
        except KeyError as beneath:
            raise error from beneath

    return step


@pytest.mark.parametrize("error", [ArtifactTamperedError, ConfigError, EvidenceError])
def test_what_cannot_be_mended_by_trying_again_fails_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: type[RetrainingError]
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=r"^one sentence$") as caught:
        execute(workspace, monkeypatch, raising(error("one sentence")))

    # The log view shows the cause of an exception before the exception itself.
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None


def test_what_trying_again_can_mend_is_left_to_the_retries(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnreachableError, match="one sentence") as caught:
        execute(workspace, monkeypatch, raising(StoreUnreachableError("one sentence")))

    assert caught.value.__suppress_context__ and caught.value.__cause__ is None


def test_nothing_to_do_is_skipped(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="one sentence"):
        execute(workspace, monkeypatch, raising(NothingToDo("one sentence")))


def test_a_fault_of_ours_keeps_its_traceback(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        execute(workspace, monkeypatch, raising(ZeroDivisionError("a bug")))

    assert isinstance(caught.value.__cause__, KeyError)


def test_a_task_that_is_told_to_stop_leaves_its_step_so_that_finally_runs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from retraining_airflow.operators import RetrainingOperator

    ended = []

    class StoppedOperator(RetrainingOperator):
        def run_step(self, steps: Any, context: Any) -> str:
            try:
                self.on_kill()  # what Airflow calls when a signal says so
            finally:
                ended.append("child")
            return ""

    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    operator = StoppedOperator(task_id="step")
    with pytest.raises(AirflowException, match="told to stop") as caught:
        operator.execute({"run_id": "r", "dag_run": SimpleNamespace(triggering_user_name=None)})

    assert ended == ["child"]
    # A worker that was shut down is no reason to give up: this may be tried again.
    assert not isinstance(caught.value, AirflowFailException)
    operator.on_kill()  # after the step, as on a timeout: nothing is left to leave


@pytest.mark.parametrize(("user", "recorded"), [("anna", "anna"), (None, "scheduler")])
def test_records_name_the_run_and_who_asked_for_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, user: str | None, recorded: str
) -> None:
    def pin(steps: Any) -> str:
        result = steps.pin(workspace.model, "2026-W05", reason="a test")
        return str(result.attestation.digest)

    digest = Digest(execute(workspace, monkeypatch, pin, user))

    text = workspace.steps().store.read(f"attestations/{digest.hex}.dsse.json")
    payload = payload_of(text)
    assert payload["predicate"]["runDetails"]["metadata"]["invocationId"] == "manual__1"
    external = payload["predicate"]["buildDefinition"]["externalParameters"]
    assert external["requestedBy"] == recorded


def payload_of(envelope: bytes) -> Any:
    """The statement in an envelope."""
    import base64
    import json

    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


# --- what travels between tasks -------------------------------------------------------------


@pytest.mark.parametrize(
    "found", [ONE, f"{ONE},{TWO}", [ONE, TWO], [f"{ONE},{TWO}", THREE], [ONE, None]]
)
def test_digests_are_read_from_one_task_and_from_mapped_ones(found: Any) -> None:
    from retraining_airflow.xcom import parse_digests

    joined = found if isinstance(found, str) else ",".join(text for text in found if text)
    assert parse_digests("ingest", found) == [Digest(text) for text in joined.split(",")]


@pytest.mark.parametrize("found", [None, "", [], [None], ()])
def test_a_missing_record_is_named_with_what_to_do(found: Any) -> None:
    from retraining_airflow.xcom import parse_digests

    with pytest.raises(EvidenceError, match=r"No record of screen arrived.*clear that task"):
        parse_digests("screen", found)


@pytest.mark.parametrize(
    "found", ["PROMOTE", f"{ONE};{TWO}", {"a": 1}, 5, True, [["x"]], f"{ONE}\n"]
)
def test_what_is_no_digest_is_refused(found: Any) -> None:
    from retraining_airflow.xcom import parse_digests

    with pytest.raises(EvidenceError):
        parse_digests("gate", found)


def test_one_record_is_not_two() -> None:
    from retraining_airflow.xcom import one_digest

    with pytest.raises(EvidenceError, match="Expected one record of gate, found 2"):
        one_digest("gate", f"{ONE},{TWO}")


def test_messages_are_broken_into_lines_that_the_log_view_shows_whole() -> None:
    from retraining_airflow.operators.base import shown_in_log

    text = f"HOLD: {'some words ' * 30}; full report: retraining show {ONE}"

    lines = shown_in_log(text).splitlines()

    assert max(map(len, lines)) <= 88
    assert " ".join(lines) == " ".join(text.split())
    assert ONE in lines[-1]  # whole, so that it can be copied
