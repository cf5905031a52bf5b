"""Verifies everything that a store holds, with the root's public key and nothing else.

An auditor runs this on a copy of the store: no network, no private key, no Airflow. What
promotion checked once, entry by entry, is checked again for every entry that there is, and each
registry entry is derived anew from its decision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retraining import promotion
from retraining.digests import Digest
from retraining.errors import ChainBrokenError, RetrainingError, StoreUnreachableError
from retraining.records import RegistryEntry
from retraining.registry import HeadMemory, Registry
from retraining.signed_chain import Link, TrustHistory, ledger_chain, registry_chain
from retraining.store import Store
from retraining.verify import ArtefactCheck, VerifiedDecision, verify_decision


@dataclass(frozen=True)
class VerifiedEntry:
    """One registry entry whose whole chain holds."""

    model: str
    link: Link[RegistryEntry]
    chain: VerifiedDecision


def models_of(store: Store) -> list[str]:
    """Every model that has a registry or a privacy ledger in the store."""
    names = [name for folder in ("registry", "ledger") for name in store.names(folder)]
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


def _verify_entry(
    store: Store,
    trust: TrustHistory,
    registry: Registry,
    link: Link[RegistryEntry],
    rehash: ArtefactCheck,
) -> VerifiedDecision:
    entry = link.record
    where = f"{entry.model} entry {entry.sequence} ({entry.week}, {entry.verdict})"
    try:
        before = registry.before(entry.previous)
        verified = verify_decision(store, trust, entry.decision, before, rehash=rehash)
        _require_conclusion(verified, entry, before, trust)
    except StoreUnreachableError:
        raise
    except RetrainingError as error:
        raise ChainBrokenError(f"{where}: {error}") from error
    return verified


def _require_conclusion(
    verified: VerifiedDecision, entry: RegistryEntry, before: Registry, trust: TrustHistory
) -> None:
    if verified.decision.dry_run:
        raise ChainBrokenError("its decision was a dry run, which concludes nothing.")
    derived = promotion.next_entry(verified, before, trust.named(entry.trust_list))
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
    return entry.chain.training.epsilon if entry.chain.training else None


def manifest_of(entry: VerifiedEntry) -> Digest | None:
    """The model that the week's decision was about; None when none was trained."""
    return entry.chain.decision.challenger
