"""The real thing: a scheduler, workers and the REST API, and what a person at the pages sees."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retraining.chains import charges_of, ledger_chain
from retraining.records import LedgerCharge
from tests.fixtures.airflow_server import NOT_NEEDED, AirflowServer, eventually
from tests.fixtures.workspace import WEEKS, Workspace, flip_labels

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

FIRST, SECOND, *_ = WEEKS
CHECKER = "check_pipeline_files.py"


@pytest.fixture(autouse=True)
def trainers_go_on(airflow_server: AirflowServer) -> Iterator[None]:
    """Every model of the server has the same trainer: whoever made it wait lets it go on."""
    yield
    airflow_server.workspace.trainer_hold.unlink(missing_ok=True)


def dag_of(workspace: Workspace) -> str:
    return f"secure_retraining__{workspace.model}"


def test_a_week_is_promoted_and_a_poisoned_one_ends_in_a_red_gate_that_says_why(
    airflow_server: AirflowServer,
) -> None:
    workspace = airflow_server.workspace.add_model("weekly_filter", weeks=[FIRST])
    workspace.deliver(SECOND, ["gateway"], change=flip_labels("spam", "ham", share=0.6))
    workspace.deliver(SECOND, ["feed"])
    dag_id = dag_of(workspace)
    airflow_server.wait_for_dag(dag_id)

    run_id, state = airflow_server.run_week(dag_id, FIRST)

    states = airflow_server.states(dag_id, run_id)
    # Nobody has to be asked, and nothing has to be taken out.
    assert {states.pop(name) for name in NOT_NEEDED} == {"skipped"}
    assert (state, set(states.values())) == ("success", {"success"})
    assert {"ingest[gateway]", "provenance[feed]"} <= set(states)
    (entry,) = workspace.registry()
    lines = [line["event"] for line in airflow_server.log(dag_id, run_id, "gate")]
    assert any(entry.decision.hex[:16] in line for line in lines)
    (event,) = champion_events(airflow_server, workspace)
    assert event["extra"]["version"] == 1
    assert event["extra"]["model"] == entry.champion

    run_id, state = airflow_server.run_week(dag_id, SECOND)

    gate = airflow_server.tasks(dag_id, run_id)["gate"]
    assert (state, gate["state"], gate["try_number"]) == ("failed", "failed", 1)
    headline = airflow_server.headline(dag_id, run_id, "gate")
    assert headline.startswith(f"GateRefused: HOLD: weekly_filter {SECOND} was not promoted")
    assert "gateway" in headline
    assert "next: " in headline
    decision = workspace.registry()[-1].decision.hex[:16]
    assert f"full report: {airflow_server.url}/retraining/gate/{decision}" in headline
    states = airflow_server.states(dag_id, run_id)
    assert (states["approve"], states["promote"]) == ("skipped", "upstream_failed")
    assert len(champion_events(airflow_server, workspace)) == 1


def test_a_mistake_in_a_pipeline_file_is_an_import_error_and_stops_no_other_model(
    airflow_server: AirflowServer,
) -> None:
    good = airflow_server.workspace.add_model("careful_filter")
    wrong = airflow_server.workspace.add_model("misspelt_filter")
    for workspace in (good, wrong):
        airflow_server.wait_for_dag(dag_of(workspace))
    correct = wrong.spec_file.read_text()

    def errors() -> dict[str, str]:
        found = airflow_server.get("importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in found}

    wrong.edit_spec({"gate": {"margn": 0.1}})
    try:
        eventually(lambda: CHECKER in errors(), seconds=90)
        message = errors()[CHECKER]
        assert str(wrong.spec_file) in message
        assert "gate.margn: no such field here" in message
        assert list(errors()) == [CHECKER]
        # Parsed again with the mistake in place, the good model still starts.
        parsed = airflow_server.get(f"dags/{dag_of(good)}")["last_parsed_time"]
        eventually(
            lambda: airflow_server.get(f"dags/{dag_of(good)}")["last_parsed_time"] > parsed,
            seconds=90,
        )
        airflow_server.trigger(dag_of(good), week="2020-W01", leave_out=["gateway", "feed"])
    finally:
        wrong.spec_file.write_text(correct)
    eventually(lambda: CHECKER not in errors(), seconds=90)


def test_a_training_task_that_is_killed_leaves_no_trainer_and_is_charged_again(
    airflow_server: AirflowServer,
) -> None:
    workspace = airflow_server.workspace.add_model("killed_filter", weeks=[FIRST])
    dag_id = dag_of(workspace)
    airflow_server.wait_for_dag(dag_id)
    with_trainer_waiting(workspace)
    run_id = airflow_server.trigger(dag_id, week=FIRST)
    trainer = started_trainer(workspace)

    os.kill(parent_of(trainer), signal.SIGKILL)

    eventually(lambda: not alive(trainer), seconds=5)
    workspace.trainer_hold.unlink()
    assert airflow_server.wait_for_run(dag_id, run_id) == "success"
    assert airflow_server.tasks(dag_id, run_id)["train"]["try_number"] == 2
    first, second = ledger(workspace)
    assert (first.request, first.attempt, second.attempt) == (second.request, 1, 2)
    (entry,) = workspace.registry()
    assert (entry.verdict, entry.version) == ("PROMOTE", 1)
    lines = [line["event"] for line in airflow_server.log(dag_id, run_id, "train", attempt=2)]
    assert any("Attempt 2 of this training" in line for line in lines)
    assert any(line.startswith("trainer: step") for line in lines)


def test_a_training_task_that_is_marked_by_hand_ends_its_trainer_and_removes_its_rows(
    airflow_server: AirflowServer,
) -> None:
    workspace = airflow_server.workspace.add_model("marked_filter", weeks=[FIRST])
    dag_id = dag_of(workspace)
    airflow_server.wait_for_dag(dag_id)
    with_trainer_waiting(workspace)
    run_id = airflow_server.trigger(dag_id, week=FIRST)
    trainer = started_trainer(workspace)
    folder = Path(f"/proc/{trainer}/cwd").resolve()
    assert (folder / "features.npy").exists()

    airflow_server.mark(dag_id, run_id, "train", "failed")

    eventually(lambda: not alive(trainer), seconds=30)
    eventually(lambda: not folder.exists(), seconds=5)
    assert airflow_server.wait_for_run(dag_id, run_id) == "failed"
    assert airflow_server.states(dag_id, run_id)["gate"] == "upstream_failed"
    assert workspace.registry() == []


def champion_events(server: AirflowServer, workspace: Workspace) -> list[dict]:
    """What DAGs that wait for this model's champion were told."""
    found = server.get("assets/events", source_dag_id=dag_of(workspace))
    return list(found["asset_events"])


def with_trainer_waiting(workspace: Workspace) -> None:
    """Make the next trainer wait for as long as `trainer_hold` exists."""
    workspace.trainer_pid_file.unlink(missing_ok=True)
    workspace.trainer_hold.touch()


def started_trainer(workspace: Workspace) -> int:
    """The process id of a trainer that has been started, and waits."""

    def pid() -> int:
        return int(workspace.trainer_pid_file.read_text() or 0)

    eventually(workspace.trainer_pid_file.exists, seconds=180)
    found = eventually(pid, seconds=5)
    time.sleep(0.5)  # so that it has read its files, and waits
    assert alive(found)
    return found


def parent_of(pid: int) -> int:
    """The task's own process: the trainer's parent."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has reaped yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def ledger(workspace: Workspace) -> list[LedgerCharge]:
    """Every start of a training on record."""
    steps = workspace.steps()
    return charges_of(ledger_chain(steps.store, steps.trust, workspace.model).load())
