"""The chain of reviews, and what it comes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from retraining.chains import review_chain
from retraining.records import BatchId, Pattern, ReviewEntry, SourceUser
from retraining.reviews.carriers import ColumnOf, Mask, carriers, rows_of_users
from retraining.signed_chain import Entries
from retraining.spec import PipelineSpec
from retraining.store import Store
from retraining.trust_history import TrustHistory

CONFIRMED = "confirmed_by_review"  # the reason under which such rows are quarantined


@dataclass(frozen=True)
class Reviewed:
    """What all reviews up to one come to.

    Attributes:
        released: Ids of rows that are not quarantined for what the scores say.
        confirmed: Ids of rows that are always quarantined.
        patterns: Rows that carry one of these are, too.
        batches: So are all rows of these.
        users: And all rows of these, in whatever batch of their source.
        vouched: Batches that a reviewer released: what their source shows as a whole does not
            condemn them, and counts against it no more; their rows are judged like any others.
    """

    released: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    batches: frozenset[BatchId] = frozenset()
    vouched: frozenset[BatchId] = frozenset()
    users: frozenset[SourceUser] = frozenset()

    @property
    def confirms(self) -> bool:
        """Whether anything is never trained on again."""
        return bool(self.confirmed or self.patterns or self.batches or self.users)

    def confirmed_rows(
        self, column: ColumnOf, *, batch: BatchId, n_rows: int, spec: PipelineSpec
    ) -> Mask:
        """Which rows of a batch are never trained on [n].

        Args:
            column: Gives the values of a column of the pipeline file [n]; each is asked for only
                when it is needed.

        Raises:
            ConfigError: A confirmed pattern or user needs a column that the pipeline file has no
                more.
        """
        if batch in self.batches:
            return np.ones(n_rows, dtype=bool)
        found = np.zeros(n_rows, dtype=bool)
        if self.confirmed:
            ids = column(spec.row_id).astype(str)
            found |= np.fromiter((name in self.confirmed for name in ids), bool, n_rows)
        for pattern in self.patterns:
            found |= carriers(pattern, column, spec=spec)
        users = {one.user for one in self.users if one.source == batch.source}
        if users:
            found |= rows_of_users(users, column, n_rows=n_rows, spec=spec)
        return found


@dataclass(frozen=True)
class Reviews(Entries[ReviewEntry]):
    """The verified reviews of one model, oldest first."""

    called: ClassVar[str] = "reviews"

    @classmethod
    def load(cls, store: Store, trust: TrustHistory, model: str) -> Self:
        """Read and verify the whole chain; raises ChainBrokenError."""
        return cls(model, tuple(review_chain(store, trust, model).load()))

    @property
    def reviewed(self) -> Reviewed:
        """What they come to, the later entry winning."""
        return fold([link.record for link in self.links])


def fold(entries: Sequence[ReviewEntry]) -> Reviewed:
    """Apply reviews one after the other."""
    released: set[str] = set()
    confirmed: set[str] = set()
    patterns: dict[Pattern, None] = {}  # in the order of their confirmation
    batches: set[BatchId] = set()
    vouched: set[BatchId] = set()
    users: set[SourceUser] = set()
    for entry in entries:
        about, confirm = entry.about, entry.verb == "confirm"
        rows = set(about.row_ids)
        gain, lose = (confirmed, released) if confirm else (released, confirmed)
        gain |= rows
        lose -= rows
        if about.pattern is not None:
            patterns.pop(about.pattern, None)
            if confirm:
                patterns[about.pattern] = None
        if about.batch is not None:
            gained, lost = (batches, vouched) if confirm else (vouched, batches)
            gained.add(about.batch)
            lost.discard(about.batch)
        if about.user is not None:
            (users.add if confirm else users.discard)(about.user)
    return Reviewed(
        released=frozenset(released),
        confirmed=frozenset(confirmed),
        patterns=tuple(patterns),
        batches=frozenset(batches),
        vouched=frozenset(vouched),
        users=frozenset(users),
    )
