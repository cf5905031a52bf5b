"""Rows that lie in Parquet files, read in parts: a week may be larger than memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from retraining.screening.rows import PART_ROWS, Integers, Mask, Rows

_BUFFER = 1 << 18  # bytes of a column that are read ahead, instead of all of a row group's


@dataclass(frozen=True)
class RowFile:
    """A Parquet file, or some of its rows.

    Attributes:
        kept: Which rows of the file are meant; None for all.
    """

    path: Path
    kept: Mask | None = None

    def __len__(self) -> int:
        return self.n_rows if self.kept is None else int(self.kept.sum())

    @property
    def n_rows(self) -> int:
        """Rows of the file, whether they are meant or not."""
        return int(pq.read_metadata(self.path).num_rows)

    def without(self, dropped: Mask) -> "RowFile":
        """The same file without some of the rows that are meant [len(self)]."""
        kept = np.ones(self.n_rows, dtype=bool) if self.kept is None else self.kept.copy()
        kept[np.flatnonzero(kept)[dropped]] = False
        return replace(self, kept=kept)

    def column(self, name: str) -> "pd.Series[Any]":
        """One column of all rows that are meant."""
        return self.frame([name])[name]

    def values(self, name: str) -> "npt.NDArray[Any]":
        """The same as an array."""
        return self.column(name).to_numpy()

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows that are meant, in memory."""
        table = pq.read_table(self.path, columns=None if columns is None else list(columns))
        if self.kept is not None:
            table = table.filter(pa.array(self.kept))
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def batches(
        self, wanted: Mask | None = None, *, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[slice, pa.RecordBatch]]:
        """Rows that are meant, at most `PART_ROWS` at a time, and where they stand among them.

        Args:
            wanted: Parts without any such row [len(self)] are passed over.
            columns: That are read; all of them without it.
        """
        file = pq.ParquetFile(self.path, buffer_size=_BUFFER)
        row = place = 0
        for group in range(file.num_row_groups):
            n_rows = file.metadata.row_group(group).num_rows
            n_kept = self._n_kept(row, row + n_rows)
            if wanted is None or wanted[place : place + n_kept].any():
                parts = file.iter_batches(PART_ROWS, row_groups=[group], columns=columns)
                yield from self._parts_of(parts, row, place, wanted)
            row, place = row + n_rows, place + n_kept

    def frame_at(self, places: Integers) -> pd.DataFrame:
        """Some of the rows that are meant, in the order of the file."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[places] = True
        parts = [batch.filter(pa.array(wanted[part])) for part, batch in self.batches(wanted)]
        schema = pq.read_schema(self.path)
        frame: pd.DataFrame = pa.Table.from_batches(parts, schema=schema).to_pandas()
        return frame

    def write(self, path: Path) -> None:
        """Copy the rows that are meant to another file."""
        schema = pq.read_schema(self.path).remove_metadata()
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for _, batch in self.batches():
                writer.write_batch(batch.replace_schema_metadata(None))

    def _parts_of(
        self, parts: Iterator[pa.RecordBatch], row: int, place: int, wanted: Mask | None
    ) -> Iterator[tuple[slice, pa.RecordBatch]]:
        for batch in parts:
            end = row + batch.num_rows
            part = slice(place, place + self._n_kept(row, end))
            if part.stop > part.start and (wanted is None or wanted[part].any()):
                kept = batch if self.kept is None else batch.filter(pa.array(self.kept[row:end]))
                yield part, kept
            row, place = end, part.stop

    def _n_kept(self, start: int, stop: int) -> int:
        return stop - start if self.kept is None else int(self.kept[start:stop].sum())


@dataclass(frozen=True)
class StoredTable:
    """The rows of several files, one after the other: a `RowTable`.

    Attributes:
        files: Each with what makes rows of its batches.
    """

    files: Sequence[tuple[RowFile, Callable[[pa.RecordBatch], Rows]]]

    def __len__(self) -> int:
        return sum(len(file) for file, _ in self.files)

    def parts(self, wanted: Mask | None = None) -> Iterator[tuple[Integers, Rows]]:
        """As every `RowTable`."""
        start = 0
        for file, read in self.files:
            mine = None if wanted is None else wanted[start : start + len(file)]
            for part, batch in file.batches(mine):
                yield np.arange(start + part.start, start + part.stop), read(batch)
            start += len(file)
