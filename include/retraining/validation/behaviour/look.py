"""Samples that all checks share, as matrices, and both models as surrogates of each other.

Every sample is bounded, so a check takes as long for a large window as for a small one; which rows
are drawn is fixed and public, as everywhere in screening.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from retraining.records import BatchId
from retraining.screening.rows import Integers, Mask, Reals, RowReader, Rows, drawn
from retraining.validation.behaviour.case import Case, Model
from retraining.validation.behaviour.frames import Answering, FrameWriter

# Rows of each kind that are looked at. At 3,000 new rows all of them; above it, a share of 1% is
# still 30 rows.
MAX_NEW, MAX_HISTORY, MAX_TRUSTED = 3000, 3000, 2000


@dataclass(frozen=True)
class Sampled:
    """Some rows of several batches.

    Attributes:
        batches: Which there are, in a fixed order.
        batch: Of each row, its place in `batches` [n].
        ids: Of each row [n].
    """

    rows: Rows
    batches: tuple[BatchId, ...]
    batch: Integers
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def joined(parts: "Sequence[Sampled]") -> "Sampled":
        """All rows of several, one after the other."""
        starts = np.cumsum([0, *(len(part.batches) for part in parts)])
        return Sampled(
            rows=Rows.joined([part.rows for part in parts]),
            batches=tuple(batch for part in parts for batch in part.batches),
            batch=np.concatenate(
                [part.batch + start for part, start in zip(parts, starts, strict=False)]
            ),
            ids=tuple(name for part in parts for name in part.ids),
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Of each row [n]."""
        return tuple(self.batches[number].source for number in self.batch)


class Look:
    """One challenger with all that it is held against."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.n_classes = len(case.spec.label.classes)
        self._reader = RowReader(case.spec)
        self.columns = self._reader.columns
        self.writer = FrameWriter(case.spec)
        self.new = self._sampled(case.new, MAX_NEW)
        self.history = self._sampled(case.history, MAX_HISTORY)
        self.reference = self._read(case.reference)
        self.tuning = self._read(case.tuning)
        self.judging = self._read(case.judging)

    @property
    def reader(self) -> RowReader:
        """Of the rows of this pipeline."""
        return self._reader

    @cached_property
    def challenger(self) -> Answering:
        """The challenger as a surrogate."""
        return self.surrogate(self.case.challenger)

    @cached_property
    def champion(self) -> Answering | None:
        """The champion as a surrogate; None before the first."""
        return self.surrogate(self.case.champion) if self.case.champion is not None else None

    def surrogate(self, model: Model) -> Answering:
        """Any model of this pipeline as a surrogate."""
        every: Mask = np.ones(len(self.columns.names), dtype=bool)
        return Answering(model, self.writer, every)

    def class_name(self, number: int) -> str:
        """Of the pipeline file."""
        return self.case.spec.label.classes[number]

    def _read(self, frame: pd.DataFrame) -> Rows:
        return self._reader.read(frame.iloc[drawn(len(frame), MAX_TRUSTED)])

    def _sampled(self, frames: Mapping[BatchId, pd.DataFrame], most: int) -> Sampled:
        batches = tuple(sorted(frames, key=str))
        sizes = np.array([len(frames[batch]) for batch in batches], dtype=np.int64)
        number = np.repeat(np.arange(len(batches)), sizes)
        chosen = drawn(int(sizes.sum()), most)
        starts = np.cumsum(sizes) - sizes
        parts: list[Rows] = [self._reader.read(self.case.reference.iloc[:0])]
        ids: list[str] = []
        for place, batch in enumerate(batches):
            mine = chosen[number[chosen] == place] - starts[place]
            frame = frames[batch].iloc[mine]
            parts.append(self._reader.read(frame, source=batch.source, week=batch.week))
            ids += frame[self.case.spec.row_id].astype(str).tolist()
        return Sampled(Rows.joined(parts), batches, number[chosen], tuple(ids))


def of_own_label(log_probabilities: Reals, labels: Integers) -> Reals:
    """Log-probability of each row's own label [n]."""
    result: Reals = log_probabilities[np.arange(len(labels)), labels]
    return result
