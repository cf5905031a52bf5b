"""The registry: all state between weeks, and the request that takes a promotion back."""

from typing import Literal

from pydantic import Field

from retraining.digests import Digest
from retraining.records.base import BatchId, Record, Verdict, Week


class RegisteredBatch(Record):
    """One batch of a concluded week, as later weeks need to know it."""

    batch: BatchId
    batch_digest: Digest | None
    sequence: int | None
    n_rows: int
    n_quarantined: int
    accepted: Digest | None
    refusal_code: str | None


class RollbackRequest(Record):
    """Somebody asks that an older version serves again, or that none does.

    Attributes:
        registry_head: The newest entry when it was asked: the request is good for no other.
        gives_up: The version that serves now, 0 when none does; `to_version` itself when others
            are convicted while it serves.
        to_version: The version that shall serve; 0: the one that serves is withdrawn, and none
            takes its place.
        convict: Every standing version above `to_version` learned from poison: none of them is
            ever restored, and the rows that they added are accepted history no longer.
        spec: The pipeline file of the day, in the store: the old model has to fit it.
    """

    model: str
    registry_head: Digest
    gives_up: int = Field(ge=0)
    to_version: int = Field(ge=0)
    convict: bool
    reason: str = Field(min_length=3)
    spec: Digest


class RegistryEntry(Record):
    """One concluded week, or one rollback, in the append-only registry: all state between weeks.

    Attributes:
        previous: Payload digest of the entry before; None in the first.
        decision: Payload digest of the gate's attestation, or of the rollback's request; used
            once.
        decision_report: Digest of the report that it names.
        week, attempt, spec, policy: Of the run; of a rollback, those of the restored version, or
            of the one that was withdrawn.
        champion: Manifest digest of the model that serves after this entry; None when none does.
        version: Number of the promotion that made it; 0 when none serves.
        convicted: Versions that a rollback convicted of poison; empty for all other entries.
        approvals: Approvals by which a week that was held was promoted after all, in the order of
            their chain; empty for all other entries.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    verdict: Verdict | Literal["ROLLBACK"]
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
    convicted: tuple[int, ...] = ()
    approvals: tuple[Digest, ...] = ()
