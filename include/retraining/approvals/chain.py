"""The chain of approvals of one model, and whose signature each of them needs."""

from dataclasses import dataclass
from typing import ClassVar, Self

from retraining.digests import Digest
from retraining.errors import ChainBrokenError, EvidenceError
from retraining.evidence import APPROVAL_ENTRY, Role, TrustList
from retraining.records import ApprovalEntry
from retraining.signed_chain import Entries, Link, SignedChain
from retraining.store import Store
from retraining.trust_history import TrustHistory


def approval_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[ApprovalEntry]:
    """What people approved for one model."""
    return SignedChain(
        store,
        trust,
        prefix=f"approvals/{model}",
        record_type=ApprovalEntry,
        predicate_type=APPROVAL_ENTRY,
        role="reviewer",
        also=("owner", "promoter"),
        check_signer=_check_signer,
    )


def role_for(entry: ApprovalEntry) -> Role:
    """Whose key signs it: an owner a pipeline file, a reviewer a week, the promoter for Airflow."""
    if entry.spec is not None:
        return "owner"
    return "reviewer" if entry.strength == "signed" else "promoter"


def _check_signer(entry: ApprovalEntry, key_id: str, trust: TrustList) -> None:
    role = role_for(entry)
    if key_id not in trust.keys_for([role]):
        raise EvidenceError(f"needs the signature of a key of role {role}; {key_id!r} signed it.")
    if entry.strength == "signed" and entry.approver != key_id:
        raise EvidenceError(f"names the approver {entry.approver!r}, and {key_id!r} signed it.")


@dataclass(frozen=True)
class Approvals(Entries[ApprovalEntry]):
    """The verified approvals of one model, oldest first."""

    called: ClassVar[str] = "approvals"

    @classmethod
    def load(cls, store: Store, trust: TrustHistory, model: str) -> Self:
        """Read and verify the whole chain; raises ChainBrokenError."""
        return cls(model, tuple(approval_chain(store, trust, model).load()))

    def named(self, digests: tuple[Digest, ...]) -> tuple[Link[ApprovalEntry], ...]:
        """Those of these digests, in the order of the chain; raises ChainBrokenError."""
        found = tuple(link for link in self.links if link.digest in digests)
        if tuple(link.digest for link in found) != digests:
            raise ChainBrokenError(
                f"{len(digests)} approvals are named and {len(found)} of them stand in the chain of"
                f" {self.model}, in another order or number. Restore the chain."
            )
        return found
