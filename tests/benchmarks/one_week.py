"""One week in a process of its own, as `retraining run` does it; says when each step ran.

Usage: python -m tests.benchmarks.one_week MODEL WEEK [--dry-run]

One JSON object per step on stdout: name, start and end on the machine's monotonic clock (so that
whoever started this process can tell what it saw when), CPU seconds, whether it was reused, and a
note where there is something to say. The run's own log goes to stderr. RETRAINING_HOME names the
workspace.
"""

import json
import os
import sys
import time
from typing import Any

LOADING = "loading"  # not a step: what Python needs to import them


def main(model: str, week: str, *, dry_run: bool) -> None:
    """Run the week."""
    started = time.monotonic()
    from retraining.errors import NothingToDo
    from retraining.settings import Settings
    from retraining.steps import open_step_runner
    from retraining.weekly import run_week

    clock = _CpuClock()
    _tell(LOADING, started, clock.lap())

    def on_step(name: str, result: Any, seconds: float) -> None:
        _tell(
            name,
            time.monotonic() - seconds,
            clock.lap(),
            reused=_reused(result),
            note=_note(result, NothingToDo),
        )

    steps = open_step_runner(
        Settings.load(),
        run_id="bench",
        requested_by="bench",
        log=lambda line: print(line, file=sys.stderr, flush=True),
    )
    run_week(steps, model, week, dry_run=dry_run, reason="benchmark", on_step=on_step)


class _CpuClock:
    """CPU seconds of this process and of the children that it has waited for."""

    def __init__(self) -> None:
        self._before = 0.0

    def lap(self) -> float:
        """Since the last call."""
        now = sum(os.times()[:4])  # user and system, ours and the children's
        passed, self._before = now - self._before, now
        return passed


def _tell(name: str, started: float, cpu: float, *, reused: bool = False, note: str = "") -> None:
    said = {"name": name, "started": started, "ended": time.monotonic(), "cpu_seconds": cpu}
    print(json.dumps({**said, "reused": reused, "note": note}), flush=True)


def _reused(result: Any) -> bool:
    results = result if isinstance(result, list) else [result]
    return all(getattr(one, "reused", False) for one in results)


def _note(result: Any, skipped: type[Exception]) -> str:
    """Why a step did nothing or refused, and what the gate said."""
    if isinstance(result, skipped):
        return str(result)
    results = result if isinstance(result, list) else [result]
    reports = [one.report for one in results if hasattr(one, "report")]
    refusals = [report.refusal.sentence for report in reports if getattr(report, "refusal", None)]
    verdicts = [report.verdict for report in reports if hasattr(report, "verdict")]
    return " ".join(refusals + verdicts)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], dry_run="--dry-run" in sys.argv[3:])
