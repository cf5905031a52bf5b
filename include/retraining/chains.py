"""The append-only chains of one model, and which role writes each."""

from collections.abc import Sequence

from retraining.errors import EvidenceError
from retraining.evidence import (
    FEEDBACK_ENTRY,
    INCIDENT_ENTRY,
    LEDGER_ENTRY,
    MONITORING_ENTRY,
    REGISTRY_ENTRY,
    REVIEW_ENTRY,
    TrustList,
)
from retraining.records import (
    FeedbackEntry,
    IncidentEntry,
    LedgerCharge,
    MonitoringEntry,
    RegistryEntry,
    ReviewEntry,
)
from retraining.signed_chain import Link, SignedChain
from retraining.store import Store
from retraining.trust_history import TrustHistory


def registry_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[RegistryEntry]:
    """The registry of one model: concluded weeks and champions, written by the promoter."""
    return SignedChain(
        store,
        trust,
        prefix=f"registry/{model}",
        record_type=RegistryEntry,
        predicate_type=REGISTRY_ENTRY,
        role="promoter",
    )


def ledger_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[LedgerCharge]:
    """The privacy ledger of one model: every start of a training run, written before it."""
    return SignedChain(
        store,
        trust,
        prefix=f"ledger/{model}",
        record_type=LedgerCharge,
        predicate_type=LEDGER_ENTRY,
        role="pipeline",
    )


def feedback_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[FeedbackEntry]:
    """The closed batches of users' feedback of one model, one per week at most."""
    return SignedChain(
        store,
        trust,
        prefix=f"feedback/{model}",
        record_type=FeedbackEntry,
        predicate_type=FEEDBACK_ENTRY,
        role="pipeline",
    )


def monitoring_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[MonitoringEntry]:
    """The monitored days of one model, and the incidents that were open after each."""
    return SignedChain(
        store,
        trust,
        prefix=f"monitoring/{model}",
        record_type=MonitoringEntry,
        predicate_type=MONITORING_ENTRY,
        role="pipeline",
    )


def review_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[ReviewEntry]:
    """What people decided about quarantined rows of one model, written by reviewers."""
    return SignedChain(
        store,
        trust,
        prefix=f"reviews/{model}",
        record_type=ReviewEntry,
        predicate_type=REVIEW_ENTRY,
        role="reviewer",
        check_signer=_is_the_reviewer,
    )


def incident_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[IncidentEntry]:
    """What people did about poison that was found late, written by reviewers."""
    return SignedChain(
        store,
        trust,
        prefix=f"incidents/{model}",
        record_type=IncidentEntry,
        predicate_type=INCIDENT_ENTRY,
        role="reviewer",
        check_signer=_is_the_reviewer,
    )


def charges_of(links: Sequence[Link[LedgerCharge]]) -> list[LedgerCharge]:
    """The bare charges of a ledger."""
    return [link.record for link in links]


def _is_the_reviewer(entry: ReviewEntry | IncidentEntry, key_id: str, _trust: TrustList) -> None:
    if entry.reviewer != key_id:
        raise EvidenceError(f"names the reviewer {entry.reviewer!r}, and {key_id!r} signed it.")
