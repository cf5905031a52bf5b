"""What the gate report says, as data. Its canonical JSON is the report for machines.

Counts, names, digests and intervals; of the rows only how many there are. Ids of rows, and values
beyond those that a sentence on record names, stay in the records, which `retraining show` opens.
"""

from typing import Literal

from pydantic import Field

from retraining.digests import Digest
from retraining.records import (
    BatchId,
    Check,
    Disagreement,
    FeedbackEffect,
    Interval,
    Record,
    Refusal,
    SourceEvidence,
    TracedBatch,
    Verdict,
    Week,
)


class ComparedMetric(Record):
    """One metric on one part of the holdout.

    Attributes:
        difference: Challenger minus champion, paired.
        judged: Whether the gate compares it with the champion's; the others are for information.
        less_is_better: Of calibration error; of all other metrics more is better.
    """

    metric: str
    slice: str
    n_rows: int
    challenger: Interval | None
    champion: Interval | None
    difference: Interval | None
    judged: bool
    less_is_better: bool = False


class CalibrationBin(Record):
    """Rows of the holdout that the challenger is about equally sure of.

    Attributes:
        confidence: Mean probability of the class that it gives.
        correct: Share of these rows that it gets right, with the 95% interval of Wilson (1927).
    """

    confidence: float
    correct: Interval
    n_rows: int


class SourceBatch(Record):
    """What one source delivered, and what became of it.

    Attributes:
        evidence: What all its rows show together; None where screening did not measure it.
    """

    batch: BatchId
    trust: str
    signature: str
    key_id: str | None
    risk_score: float
    risk_reasons: tuple[str, ...] = ()
    n_rows: int = 0
    n_accepted: int = 0
    n_quarantined: int = 0
    quarantined: dict[str, int] = Field(default_factory=dict)
    poison_share: Interval | None = None
    evidence: SourceEvidence | None = None
    refusal: Refusal | None = None


class Purged(Record):
    """Accepted rows of an earlier week that were taken out of training."""

    batch: BatchId
    n_rows: int
    n_purged: int
    learned_by: tuple[int, ...]


class Finding(Record):
    """What one check of the challenger's behaviour saw; `BehaviourResult` says what each means.

    Attributes:
        pattern_columns: Columns of the pattern that was found; its values stand in the record.
        traced: Batches of the rows that taught it.
    """

    name: str
    measure: str
    statistic: float
    p_value: float | None
    null: str
    n_null: int
    null_quantiles: tuple[float, ...]
    insufficient: str
    sentence: str
    pattern_columns: tuple[str, ...] = ()
    pattern_label: str = ""
    from_class: str = ""
    to_class: str = ""
    by_source: dict[str, Interval] = Field(default_factory=dict)
    traced: tuple[TracedBatch, ...] = ()
    n_traced: int = 0


class TracedCheck(Record):
    """Rows that a check was traced back to; `TracedRows` says what each means."""

    check: str
    pattern_columns: tuple[str, ...]
    by_batch: tuple[TracedBatch, ...]
    n_users: int
    precision: Interval | None


class PurgedRound(Record):
    """A challenger that was refused, and what was taken out to train another.

    Attributes:
        verdict, failed: Of that challenger.
        again: Whether another one was trained without the rows, and measured.
    """

    challenger: Digest
    verdict: Verdict
    failed: tuple[Check, ...]
    traced: tuple[TracedCheck, ...]
    sources: tuple[str, ...]
    purged: tuple[Purged, ...]
    n_purged: int
    again: bool
    refusal: Refusal | None


class Behaviour(Record):
    """What was measured of the challenger's behaviour, and how well it was looked."""

    findings: tuple[Finding, ...]
    false_alarm_rate: float
    power: dict[str, float]
    disagreements: tuple[Disagreement, ...]
    n_judging: int


class Privacy(Record):
    """What the training spent, and what the pipeline file allows.

    Attributes:
        by_batch: All runs so far on the rows of each weekly batch.
    """

    epsilon: float | None
    delta: float | None
    allowed_per_run: float
    by_batch: dict[str, float]
    allowed_per_batch: float


class NamedRecord(Record):
    """One signed record behind the decision.

    Attributes:
        attestation: Digest of what was signed, which is also the name of its file.
        report: Digest of the report that it names.
        key_id: Whose key signed it, on the trust list of the run.
    """

    name: str
    attestation: Digest
    report: Digest
    key_id: str


class Page(Record):
    """The gate report.

    Attributes:
        headline: What was decided and what it means, in one sentence.
        next_steps: What to do, most urgent first; empty when every check passed.
        approve: What people type to promote it after all, each a command; empty when nobody can.
        reviewers: How many of them have to sign, each with a key of his own.
        checks: Those that failed first.
        decision: Digest of the decision's report, by which `retraining approve` knows it too. (Its
            attestation names this page, so the page cannot name that.)
        margin, harm: What the comparison with the champion allows.
        screening_sentences: Patterns of poison that screening took out.
        pinned: Digests of what the run was fixed to, by name.
        signer_keys: Public key of each signer, hexadecimal, for a check with openssl; ed25519 only.
    """

    format: Literal["gate-report/1"] = "gate-report/1"
    model: str
    week: Week
    attempt: int
    verdict: Verdict
    dry_run: bool
    headline: str
    next_steps: tuple[str, ...]
    approve: tuple[str, ...] = ()
    reviewers: int = 0
    checks: tuple[Check, ...]
    decision: Digest
    challenger: Digest | None
    champion: Digest | None
    margin: float
    harm: float
    confidence: float | None
    comparisons: tuple[ComparedMetric, ...]
    calibration: tuple[CalibrationBin, ...]
    sources: tuple[SourceBatch, ...]
    left_out: tuple[str, ...]
    screening_sentences: tuple[str, ...]
    screening_refusal: Refusal | None
    purged: tuple[Purged, ...]
    rounds: tuple[PurgedRound, ...] = ()
    feedback: FeedbackEffect | None
    behaviour: Behaviour | None
    privacy: Privacy | None
    records: tuple[NamedRecord, ...]
    pinned: dict[str, Digest]
    trust_version: int
    signer_keys: dict[str, str]
