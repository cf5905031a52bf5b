"""What `make bench` runs: seconds and memory of each step, with and without Airflow, in one run.

It prints ratios, because seconds of another machine, or of a busy one, say little. It fails when
something does not work, never because something is slow.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[0] = str(REPOSITORY)  # started as a file, and `tests` is not installed

from rich.console import Console  # noqa: E402

from tests.benchmarks.dag_imports import measure_dag_imports  # noqa: E402
from tests.benchmarks.in_process import InProcess, measure_in_process  # noqa: E402
from tests.benchmarks.peer import measure_peer  # noqa: E402
from tests.benchmarks.tables import (  # noqa: E402
    airflow_table,
    imports_table,
    peer_table,
    steps_table,
)
from tests.benchmarks.through_airflow import ThroughAirflow, measure_through_airflow  # noqa: E402
from tests.benchmarks.workload import add_workload, make_bench_workspace  # noqa: E402
from tests.fixtures.airflow_server import running_airflow  # noqa: E402

_ROWS = (4_000, 100_000)
_LOG_COLUMNS = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON where asked."""
    asked = _parse(arguments)
    # A log has no width of its own, and 80 columns would cut the tables.
    console = Console(width=None if sys.stdout.isatty() else _LOG_COLUMNS)
    progress = Console(stderr=True)
    machine = _machine()
    console.print(
        f"{machine['processors']} processors, load {machine['load']:.1f} before the start:"
        " other work on this machine makes every number larger."
    )
    with tempfile.TemporaryDirectory(prefix="retraining-bench-") as folder:
        found = _measure(Path(folder), asked, console, progress)
    if asked.out:
        text = json.dumps({"machine": machine, **found}, indent=1)
        asked.out.write_text(text + "\n", encoding="utf-8")


def _measure(
    folder: Path, asked: argparse.Namespace, console: Console, progress: Console
) -> dict[str, Any]:
    imports = measure_dag_imports(folder / "airflow-imports")
    console.print(imports_table(imports))

    workspace = make_bench_workspace(folder / "in-process")
    weeks: list[InProcess] = []
    peers = []
    for rows in asked.rows:
        workload = add_workload(workspace, rows)
        weeks.append(measure_in_process(workload, told=progress.print))
        console.print(steps_table(weeks[-1]))
        peers.append(measure_peer(workload, weeks[-1]))
    console.print(peer_table(peers))

    through = [] if asked.skip_airflow else _through_airflow(folder, asked.rows, progress)
    for one, week in zip(through, weeks, strict=False):
        console.print(airflow_table(one, week))
    return {
        "imports": [asdict(one) for one in imports],
        "in_process": [asdict(one) for one in weeks],
        "screening_against_peer": [asdict(one) for one in peers],
        "through_airflow": [
            {**asdict(one), "overhead_seconds_per_task": one.overhead_seconds(week)}
            for one, week in zip(through, weeks, strict=False)
        ],
    }


def _through_airflow(folder: Path, rows: Sequence[int], progress: Console) -> list[ThroughAirflow]:
    """In a workspace of its own: the other one has done all of it, and would be asked for it."""
    workspace = make_bench_workspace(folder / "through-airflow")
    workloads = [add_workload(workspace, number) for number in rows]
    progress.print("Starting Airflow")
    with running_airflow(folder / "airflow", workspace) as server:
        return [measure_through_airflow(server, one, told=progress.print) for one in workloads]


def _machine() -> dict[str, Any]:
    return {
        "processors": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=list(_ROWS), help="rows a week (%(default)s)"
    )
    parser.add_argument("--skip-airflow", action="store_true", help="only in one process")
    parser.add_argument("--out", type=Path, help="write all numbers here, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
