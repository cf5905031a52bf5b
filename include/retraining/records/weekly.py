"""The chain of a weekly run, in the order of its steps."""

from typing import Literal

from pydantic import Field

from retraining.digests import Digest
from retraining.records.base import BatchId, Interval, Record, Refusal, StoredFile, Week
from retraining.records.behaviour import BehaviourReport
from retraining.records.patterns import Pattern
from retraining.records.sources import SourceEvidence

# --- pin ------------------------------------------------------------------------------------


class PinnedRun(Record):
    """Everything that a run depends on, fixed before it starts; later tasks read nothing else.

    Attributes:
        weeks: Weeks whose batches are new: all since the last promoted one, this one last.
        attempt: How many runs of this week concluded before, plus one.
        registry_head: Payload digest of the newest registry entry; None before the first.
        reviews_head: Payload digest of the newest review; None before the first.
        approvals_head: Payload digest of the newest approval; None before the first.
        champion: Manifest digest of the serving model; None before the first.
        left_out: Sources that whoever started the run left out (`source` or `source@week`).
    """

    model: str
    week: Week
    weeks: tuple[Week, ...]
    attempt: int = Field(ge=1)
    spec: Digest
    policy: Digest
    code_version: Digest
    trust_list: Digest
    reference: Digest
    holdout: Digest
    registry_head: Digest | None
    reviews_head: Digest | None = None
    approvals_head: Digest | None = None
    champion: Digest | None
    left_out: tuple[str, ...] = ()
    dry_run: bool = False
    reason: str = ""


# --- ingest ---------------------------------------------------------------------------------


class IngestReport(Record):
    """Bytes of one batch, as delivered, and its manifest. Nothing was parsed."""

    batch: BatchId
    files: tuple[StoredFile, ...] = ()
    manifest: Digest | None = None
    refusal: Refusal | None = None


# --- provenance -----------------------------------------------------------------------------


class ProvenanceReport(Record):
    """Who delivered a batch, and whether what arrived is what they signed.

    Attributes:
        signature: `verified`, or `none` for a source that is declared unable to sign: its batch
            is then only fixed by digest at ingest.
        batch_digest: Identity of the batch: over names and digests of all its files.
        sequence: The provider's growing number, which refuses replays; None without manifest.
        risk_score: 0 (no known risk) to 1, from trust tier, signature and history.
    """

    batch: BatchId
    trust: Literal["trusted", "known", "untrusted"]
    signature: Literal["verified", "none", "refused"]
    key_id: str | None = None
    batch_digest: Digest | None = None
    sequence: int | None = None
    files: tuple[StoredFile, ...] = ()
    risk_score: float = Field(ge=0, le=1)
    risk_reasons: tuple[str, ...] = ()
    refusal: Refusal | None = None


# --- screening ------------------------------------------------------------------------------


class ScreenedBatch(Record):
    """What screening concluded about one batch.

    Attributes:
        quarantined: Rows kept and not used, counted per reason; one row may have several.
        poison_share: Of the rows that could be read, estimated; None when none could.
        accepted: Parquet of the accepted rows in the store; None when the batch is not used.
        source_evidence: What all rows of the source show together, carried-over batches included.
    """

    batch: BatchId
    batch_digest: Digest | None = None
    n_rows: int = Field(default=0, ge=0)
    n_accepted: int = Field(default=0, ge=0)
    n_quarantined: int = Field(default=0, ge=0)
    quarantined: dict[str, int] = Field(default_factory=dict)
    poison_share: Interval | None = None
    accepted: Digest | None = None
    source_evidence: SourceEvidence | None = None
    refusal: Refusal | None = None


class FeedbackEffect(Record):
    """What the week's feedback changes: two plain surrogates, trained with it and without it.

    Both are measured on the same rows of the reference set, so the difference is paired.

    Attributes:
        n_feedback: Rows of the feedback.
        n_reference: Rows that both were measured on.
        difference: Of the accuracies, with minus without.
        left_out: Whether the feedback costs more than the pipeline file allows, surely.
    """

    n_feedback: int = Field(ge=0)
    n_reference: int = Field(ge=0)
    with_feedback: Interval
    without_feedback: Interval
    difference: Interval
    left_out: bool

    def costs_more_than(self, max_loss: float) -> bool:
        """Whether accuracy falls by more than `max_loss`, and surely falls."""
        return self.difference.value < -max_loss and self.difference.high < 0


class WindowBlock(Record):
    """The accepted rows of an earlier batch, and what is left of them for this run.

    Attributes:
        before: Rows as the registry accepted them.
        rows: Rows that may be trained on: the same digest when nothing was purged, None when
            nothing is left.
        n_rows, n_purged: Rows before, and how many of them were taken out.
        learned_by: Versions that were trained on rows that are purged here.
    """

    batch: BatchId
    before: Digest
    rows: Digest | None
    n_rows: int = Field(ge=0)
    n_purged: int = Field(default=0, ge=0)
    learned_by: tuple[int, ...] = ()


class ShardReport(Record):
    """What was found about one shard of the week's rows, for screening to take up.

    Attributes:
        shard: From 0.
        n_rows: Of the shard.
        answers: Arrays in the store (safetensors): scores of its odd rows, an order of all.
    """

    shard: int = Field(ge=0)
    n_rows: int = Field(ge=0)
    answers: Digest


class ScreeningReport(Record):
    """Which rows may be trained on, which not, and why.

    Attributes:
        window: What is left of the accepted history, in the order of the registry.
        n_reference, n_history: Rows that the new ones were judged against. Without history much
            less is seen.
        patterns: Values that poisoned rows share, as screening found them.
        sentences: About each pattern, in their order.
        thresholds: Of releases before 0.3.
        feedback: What users' feedback changes; None when the week has none.
        suspicious_parquet: `suspicious_samples.parquet`: per quarantined row its reasons.
        suspicious_csv: The same for a spreadsheet, the rows with most evidence.
        suspicious_summary: `suspicious_summary.csv`: rows per reason, source, week and class.
        refusal: Set when the week as a whole cannot be trained on.
    """

    batches: tuple[ScreenedBatch, ...]
    n_accepted: int = Field(ge=0)
    n_quarantined: int = Field(ge=0)
    class_counts: dict[str, int] = Field(default_factory=dict)
    n_reference: int = Field(default=0, ge=0)
    n_history: int = Field(default=0, ge=0)
    thresholds: dict[str, float] = Field(default_factory=dict)
    suspicious_parquet: Digest | None = None
    suspicious_csv: Digest | None = None
    feedback: FeedbackEffect | None = None
    suspicious_summary: Digest | None = None
    window: tuple[WindowBlock, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    sentences: tuple[str, ...] = ()
    refusal: Refusal | None = None


# --- training -------------------------------------------------------------------------------


class Block(Record):
    """The accepted rows of one weekly batch.

    Privacy is charged to the *batch*: to screen it again with one row more or less makes other
    rows, and no fresh budget.
    """

    batch: BatchId
    rows: Digest


class ModelManifest(Record):
    """A model: arrays and two descriptions as data. Its digest is the model's identity."""

    weights: Digest
    architecture: Digest
    preprocessing: Digest
    classes: tuple[str, ...]


class DpSgdRun(Record):
    """What one DP-SGD run did: necessary and sufficient to account for its privacy.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the clip norm.
        sampling_probability: Each row enters each step independently with this probability.
        steps: Number of noisy steps.
        n_rows: Rows trained on (treated as public).
    """

    noise_multiplier: float = Field(gt=0)
    l2_clip_norm: float = Field(gt=0)
    sampling_probability: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    n_rows: int = Field(ge=1)
    expected_batch_rows: int = Field(ge=1)


class LedgerCharge(Record):
    """One start of one training run, charged to every weekly batch that it reads.

    Written before the training starts: a run that is killed has spent its budget.

    Attributes:
        blocks: The batches whose rows were read, as `source week`.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    request: Digest
    attempt: int = Field(ge=1)
    blocks: tuple[str, ...]
    run: DpSgdRun
    trust_list: Digest
    trust_version: int


class TrainingReport(Record):
    """The challenger, and what it cost.

    Attributes:
        blocks: The accepted rows of each weekly batch that was trained on.
        epsilon: Of this run, recomputed by us from what the run did, for `delta`.
        epsilon_by_block: All runs so far on the rows of each batch (`source week`), this one
            included.
        charges: Payload digests of this run's ledger entries.
        isolation: What kept the trainer's process from the network.
    """

    blocks: tuple[Block, ...] = ()
    n_rows: int = Field(default=0, ge=0)
    model: Digest | None = None
    run: DpSgdRun | None = None
    epsilon: float | None = None
    delta: float | None = None
    epsilon_by_block: dict[str, float] = Field(default_factory=dict)
    charges: tuple[Digest, ...] = ()
    ledger_head: Digest | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    isolation: str = ""
    refusal: Refusal | None = None


# --- validation -----------------------------------------------------------------------------


class SliceResult(Record):
    """Metrics of one part of the holdout; `all` is the whole of it.

    Attributes:
        difference: Challenger minus champion on the same rows, paired; empty without champion.
    """

    slice: str
    n_rows: int = Field(ge=0)
    challenger: dict[str, Interval] = Field(default_factory=dict)
    champion: dict[str, Interval] = Field(default_factory=dict)
    difference: dict[str, Interval] = Field(default_factory=dict)


class ValidationReport(Record):
    """How challenger and champion do on the same holdout rows. It measures; it never passes.

    Attributes:
        behaviour: What the challenger learned; None in releases before 0.4.
    """

    holdout: Digest
    challenger: Digest
    champion: Digest | None
    confidence: float
    resamples: int
    slices: tuple[SliceResult, ...]
    calibration_bins: tuple[tuple[float, float, int], ...] = ()
    behaviour: BehaviourReport | None = None
