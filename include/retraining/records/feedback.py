"""Users' feedback: a week of it, closed."""

from pydantic import Field

from retraining.digests import Digest
from retraining.records.base import Record, StoredFile, Week


class FeedbackReport(Record):
    """What a week of feedback came to, and the batch that was made of it.

    Attributes:
        weeks: Weeks whose files were read: this one last, before it those that lines may wait in.
        spec: The pipeline file, resolved.
        champion: Manifest digest of the model whose answers the feedback is about.
        files: What was read, as delivered.
        n_lines: Lines in all of them.
        counted_before: Lines that an earlier batch had counted.
        set_aside: Lines that count for nothing, by reason.
        waiting: Lines that wait for the next batch, by reason.
        n_votes: Votes that this batch counted: one per user and item.
        held: Items held for review, by reason.
        n_applied: Items of the batch.
        changes: Of these, how many contradict the champion, by their new class.
        lines: Parquet of every line that was set aside: file, line, reason.
        held_items: Parquet of the held items, their votes and the reason.
        counted: Parquet of what this batch counted, so that no later one counts it again.
        rows: Parquet of the batch, as it was handed over.
        batch_digest: Of the delivery, as its manifest names it.
        sequence: Of the delivery: the number of batches closed so far.
    """

    model: str
    week: Week
    weeks: tuple[Week, ...]
    spec: Digest
    champion: Digest
    version: int = Field(ge=1)
    files: tuple[StoredFile, ...]
    n_lines: int = Field(ge=0)
    counted_before: int = Field(default=0, ge=0)
    set_aside: dict[str, int] = Field(default_factory=dict)
    waiting: dict[str, int] = Field(default_factory=dict)
    n_votes: int = Field(ge=0)
    held: dict[str, int] = Field(default_factory=dict)
    n_applied: int = Field(ge=0)
    changes: dict[str, int] = Field(default_factory=dict)
    lines: Digest
    held_items: Digest
    counted: Digest
    rows: Digest
    batch_digest: Digest
    sequence: int = Field(ge=1)


class FeedbackEntry(Record):
    """One closed batch in the append-only chain of a model's feedback.

    Attributes:
        attestation: Of the feedback step.
        counted: Votes that no later batch counts again.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    week: Week
    attestation: Digest
    counted: Digest
    trust_list: Digest
    trust_version: int
