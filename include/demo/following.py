"""Runs a DAG under Airflow and says what happens, one line per step."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.airflow_api import FINISHED_RUN, FINISHED_TASK, AirflowApi, TaskRun
from retraining.errors import RetrainingError

STEPS = ("pin", "ingest", "provenance", "screen", "train", "validate", "gate", "promote")
_DAG_SECONDS = 120
_RUN_SECONDS = 900
_POLL_SECONDS = 0.4
_WAITS = "awaiting_input"
_NAME_WIDTH = 8  # of a week; longer names stand out

Told = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run to start.

    Attributes:
        run_id: A new name for it.
        form: What a person would enter.
        name: What its lines begin with, such as the week.
        steps: Its tasks, in the order in which they are told.
    """

    dag_id: str
    run_id: str
    form: Mapping[str, Any]
    name: str
    steps: Sequence[str] = STEPS


def wait_for_dag(api: AirflowApi, dag_id: str) -> None:
    """Wait until Airflow has parsed the DAG, and let it run.

    Raises:
        RetrainingError: It has not within two minutes; says what is wrong with the DAG files.
    """
    deadline = time.monotonic() + _DAG_SECONDS
    while not api.has_dag(dag_id):
        if time.monotonic() > deadline:
            wrong = "; ".join(api.import_errors()) or "no import error either"
            raise RetrainingError(f"Airflow did not find the DAG {dag_id}: {wrong}.")
        time.sleep(_POLL_SECONDS)
    api.unpause(dag_id)


def give_up_old_runs(api: AirflowApi, dag_id: str) -> int:
    """Fail what an interrupted demo left running; its finished steps are reused anyway."""
    stale = [run for run in api.runs(dag_id) if run["state"] not in FINISHED_RUN]
    for run in stale:
        api.fail_run(dag_id, run["dag_run_id"])
    return len(stale)


def follow(
    api: AirflowApi,
    run: Run,
    *,
    verdict: Callable[[], str | None] = lambda: None,
    told: Told,
) -> float:
    """Trigger a run and follow it to its end; return the seconds that it took.

    Args:
        run: What to start.
        verdict: What the registry says of it; None while it says nothing. A red gate is a verdict
            only if it stands there: a task can also break.
        told: Gets one line per step.

    Raises:
        RetrainingError: It did not end, or a task broke; says which, and why.
    """
    started = time.monotonic()
    api.trigger(run.dag_id, run.run_id, run.form)
    printed: set[str] = set()
    while True:
        state = api.run_state(run.dag_id, run.run_id)
        tasks = api.tasks(run.dag_id, run.run_id)
        for step in run.steps:
            of_step = [task for task in tasks if task.task_id == step]
            if step not in printed and of_step and all(t.state in FINISHED_TASK for t in of_step):
                printed.add(step)
                told(f"{run.name:<{_NAME_WIDTH}}  {step:<11} {_said(step, of_step, verdict)}")
        if state in FINISHED_RUN:
            break
        if any(task.state == _WAITS for task in tasks):
            # Nobody is there to sign it, and no other run of the model starts while it waits.
            told(f"{run.name:<{_NAME_WIDTH}}  waits for a reviewer's signature; the demo leaves it")
            api.fail_run(run.dag_id, run.run_id)
            break
        if time.monotonic() - started > _RUN_SECONDS:
            raise RetrainingError(
                f"The run of {run.name} did not end within {_RUN_SECONDS} seconds; see its page."
            )
        time.sleep(_POLL_SECONDS)
    failed = [task for task in tasks if task.state == "failed"]
    for task in failed:
        if task.task_id != "gate" or verdict() is None:
            why = api.headline(run.dag_id, run.run_id, task)
            raise RetrainingError(f"{task.task_id} of {run.name} broke: {why}")
    return time.monotonic() - started


def _said(step: str, tasks: Sequence[TaskRun], verdict: Callable[[], str | None]) -> str:
    seconds = max((task.seconds or 0.0) for task in tasks)
    states = {task.state for task in tasks}
    if "success" in states and states <= {"success", "skipped"}:
        many = f", {len(tasks)} sources" if len(tasks) > 1 else ""
        n_skipped = sum(task.state == "skipped" for task in tasks)
        return f"done in {seconds:.1f} s{many}" + (f", {n_skipped} left out" if n_skipped else "")
    if step == "gate" and states == {"failed"} and (said := verdict()):
        return f"{said} in {seconds:.1f} s: the gate is red, the champion stays"
    shown = {
        "failed": "BROKE",
        "skipped": "skipped, nothing to do",
        "upstream_failed": "not reached",
    }
    return ", ".join(sorted(shown.get(str(state), str(state)) for state in states))
