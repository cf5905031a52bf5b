"""The same week through a real Airflow: what a task costs beyond the step that it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.benchmarks.in_process import InProcess
from tests.benchmarks.workload import WEEK, Workload
from tests.fixtures.airflow_server import AirflowServer

_RUN_SECONDS = 3600
_STEPS = {"screening": "screen", "training": "train", "validation": "validate"}
_STEPS |= {"promotion": "promote"}


@dataclass(frozen=True, kw_only=True)
class ThroughAirflow:
    """One run, as Airflow's REST API reports it.

    Attributes:
        task_seconds: Task name to its duration; `ingest[mail_gateway_a]` for that of a source.
        wall_seconds: From the trigger to the end of the run.
    """

    rows: int
    task_seconds: dict[str, float]
    wall_seconds: float

    def overhead_seconds(self, in_process: InProcess) -> float:
        """What Airflow costs per task: (wall clock - steps in one process) / tasks.

        Counted against Airflow: every task imports the steps anew. Counted for it: tasks of
        several sources run side by side.
        """
        steps = sum(in_process.step_seconds.values())
        return (self.wall_seconds - steps) / len(self.task_seconds)


def measure_through_airflow(
    server: AirflowServer, workload: Workload, *, told: Callable[[str], None] = print
) -> ThroughAirflow:
    """Run the workload's week; nothing of it may have been run in this workspace before.

    Raises:
        RuntimeError: The run did not end in success.
    """
    dag_id = f"secure_retraining__{workload.model}"
    server.wait_for_dag(dag_id)
    run_id = server.trigger(dag_id, week=WEEK)
    state = server.wait_for_run(dag_id, run_id, seconds=_RUN_SECONDS)
    tasks = server.tasks(dag_id, run_id)
    if state != "success":
        failed = [task["task_id"] for task in tasks.values() if task["state"] == "failed"]
        said = [f"{task_id}: {server.headline(dag_id, run_id, task_id)}" for task_id in failed]
        raise RuntimeError(f"The run through Airflow is {state}. {' '.join(said)}")
    run = server.get(f"dags/{dag_id}/dagRuns/{run_id}")
    wall = (_moment(run["end_date"]) - _moment(run["queued_at"])).total_seconds()
    told(f"{workload.rows:,} rows  through Airflow: {wall:.1f} s")
    return ThroughAirflow(
        rows=workload.rows,
        task_seconds={name: float(task["duration"] or 0) for name, task in tasks.items()},
        wall_seconds=wall,
    )


def task_of(step: str) -> str:
    """Airflow's name of a step: `ingest mail_gateway_a` is the task `ingest[mail_gateway_a]`."""
    name, _, source = step.partition(" ")
    return f"{name}[{source}]" if source else _STEPS.get(name, name)


def _moment(written: Any) -> datetime:
    return datetime.fromisoformat(str(written))
