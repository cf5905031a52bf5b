"""What people decided about quarantined rows: released, or confirmed as poison."""

from typing import Literal, Self

from pydantic import Field, model_validator

from retraining.digests import Digest
from retraining.records.base import BatchId, Record
from retraining.records.patterns import Pattern

MAX_ROWS_PER_REVIEW = 10_000

ReviewVerb = Literal["release", "confirm"]


class SourceUser(Record):
    """Who stands behind rows of one source; another source's user of that name is somebody else."""

    source: str = Field(min_length=1)
    user: str = Field(min_length=1, max_length=256)


class ReviewSubject(Record):
    """What a review is about: some rows, or one pattern, or one whole batch, or one user.

    Attributes:
        screening: Attestation of the screening that named the rows or the pattern; None for a
            batch or a user.
        row_ids: Of its `suspicious_samples.parquet`, each once, in order.
        pattern: One of those that it found.
        user: All rows that this user ever hands in, past and to come.
    """

    screening: Digest | None = None
    row_ids: tuple[str, ...] = Field(default=(), max_length=MAX_ROWS_PER_REVIEW)
    pattern: Pattern | None = None
    batch: BatchId | None = None
    user: SourceUser | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        others = (self.pattern, self.batch, self.user)
        if bool(self.row_ids) + sum(one is not None for one in others) != 1:
            raise ValueError("a review is about rows, or a pattern, or a batch, or a user")
        if (self.screening is None) != (self.batch is not None or self.user is not None):
            raise ValueError("rows and patterns are those of a named screening, others are not")
        if list(self.row_ids) != sorted(set(self.row_ids)):
            raise ValueError("row ids stand in order, each once")
        return self


class ReviewEntry(Record):
    """One signed decision of a reviewer, in the append-only chain of a model's reviews.

    Attributes:
        verb: `release`: the scores were wrong about these rows, or an earlier confirmation was.
            `confirm`: it is poison, and is never trained on again.
        reviewer: Key id of whoever signed.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    verb: ReviewVerb
    about: ReviewSubject
    reviewer: str
    why: str = Field(min_length=3)
    trust_list: Digest
    trust_version: int
