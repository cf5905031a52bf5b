"""Rows in files, read in parts: the same as in memory, and every row is judged."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retraining.screening.engine import Effort, Judgement, judge_rows
from retraining.screening.rows import PART_ROWS, Rows, RowTable, rows_at
from retraining.screening.stored import RowFile, StoredTable
from tests.retraining.screening_engine.real_rows import HAM, mail_trigger, mails, poisoned

_WEEK = mails(0)


def _file(path: Path, rows: Rows, *, group: int) -> RowFile:
    frame = pd.DataFrame(rows.features, columns=[f"f{n}" for n in range(rows.features.shape[1])])
    frame = frame.assign(label=rows.labels, source=rows.sources, week=rows.weeks, user=rows.users)
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=group)
    return RowFile(path)


def _read(batch: pa.RecordBatch) -> Rows:
    frame = batch.to_pandas()
    return Rows(
        frame.filter(regex=r"^f\d").to_numpy(dtype=np.float32),
        *(frame[name].to_numpy() for name in ("label", "source", "week", "user")),
    )


def _table(folder: Path, rows: Rows, *sizes: int, group: int = 400) -> StoredTable:
    """The rows in files of these sizes, row groups of 400."""
    ends = np.cumsum([0, *sizes])
    assert ends[-1] == len(rows)
    return StoredTable(
        [
            (_file(folder / f"{n}.parquet", rows.take(slice(start, end)), group=group), _read)
            for n, (start, end) in enumerate(itertools.pairwise(ends))
        ]
    )


def _judged(table: RowTable, sample_rows: int, *, only_sample: bool = False) -> Judgement:
    return judge_rows(
        table,
        _WEEK.trusted,
        columns=_WEEK.columns,
        n_classes=2,
        false_discovery_rate=0.1,
        effort=Effort(sample_rows=sample_rows, only_sample=only_sample),
    )


def _with_trigger() -> tuple[Rows, np.ndarray]:
    return poisoned(_WEEK, _WEEK.batch, mail_trigger(_WEEK), HAM, 60)


@pytest.mark.slow
def test_files_are_judged_as_the_same_rows_in_memory(tmp_path):
    rows, _ = _with_trigger()
    in_memory = _judged(rows, 600)
    stored = _judged(_table(tmp_path, rows, 900, 600), 600)
    assert np.array_equal(in_memory.order, stored.order)
    assert np.array_equal(in_memory.purged, stored.purged)
    assert in_memory.findings[0].label == stored.findings[0].label


def test_rows_beyond_the_sample_are_held_too():
    rows, carriers = _with_trigger()
    found = _judged(rows, 600)
    beyond = np.setdiff1d(carriers, found.judge.sampled)
    assert len(beyond) > 20
    assert np.isin(beyond, found.odd.places[found.held]).mean() >= 0.6
    assert np.isin(beyond, np.concatenate(found.carriers)).mean() >= 0.9


def test_a_look_at_the_sample_alone_still_finds_all_carriers():
    rows, carriers = _with_trigger()
    found = _judged(rows, 600, only_sample=True)
    assert set(found.odd.places) <= set(found.judge.sampled)
    assert np.isin(carriers, np.concatenate(found.carriers)).mean() >= 0.9


@pytest.mark.slow
def test_answers_from_elsewhere_are_taken():
    rows, _ = _with_trigger()
    here = _judged(rows, 600)
    part = replace(here.judge.ask(*next(rows.parts())), evidence=np.zeros(len(here.odd.places)))
    there = judge_rows(
        rows,
        _WEEK.trusted,
        columns=_WEEK.columns,
        n_classes=2,
        false_discovery_rate=0.1,
        effort=Effort(sample_rows=600),
        answered={0: part},
    )
    assert not there.held.any() and here.held.any()


# --- files ----------------------------------------------------------------------------------


@pytest.fixture
def numbers(tmp_path: Path) -> Callable[..., RowFile]:
    """Writes a file whose column n counts from 0."""

    def make(n_rows: int, group: int) -> RowFile:
        pq.write_table(pa.table({"n": range(n_rows)}), tmp_path / "n.parquet", row_group_size=group)
        return RowFile(tmp_path / "n.parquet")

    return make


def _values(batches: Iterator[tuple[slice, pa.RecordBatch]]) -> list[int]:
    return [value for _, batch in batches for value in batch["n"].to_pylist()]


def test_a_part_is_bounded_whatever_the_row_group(numbers):
    file = numbers(2 * PART_ROWS + 5, group=10 * PART_ROWS)
    sizes = [batch.num_rows for _, batch in file.batches()]
    assert sizes == [PART_ROWS, PART_ROWS, 5]


def test_a_file_or_some_of_its_rows_are_read_in_order(numbers, tmp_path):
    file = numbers(100, group=30)
    assert _values(file.batches()) == list(range(100))
    some = file.without(np.arange(100) % 3 > 0).without(np.arange(34) < 2)
    expected = list(range(6, 100, 3))
    assert len(some) == 32 and list(some.column("n")) == expected == _values(some.batches())
    assert [(p.start, p.stop) for p, _ in some.batches()] == [(0, 8), (8, 18), (18, 28), (28, 32)]
    assert list(some.frame_at(np.array([1, 31]))["n"]) == [9, 99]
    some.write(tmp_path / "copy.parquet")
    assert list(RowFile(tmp_path / "copy.parquet").column("n")) == expected
    wanted = np.arange(32) == 20
    assert _values(some.batches(wanted)) == expected[18:28]


def test_rows_are_taken_in_the_order_asked_for(tmp_path):
    rows = _WEEK.batch.take(slice(700))
    places = np.random.RandomState(0).permutation(700)[:90]
    for table in (rows, _table(tmp_path, rows, 500, 200, group=100)):
        assert np.array_equal(rows_at(table, places).features, rows.features[places])
    with pytest.raises(ValueError, match="none of these rows"):
        rows_at(rows, np.zeros(0, dtype=np.int64))
