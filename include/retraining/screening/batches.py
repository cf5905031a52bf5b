"""One batch that could be read: its rows, and what stands against each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from retraining.records import BatchId
from retraining.reviews import CONFIRMED, Reviewed
from retraining.screening.result import BatchRows
from retraining.screening.rows import Integers, Mask
from retraining.screening.stored import RowFile
from retraining.spec import PipelineSpec


@dataclass
class JudgedBatch:
    """One batch that could be read.

    Attributes:
        rows: Without a fault of value, m of them.
        reasons: Reason to the rows that have it [m].
        judged: Rows whose values were looked at [m]: those that nothing else stands against.
        released: Rows that a reviewer released [m].
        place: Where the judged rows stand among those of all batches.
    """

    delivered: BatchRows
    rows: RowFile
    reasons: dict[str, Mask]
    judged: Mask
    released: Mask
    place: slice = field(default_factory=lambda: slice(0, 0))

    @property
    def batch(self) -> BatchId:
        """Source and week."""
        return self.delivered.batch

    @property
    def quarantined(self) -> Mask:
        """Rows with at least one reason [m]."""
        nothing = np.zeros(len(self.rows), dtype=bool)
        return np.asarray(np.any([nothing, *self.reasons.values()], axis=0))

    def add(self, reason: str, found: Integers) -> None:
        """Note a reason for judged rows, by places among all batches; released rows are spared."""
        mine = np.zeros(len(self.rows), dtype=bool)
        mine[np.flatnonzero(self.judged)[self.own(found) - self.place.start]] = True
        self.reasons[reason] = mine & ~self.released

    def own(self, places: Integers) -> Integers:
        """Those of some places, among the judged rows of all batches, that are this batch's."""
        mine: Integers = places[(places >= self.place.start) & (places < self.place.stop)]
        return mine


def readable_batch(
    delivered: BatchRows, claims: Mapping[str, Mask], reviewed: Reviewed, spec: PipelineSpec
) -> JudgedBatch:
    """A batch with the reasons that stand before anybody looks at its values."""
    rows = delivered.rows
    assert rows is not None  # noqa: S101 - for the type checker
    confirmed = reviewed.confirmed_rows(
        rows.values, batch=delivered.batch, n_rows=len(rows), spec=spec
    )
    reasons = {**claims, CONFIRMED: confirmed}
    ids = rows.column(spec.row_id).astype(str)
    return JudgedBatch(
        delivered=delivered,
        rows=rows,
        reasons=reasons,
        judged=~np.any(list(reasons.values()), axis=0),
        released=ids.isin(reviewed.released).to_numpy(dtype=bool),
    )
