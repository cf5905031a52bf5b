"""What people approved: a held week's challenger, or a changed pipeline file."""

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from retraining.digests import Digest
from retraining.records.base import Record

UI_PREFIX = "airflow:"  # of an approver who has no key, only a login

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def moment_text(moment: datetime) -> str:
    """A moment as records write it, in UTC, to the second."""
    return moment.astimezone(UTC).strftime(_TIME)


class ApprovalEntry(Record):
    """One signed approval, in the append-only chain of a model's approvals.

    Attributes:
        decision: Payload digest of the gate's attestation, of a held week; None for a spec.
        registry_head: Newest registry entry when it was signed: for a decision the entry that
            holds it, so that the approval is good for no other state of the registry.
        spec: Digest of the resolved pipeline file that its owner signs; None for a decision.
        approver: Key id of whoever signed; `airflow:<user>` for an answer in the UI, which the
            promoter signs and for which Airflow's login is the only proof.
        strength: `signed` with the approver's own key, or the weaker `ui`.
        expires_on: From then on it counts no more; UTC. None for a pipeline file, whose signature
            counts until the champion changes.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    decision: Digest | None = None
    registry_head: Digest | None = None
    spec: Digest | None = None
    why: str = Field(min_length=3)
    approver: str = Field(min_length=1)
    strength: Literal["signed", "ui"] = "signed"
    expires_on: str | None = None
    trust_list: Digest
    trust_version: int

    @property
    def expiry(self) -> datetime | None:
        """`expires_on` as a moment."""
        if self.expires_on is None:
            return None
        return datetime.strptime(self.expires_on, _TIME).replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.decision is None) == (self.spec is None):
            raise ValueError("an approval is about a decision or about a pipeline file")
        if self.decision is not None and (self.registry_head is None or self.expires_on is None):
            raise ValueError("an approval of a decision names the entry that holds it, and expires")
        if self.spec is not None and (self.strength != "signed" or self.expires_on is not None):
            raise ValueError(
                "a pipeline file is signed with a key, and the signature has no expiry"
            )
        in_ui = self.approver.startswith(UI_PREFIX) and len(self.approver) > len(UI_PREFIX)
        if in_ui != (self.strength == "ui"):
            raise ValueError(
                f"an answer in the UI names its user as {UI_PREFIX}<user>, no key does"
            )
        if self.expiry is not None and moment_text(self.expiry) != self.expires_on:
            raise ValueError("expires_on is written as 2026-02-09T08:00:00Z")
        return self
