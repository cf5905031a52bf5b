"""The tables that `make bench` prints. Aims stand beside what was measured; nothing is asserted."""

from collections.abc import Sequence

from rich.table import Table

from tests.benchmarks.dag_imports import DagImport
from tests.benchmarks.in_process import InProcess
from tests.benchmarks.peer import ScreeningAgainstPeer
from tests.benchmarks.through_airflow import ThroughAirflow, task_of


def imports_table(found: Sequence[DagImport]) -> Table:
    """Seconds of each DAG file beyond Airflow itself."""
    table = _table(
        "Import of the DAG files, seconds (median of fresh processes)",
        "file",
        *("airflow.sdk", "beyond it", "airflow.sdk CPU", "beyond it CPU", "heavy modules"),
        caption="Aim: below 0.5 s together beyond Airflow itself, and no heavy modules.",
    )
    for one in found:
        table.add_row(
            one.file,
            _seconds(one.airflow_seconds),
            _seconds(one.seconds),
            _seconds(one.airflow_cpu_seconds),
            _seconds(one.cpu_seconds),
            ", ".join(one.heavy) or "none",
        )
    return table


def steps_table(found: InProcess) -> Table:
    """Seconds and memory of each step in one process, and of the same week run again."""
    first, again = found.first, found.again
    caption = (
        f"Whole process, imports included: {first.process_seconds:.1f} s, again"
        f" {again.process_seconds:.1f} s (aim for the demo's week: below 40 s)."
    )
    if found.tensorflow_seconds is not None:
        caption += f" Of the training, `import tensorflow` alone: {found.tensorflow_seconds:.1f} s."
    table = _table(
        f"Steps in one process, {found.rows:,} rows a week",
        "step",
        *("s", "CPU s", "share", "peak MiB", "of a child", "again s", "again"),
        caption=caption,
    )
    total = sum(found.step_seconds.values())
    table.add_row(
        "(imports)",
        _seconds(first.loading_seconds),
        _seconds(first.loading_cpu_seconds),
        *("", "", ""),
        _seconds(again.loading_seconds),
    )
    for name, seconds in found.step_seconds.items():
        before, after = first.step(name), again.step(name)
        done = before or after
        assert done is not None  # for the type checker: one of the two ran it
        table.add_row(
            name,
            _seconds(seconds),
            _seconds(done.cpu_seconds),
            f"{seconds / total:.0%}",
            f"{done.peak.own:.0f}",
            f"{done.peak.child:.0f}" if done.peak.child else "",
            _seconds(after.seconds) if after else "",
            ("reused" if after.reused else after.note or "done") if after else "",
        )
    table.add_section()
    table.add_row("sum of steps", _seconds(total), *("", "", "", ""), _seconds(again.seconds))
    return table


def airflow_table(found: ThroughAirflow, in_process: InProcess) -> Table:
    """Task durations beside the same steps in one process."""
    steps = in_process.step_seconds
    total = sum(steps.values())
    n_tasks = len(found.task_seconds)
    table = _table(
        f"Through Airflow, {found.rows:,} rows a week",
        "step",
        *("in one process s", "task s", "ratio"),
        caption=f"Airflow costs {found.overhead_seconds(in_process):.2f} s per task:"
        f" ({found.wall_seconds:.1f} - {total:.1f}) s / {n_tasks} tasks. Aim: at most 2 s.",
    )
    for name, seconds in steps.items():
        task = found.task_seconds.get(task_of(name))
        table.add_row(name, _seconds(seconds), *_against(task, seconds))
    table.add_section()
    durations = sum(found.task_seconds.values())
    table.add_row("sum", _seconds(total), *_against(durations, total))
    table.add_row("wall clock of the run", "", *_against(found.wall_seconds, total))
    return table


def peer_table(found: Sequence[ScreeningAgainstPeer]) -> Table:
    """Our screening step beside a plain isolation forest."""
    table = _table(
        "Screening beside a plain isolation forest, seconds",
        "rows",
        *("our step", "fit and score", "ratio"),
        caption="Our step also fetches, parses in children for the first time, scores labels,"
        " stores and signs; scikit-learn's IsolationForest gets encoded rows.",
    )
    for one in found:
        table.add_row(f"{one.rows:,}", _seconds(one.ours), _seconds(one.peer), f"{one.ratio:.2f}")
    smallest, largest = min(found, key=_rows), max(found, key=_rows)
    if largest.rows > smallest.rows:
        ours, peer = largest.per_100_000(smallest)
        table.add_section()
        table.add_row("100,000 more", _seconds(ours), _seconds(peer), f"{ours / peer:.2f}")
    return table


def _table(title: str, first: str, *others: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _rows(found: ScreeningAgainstPeer) -> int:
    return found.rows


def _against(seconds: float | None, base: float) -> tuple[str, str]:
    if seconds is None:
        return "", ""
    return _seconds(seconds), f"{seconds / base:.2f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}"
