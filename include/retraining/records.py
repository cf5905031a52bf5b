"""What each step concludes, in pipeline order: start reading here.

A report is timeless: the same inputs give the same report, byte for byte, so its digest can be
compared between Airflow, a laptop and an auditor (training excepted: nobody may know the seed of
its noise). Times, run ids and signers stand in the attestation that names the report.
Reports carry counts, names and digests, never row values.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import EvidenceError

Week = Annotated[str, Field(pattern=r"^\d{4}-W(0[1-9]|[1-4]\d|5[0-3])$")]
Verdict = Literal["PROMOTE", "HOLD", "REJECT"]
Step = Literal[
    "pin", "ingest", "provenance", "screening", "training", "validation", "gate", "promotion"
]


class Record(BaseModel):
    """Base of all records: frozen, closed, with one canonical form."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """The canonical JSON of this record."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def identity(self) -> Digest:
        """The name of this record: SHA-256 over its canonical JSON."""
        return Digest.of(self.to_json())

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse strictly; raises EvidenceError when `data` is no such record."""
        try:
            return cls.model_validate(parse_json(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise EvidenceError(
                f"Expected a {cls.__name__}: {where or 'record'}: {first['msg']}."
            ) from error


class Refusal(Record):
    """Why a step did not use what it was given. A refusal is a conclusion, not a failure."""

    code: str
    sentence: str


class BatchId(Record):
    """What one source delivered for one week."""

    source: str
    week: Week

    def __str__(self) -> str:
        return f"{self.source} {self.week}"


# --- pin ------------------------------------------------------------------------------------


class PinnedRun(Record):
    """Everything that a run depends on, fixed before it starts; later tasks read nothing else.

    Attributes:
        weeks: Weeks whose batches are new: all since the last promoted one, this one last.
        attempt: How many runs of this week concluded before, plus one.
        registry_head: Payload digest of the newest registry entry; None before the first.
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
    champion: Digest | None
    left_out: tuple[str, ...] = ()
    dry_run: bool = False
    reason: str = ""


# --- ingest ---------------------------------------------------------------------------------


class StoredFile(Record):
    """One delivered file, unchanged, in the store."""

    name: str
    digest: Digest
    n_bytes: int = Field(ge=0)


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
        accepted: Parquet of the accepted rows in the store; None when the batch is not used.
        schema_digest: Of the columns that the rows were checked against.
    """

    batch: BatchId
    batch_digest: Digest | None = None
    n_rows: int = Field(default=0, ge=0)
    n_accepted: int = Field(default=0, ge=0)
    n_quarantined: int = Field(default=0, ge=0)
    quarantined: dict[str, int] = Field(default_factory=dict)
    accepted: Digest | None = None
    refusal: Refusal | None = None


class ScreeningReport(Record):
    """Which rows may be trained on, which not, and why.

    Attributes:
        suspicious_parquet: `suspicious_samples.parquet`: per quarantined row its reasons.
        suspicious_csv: The same for a spreadsheet.
        refusal: Set when the week as a whole cannot be trained on.
    """

    batches: tuple[ScreenedBatch, ...]
    n_accepted: int = Field(ge=0)
    n_quarantined: int = Field(ge=0)
    class_counts: dict[str, int] = Field(default_factory=dict)
    thresholds: dict[str, float] = Field(default_factory=dict)
    suspicious_parquet: Digest | None = None
    suspicious_csv: Digest | None = None
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
    refusal: Refusal | None = None


# --- validation -----------------------------------------------------------------------------


class Interval(Record):
    """A measured value with its confidence interval, both ends inclusive."""

    value: float
    low: float
    high: float


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
    """How challenger and champion do on the same holdout rows. It measures; it never passes."""

    holdout: Digest
    challenger: Digest
    champion: Digest | None
    confidence: float
    resamples: int
    slices: tuple[SliceResult, ...]
    calibration_bins: tuple[tuple[float, float, int], ...] = ()


# --- gate -----------------------------------------------------------------------------------


class Check(Record):
    """One check of the gate: what was seen, what is allowed, and what follows from it."""

    name: str
    verdict: Verdict
    observed: str
    allowed: str
    next_step: str = ""


class GateDecision(Record):
    """The week's one decision, with every check behind it."""

    model: str
    week: Week
    pinned_run: Digest
    verdict: Verdict
    checks: tuple[Check, ...]
    challenger: Digest | None
    champion: Digest | None
    registry_head: Digest | None
    policy: Digest
    spec: Digest
    dry_run: bool = False

    @property
    def promotes(self) -> bool:
        """Whether promotion may follow."""
        return self.verdict == "PROMOTE" and not self.dry_run

    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass, REJECT first."""
        failed = [check for check in self.checks if check.verdict != "PROMOTE"]
        return tuple(sorted(failed, key=lambda check: check.verdict != "REJECT"))


# --- registry -------------------------------------------------------------------------------


class RegisteredBatch(Record):
    """One batch of a concluded week, as later weeks need to know it."""

    batch: BatchId
    batch_digest: Digest | None
    sequence: int | None
    n_rows: int
    n_quarantined: int
    accepted: Digest | None
    refusal_code: str | None


class RegistryEntry(Record):
    """One concluded week in the append-only registry: all state between weeks.

    Attributes:
        previous: Payload digest of the entry before; None in the first.
        decision: Payload digest of the gate's attestation; used once.
        champion: Manifest digest of the model that serves after this entry.
        version: Number of promotions so far.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    verdict: Verdict
    week: Week
    attempt: int
    decision: Digest
    decision_report: Digest
    spec: Digest
    policy: Digest
    trust_list: Digest
    trust_version: int
    batches: tuple[RegisteredBatch, ...]
    ledger_head: Digest | None
    champion: Digest | None
    version: int = Field(ge=0)


def report_type(step: Step) -> type[Record]:
    """The class of the report that `step` writes."""
    types: dict[Step, type[Record]] = {
        "pin": PinnedRun,
        "ingest": IngestReport,
        "provenance": ProvenanceReport,
        "screening": ScreeningReport,
        "training": TrainingReport,
        "validation": ValidationReport,
        "gate": GateDecision,
    }
    return types[step]
