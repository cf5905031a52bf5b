"""The steps of a week in one process: seconds and memory of each, and what a second run redoes."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from retraining.children import allow_listed_env
from retraining.settings import REPOSITORY
from tests.benchmarks.memory import MemorySampler, Peak
from tests.benchmarks.one_week import LOADING
from tests.benchmarks.workload import WEEK, Workload

Told = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class MeasuredStep:
    """One step of one run.

    Attributes:
        seconds: Wall clock.
        cpu_seconds: The same on a busy machine; with its child processes.
        note: Why it did nothing or refused; the gate's verdict.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak: Peak
    reused: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """One process that ran the week.

    Attributes:
        loading_seconds, loading_cpu_seconds: Imports, before the first step.
        process_seconds: From start to end of the process.
    """

    loading_seconds: float
    loading_cpu_seconds: float
    process_seconds: float
    steps: tuple[MeasuredStep, ...]

    @property
    def seconds(self) -> float:
        """Sum of the steps."""
        return sum(step.seconds for step in self.steps)

    def step(self, name: str) -> MeasuredStep | None:
        """The step of that name, if it ran."""
        return next((step for step in self.steps if step.name == name), None)


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """A workload, run twice.

    Attributes:
        first: A dry run: everything but promotion.
        again: The same week for good: promotion is new, the rest need not be done twice.
        tensorflow_seconds: Python with `import tensorflow` and nothing else, in the trainer's
            environment; None with another trainer.
    """

    rows: int
    first: MeasuredRun
    again: MeasuredRun
    tensorflow_seconds: float | None

    @property
    def step_seconds(self) -> dict[str, float]:
        """Each step when it was done: the first run's, and the promotion of the second."""
        done = {step.name: step.seconds for step in self.first.steps}
        return done | {s.name: s.seconds for s in self.again.steps if s.name not in done}


def measure_in_process(
    workload: Workload, *, tensorflow: bool = True, told: Told = print
) -> InProcess:
    """Run a workload's week twice, each time in a fresh process.

    Args:
        tensorflow: Whether the trainer is the real one, whose start-up is measured apart.
        told: Gets one line per finished step.
    """
    first = _run(workload, told, dry_run=True)
    again = _run(workload, told, dry_run=False)
    python = workload.workspace.settings.trainer_python
    return InProcess(
        rows=workload.rows,
        first=first,
        again=again,
        tensorflow_seconds=_tensorflow_seconds(python) if tensorflow else None,
    )


def _run(workload: Workload, told: Told, *, dry_run: bool) -> MeasuredRun:
    command = [sys.executable, "-m", "tests.benchmarks.one_week", workload.model, WEEK]
    command += ["--dry-run"] if dry_run else []
    steps: list[MeasuredStep] = []
    loading, loading_cpu, started = 0.0, 0.0, time.monotonic()
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | workload.workspace.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
        MemorySampler(process.pid) as memory,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            begun, ended = said.pop("started"), said.pop("ended")
            told(f"{workload.rows:,} rows  {said['name']:<28} {ended - begun:8.2f} s")
            if said["name"] == LOADING:
                loading, loading_cpu = ended - begun, said["cpu_seconds"]
            else:
                peak = memory.peak(begun, ended)
                steps.append(MeasuredStep(seconds=ended - begun, peak=peak, **said))
        if process.wait() != 0:
            log.seek(0)
            raise RuntimeError(f"The week broke:\n{log.read().decode()[-3000:]}")
    return MeasuredRun(
        loading_seconds=loading,
        loading_cpu_seconds=loading_cpu,
        process_seconds=time.monotonic() - started,
        steps=tuple(steps),
    )


def _tensorflow_seconds(python: Path) -> float:
    started = time.monotonic()
    subprocess.run(
        [python, "-P", "-s", "-c", "import tensorflow"],
        env=allow_listed_env(),
        check=True,
        capture_output=True,
    )
    return time.monotonic() - started
