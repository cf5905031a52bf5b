"""The benchmark works, on a few hundred rows and with the NumPy trainer; no time is judged."""

import io

import pytest
from rich.console import Console

from tests.benchmarks.in_process import InProcess, measure_in_process
from tests.benchmarks.peer import measure_peer
from tests.benchmarks.tables import peer_table, steps_table
from tests.benchmarks.workload import (
    SOURCES,
    Workload,
    add_workload,
    make_bench_workspace,
    make_week,
)
from tests.fixtures.workspace import make_workspace

pytestmark = pytest.mark.slow

ROWS = 600
PER_SOURCE = [f"{step} {source}" for source in SOURCES for step in ("ingest", "provenance")]
DONE_ONCE = [*PER_SOURCE, "screening", "training", "validation"]
STEPS = ["pin", *DONE_ONCE, "purge 1", "gate", "promotion"]
SAID = {"purge 1", "gate"}  # that a clean challenger is not purged, and the verdict


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("bench")
    numpy_trainer = make_workspace(folder / "other").settings.trainer_python
    workspace = make_bench_workspace(folder / "workspace", trainer_python=numpy_trainer)
    return add_workload(workspace, ROWS, linear=True)


@pytest.fixture(scope="module")
def measured(workload: Workload) -> InProcess:
    return measure_in_process(workload, tensorflow=False)


def shown(table: object) -> str:
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_the_table_has_every_step_with_seconds_and_memory(measured: InProcess) -> None:
    text = shown(steps_table(measured))

    assert list(measured.step_seconds) == STEPS
    assert [name for name in STEPS if name not in text] == []
    for step in (*measured.first.steps, *measured.again.steps):
        assert step.seconds > 0 and step.cpu_seconds >= 0 and step.peak.own > 50, step
    # The first parse and the trainer are processes of their own.
    with_child = {step.name for step in measured.first.steps if step.peak.child > 10}
    assert {"screening", "training"} <= with_child


def test_the_same_week_run_again_does_no_work_twice(measured: InProcess) -> None:
    reused = {step.name for step in measured.again.steps if step.reused}

    assert reused == set(DONE_ONCE)
    assert not any(step.reused for step in measured.first.steps)
    assert not [step.note for step in measured.first.steps if step.name not in SAID and step.note]


def test_rows_are_as_many_as_asked_for_and_no_two_are_the_same(workload: Workload) -> None:
    week = make_week(workload.workspace, ROWS)

    assert sum(len(rows) for rows in week.values()) == ROWS
    for rows in week.values():
        assert not rows.drop(columns="mail_id").duplicated().any()
        assert rows["mail_id"].is_unique


def test_screening_stands_beside_a_plain_isolation_forest(
    workload: Workload, measured: InProcess
) -> None:
    found = measure_peer(workload, measured)

    assert found.ours > 0 and found.peer > 0
    assert f"{found.ratio:.2f}" in shown(peer_table([found]))
