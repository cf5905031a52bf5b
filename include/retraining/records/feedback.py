"""Users' feedback: a week of it, closed."""

from pydantic import Field

from retraining.digests import Digest
from retraining.records.base import Record, Refusal, StoredFile, Week


class FeedbackReport(Record):
    """What a week of feedback came to, and the batch that was made of it.

    Every line that could be read stands in exactly one place: `n_lines` is the sum of
    `counted_before`, `set_aside`, `waiting`, `n_audited` and `n_votes`.

    Attributes:
        weeks: Weeks whose files were read: this one last, before it those that lines may wait in.
        reason: Why it was closed by hand; empty on the schedule.
        spec: The pipeline file, resolved.
        champion, version: Manifest digest and number of the model that the votes are held against.
        previous: Payload digest of the feedback chain's newest entry before this batch.
        files: What users said, as delivered, named `<week>/<file>`.
        traffic: Predictions and labels that it was held against, named `<role>/<day>/<file>`.
        refused: Files that could not be used, one clear line each.
        counted_before: Lines that an earlier batch had counted.
        set_aside: Lines that count for nothing, by reason.
        waiting: Lines that a later batch looks at again, by reason.
        n_audited: Votes on audited items: they make their users' records and decide nothing.
        users: Users with votes, by record: `trusted`, `newcomer`, `low_agreement`.
        n_votes: Votes that this batch counted: one per user and item.
        held: Items held for review, by reason.
        n_applied: Items of the batch.
        changes: Of these, how many contradict the champion, by their new class.
        lines: Parquet of every line that was set aside: file, line, reason.
        held_items: Parquet of the held items, their votes and the reason.
        counted: Parquet of what this batch counted, so that no later one counts it again.
        rows: Parquet of the batch, as it was handed over.
        batch_digest: Of the delivery: over the names and digests of its files.
        sequence: Of the delivery: the number of batches closed so far.
    """

    model: str
    week: Week
    weeks: tuple[Week, ...]
    reason: str = ""
    spec: Digest
    champion: Digest
    version: int = Field(ge=1)
    previous: Digest | None
    files: tuple[StoredFile, ...]
    traffic: tuple[StoredFile, ...]
    refused: tuple[Refusal, ...] = ()
    n_lines: int = Field(ge=0)
    counted_before: int = Field(default=0, ge=0)
    set_aside: dict[str, int] = Field(default_factory=dict)
    waiting: dict[str, int] = Field(default_factory=dict)
    n_audited: int = Field(default=0, ge=0)
    users: dict[str, int] = Field(default_factory=dict)
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
