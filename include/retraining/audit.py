"""Verifies everything that a store holds, with the root's public key and nothing else.

An auditor runs this on a copy of the store: no network, no private key, no Airflow. What
promotion and rollback checked once, entry by entry, is checked again for every entry that there is,
and each registry entry is derived anew from its decision, or from the request for its rollback.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from retraining import promotion, rollback
from retraining.chains import (
    feedback_chain,
    incident_chain,
    ledger_chain,
    monitoring_chain,
    registry_chain,
    review_chain,
)
from retraining.digests import Digest
from retraining.errors import ChainBrokenError, RetrainingError, StoreUnreachableError
from retraining.recording import open_result
from retraining.records import (
    FeedbackEntry,
    FeedbackReport,
    IncidentEntry,
    MonitoringEntry,
    MonitoringReport,
    Record,
    RegistryEntry,
    RollbackRequest,
    Step,
)
from retraining.registry import HeadMemory, Registry
from retraining.reviews import fold, refuse_unfounded
from retraining.rollback import VerifiedRollback, verify_rollback
from retraining.signed_chain import Link
from retraining.store import Store
from retraining.trust_history import TrustHistory
from retraining.verify import ArtefactCheck, VerifiedDecision, verify_decision
from retraining.verify.approved import check_approvals, verify_approved

R = TypeVar("R", bound=Record)

_PRODUCTION = ("feedback", "monitoring")  # chains whose every entry names one signed report


@dataclass(frozen=True)
class VerifiedEntry:
    """One registry entry whose whole chain holds, from a decision or from a rollback's request."""

    model: str
    link: Link[RegistryEntry]
    chain: VerifiedDecision | VerifiedRollback

    @property
    def made_by_other_code(self) -> Digest | None:
        """Code version of a decision of another release: its gate was not run again."""
        chain = self.chain
        if not isinstance(chain, VerifiedDecision) or chain.replayed:
            return None
        return chain.pinned.run.code_version


def models_of(store: Store) -> list[str]:
    """Every model that has any chain of records."""
    folders = ("registry", "ledger", "reviews", "incidents", "approvals", *_PRODUCTION)
    names = [name for folder in folders for name in store.names(folder)]
    return sorted({name.split("/")[1] for name in names})


def audit(
    store: Store,
    trust: TrustHistory,
    *,
    models: Sequence[str] = (),
    memory: HeadMemory | None = None,
) -> Iterator[VerifiedEntry]:
    """Yield each registry entry as soon as it is verified, model by model, oldest first.

    Args:
        store: The store, or a copy of it.
        trust: All versions of the trust list, verified against the root's public key.
        models: Only these; all when empty.
        memory: What this machine saw before: notices that the newest entries were taken away,
            which no chain can show by itself.

    Raises:
        ChainBrokenError: At the first thing that does not hold; the message names the entry.
        EvidenceError: A chain itself is broken.
    """
    rehash = ArtefactCheck(store)
    for model in models or models_of(store):
        links = registry_chain(store, trust, model).load()
        ledger_chain(store, trust, model).load()
        registry = Registry(model, tuple(links))
        if memory is not None:
            memory.check(registry)
        for link in registry.links:
            yield VerifiedEntry(model, link, _verify_entry(store, trust, registry, link, rehash))


def audit_production(
    store: Store, trust: TrustHistory, *, models: Sequence[str] = ()
) -> dict[str, int]:
    """Verify every closed batch of feedback and every monitored day, with all that they name.

    Returns:
        How many there are: `feedback` and `monitoring`.

    Raises:
        ChainBrokenError: At the first thing that does not hold; the message names the entry.
        EvidenceError: A chain itself is broken.
    """
    rehash = ArtefactCheck(store)
    n_entries = dict.fromkeys(_PRODUCTION, 0)
    for model in models or models_of(store):
        for entry in (link.record for link in feedback_chain(store, trust, model).load()):
            said = _report_of(store, trust, "feedback", entry, rehash, FeedbackReport)
            _require_same(entry, (said.week, said.sequence), (entry.week, entry.sequence))
            _require_same(entry, said.counted, entry.counted)
            n_entries["feedback"] += 1
        for day in (link.record for link in monitoring_chain(store, trust, model).load()):
            seen = _report_of(store, trust, "monitoring", day, rehash, MonitoringReport)
            _require_same(day, (seen.day, seen.previous), (day.day, day.previous))
            _require_same(day, seen.incidents, day.incidents)
            n_entries["monitoring"] += 1
    return n_entries


def audit_reviews(store: Store, trust: TrustHistory, *, models: Sequence[str] = ()) -> int:
    """Verify every review: who signed it, and that its screening named what it is about.

    Returns:
        How many there are.

    Raises:
        ChainBrokenError: At the first thing that does not hold; the message names the entry.
    """
    n_entries = 0
    for model in models or models_of(store):
        entries = [link.record for link in review_chain(store, trust, model).load()]
        for number, entry in enumerate(entries):
            try:
                refuse_unfounded(
                    store,
                    trust,
                    model=model,
                    verb=entry.verb,
                    about=entry.about,
                    before=fold(entries[:number]),
                    trust_version=entry.trust_version,
                )
            except StoreUnreachableError:
                raise
            except RetrainingError as error:
                raise ChainBrokenError(f"{model} review {entry.sequence}: {error}") from error
            n_entries += 1
    return n_entries


def audit_incidents(store: Store, trust: TrustHistory, *, models: Sequence[str] = ()) -> int:
    """Verify every incident: who signed it, and that its reviews and its rollback say the same.

    Returns:
        How many there are.

    Raises:
        ChainBrokenError: At the first thing that does not hold; the message names the entry.
    """
    n_entries = 0
    for model in models or models_of(store):
        reviews = {link.digest: link.record for link in review_chain(store, trust, model).load()}
        registry = Registry(model, tuple(registry_chain(store, trust, model).load()))
        for entry in (link.record for link in incident_chain(store, trust, model).load()):
            try:
                for about, digest in zip(entry.about, entry.reviews, strict=True):
                    said = reviews.get(digest)
                    if said is None or (said.verb, said.about) != ("confirm", about):
                        raise ChainBrokenError(f"no review {digest} confirms what it is about.")
                if registry.before(entry.registry_head).version != entry.serving:
                    raise ChainBrokenError(f"version {entry.serving} did not serve then.")
                _require_its_rollback(store, trust, entry)
            except StoreUnreachableError:
                raise
            except RetrainingError as error:
                raise ChainBrokenError(f"{model} incident {entry.sequence}: {error}") from error
            n_entries += 1
    return n_entries


def audit_approvals(store: Store, trust: TrustHistory, *, models: Sequence[str] = ()) -> int:
    """Verify every approval: who signed it, and that it is about a week that its entry holds.

    Returns:
        How many there are.

    Raises:
        ChainBrokenError: At the first thing that does not hold; the message names the entry.
    """
    registries = (
        Registry(model, tuple(registry_chain(store, trust, model).load()))
        for model in models or models_of(store)
    )
    return sum(check_approvals(store, trust, registry) for registry in registries)


def _require_its_rollback(store: Store, trust: TrustHistory, entry: IncidentEntry) -> None:
    if entry.rollback is None:
        return
    known = trust.named(entry.trust_list)
    asked = open_result(store, known, "rollback", entry.rollback).expect(RollbackRequest).report
    if (
        (asked.model, asked.registry_head) != (entry.model, entry.registry_head)
        or (asked.gives_up, asked.to_version) != (entry.serving, entry.restore_to)
        or asked.convict != bool(entry.convict)
    ):
        raise ChainBrokenError(
            f"its request {entry.rollback} asks for another rollback. Whoever holds the reviewer's"
            " key wrote it by hand; find out why."
        )


def _report_of(
    store: Store,
    trust: TrustHistory,
    step: Step,
    entry: FeedbackEntry | MonitoringEntry,
    rehash: ArtefactCheck,
    report_type: type[R],
) -> R:
    where = f"{entry.model} {step} entry {entry.sequence}"
    try:
        known = trust.named(entry.trust_list)
        result = open_result(store, known, step, entry.attestation).expect(report_type)
        rehash([result.attestation.report, *result.attestation.artefacts.values()])
    except StoreUnreachableError:
        raise
    except RetrainingError as error:
        raise ChainBrokenError(f"{where}: {error}") from error
    _require_same(entry, result.attestation.model, entry.model)
    return result.report


def _require_same(entry: FeedbackEntry | MonitoringEntry, said: object, follows: object) -> None:
    if said != follows:
        raise ChainBrokenError(
            f"{entry.model} entry {entry.sequence}: the chain says something else than the report"
            f" {entry.attestation} that it names. Whoever holds the pipeline's key wrote it by"
            " hand; find out why."
        )


def _verify_entry(
    store: Store,
    trust: TrustHistory,
    registry: Registry,
    link: Link[RegistryEntry],
    rehash: ArtefactCheck,
) -> VerifiedDecision | VerifiedRollback:
    entry = link.record
    where = f"{entry.model} entry {entry.sequence} ({entry.week}, {entry.verdict})"
    try:
        before = registry.before(entry.previous)
        if entry.verdict == "ROLLBACK":
            return _verify_rollback(store, trust, entry, before, rehash)
        verified = _verify_concluded(store, trust, entry, before, rehash)
        if verified.decision.dry_run:
            raise ChainBrokenError("its decision was a dry run, which concludes nothing.")
        _require_derived(
            promotion.next_entry(
                verified, before, trust.named(entry.trust_list), approvals=entry.approvals
            ),
            entry,
        )
    except StoreUnreachableError:
        raise
    except RetrainingError as error:
        raise ChainBrokenError(f"{where}: {error}") from error
    return verified


def _verify_concluded(
    store: Store,
    trust: TrustHistory,
    entry: RegistryEntry,
    before: Registry,
    rehash: ArtefactCheck,
) -> VerifiedDecision:
    if not entry.approvals:
        return verify_decision(store, trust, entry.decision, before, rehash=rehash)
    named = entry.approvals
    return verify_approved(
        store, trust, entry.decision, before, now=None, named=named, rehash=rehash
    )[0]


def _verify_rollback(
    store: Store,
    trust: TrustHistory,
    entry: RegistryEntry,
    before: Registry,
    rehash: ArtefactCheck,
) -> VerifiedRollback:
    under = trust.named(entry.trust_list)
    verified = verify_rollback(store, trust, entry.decision, before, under=under, rehash=rehash)
    _require_derived(rollback.next_entry(verified, before, under), entry)
    return verified


def _require_derived(derived: RegistryEntry, entry: RegistryEntry) -> None:
    if derived == entry:
        return
    said, follows = entry.model_dump(mode="json"), derived.model_dump(mode="json")
    fields = sorted(name for name in said if said[name] != follows[name])
    raise ChainBrokenError(
        f"the entry says something else about {fields} than follows from its decision. Whoever"
        " holds the promoter's key wrote it by hand; find out why."
    )


def epsilon_of(entry: VerifiedEntry) -> float | None:
    """Epsilon of the week's training run, as our accounting gives it; None without training."""
    chain = entry.chain
    return (
        chain.training.epsilon if isinstance(chain, VerifiedDecision) and chain.training else None
    )
