"""The rows of a week, and what they are judged against."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import pandas as pd

from retraining.records import BatchId
from retraining.screening.batches import JudgedBatch
from retraining.screening.engine import Effort
from retraining.screening.rows import Integers, RowReader, Rows, drawn, rows_at
from retraining.screening.stored import RowFile, StoredTable
from retraining.spec import PipelineSpec


@dataclass(frozen=True)
class Case:
    """The rows of a week, and what they are judged against.

    Attributes:
        new: Rows that nothing else stands against, of all batches.
        history: Accepted rows of earlier weeks, by batch.
        chosen: Places of those rows of the history that new ones are judged against.
        vetted: The reference set.
        vetted_ids: Its row ids.
        vouched: Batches that count for no source: a reviewer vouched for them.
    """

    new: StoredTable
    history: Mapping[BatchId, RowFile]
    chosen: Integers
    vetted: Rows
    vetted_ids: Sequence[str]
    vouched: Collection[BatchId]
    reader: RowReader
    spec: PipelineSpec

    @classmethod
    def of(
        cls,
        batches: Sequence[JudgedBatch],
        *,
        reference: pd.DataFrame,
        history: Mapping[BatchId, RowFile],
        vouched: Collection[BatchId],
        spec: PipelineSpec,
    ) -> Self:
        """The case of all batches; each is told its place in it."""
        reader = RowReader(spec)
        return cls(
            new=_new_rows(batches, reader, vouched),
            history=history,
            chosen=drawn(sum(map(len, history.values())), spec.screening.max_history_rows),
            vetted=reader.read(reference),
            vetted_ids=[str(name) for name in reference[spec.row_id]],
            vouched=vouched,
            reader=reader,
            spec=spec,
        )

    @property
    def old(self) -> StoredTable:
        """All accepted rows."""
        return StoredTable(
            [
                (rows, self.reader.of(batch, nobodys=batch in self.vouched))
                for batch, rows in self.history.items()
            ]
        )

    @property
    def trusted(self) -> Rows:
        """What new rows are judged against."""
        parts = [rows_at(self.old, self.chosen)] if len(self.chosen) else []
        return Rows.joined([*parts, self.vetted])

    @property
    def trusted_ids(self) -> list[str]:
        """Row ids of the trusted rows, in their order."""
        parts = self._ids_at(self.chosen).values()
        return [*itertools.chain.from_iterable(parts), *self.vetted_ids]

    def effort(self, *, only_sample: bool = False) -> Effort:
        """How much may be looked at."""
        policy = self.spec.screening
        return Effort(policy.max_fitted_rows, policy.max_rounds, only_sample)

    def ids_by_batch(self, places: Integers) -> dict[BatchId, frozenset[str]]:
        """Row ids of some rows of the history, by ascending places in all of it."""
        return {batch: frozenset(names) for batch, names in self._ids_at(places).items() if names}

    def _ids_at(self, places: Integers) -> dict[BatchId, list[str]]:
        """The same in the order of the rows, with batches of which none are asked."""
        found, start = {}, 0
        for batch, rows in self.history.items():
            mine = places[(places >= start) & (places < start + len(rows))] - start
            names = rows.column(self.spec.row_id).iloc[mine]
            found[batch] = [str(name) for name in names]
            start += len(rows)
        return found


def _new_rows(
    batches: Sequence[JudgedBatch], reader: RowReader, vouched: Collection[BatchId]
) -> StoredTable:
    """The rows of all batches that nothing else stands against; each batch is told its place."""
    files, start = [], 0
    for item in batches:
        rows = item.rows.without(~item.judged)
        item.place = slice(start, start + len(rows))
        start += len(rows)
        files.append((rows, reader.of(item.batch, nobodys=item.batch in vouched)))
    return StoredTable(files)
