"""Verifies that a week that was held may be promoted: its decision again, and who approved it.

Promotion runs this before it appends, against the registry whose newest entry holds the week, and
an auditor for every entry that names approvals. Only the clock is promotion's alone: a record says
when it expires, but nobody can prove to an auditor when it was used.
"""

from datetime import datetime

from retraining.approvals import Approvals, count, refuse_unapprovable
from retraining.digests import Digest
from retraining.errors import ApprovalRefusedError, ChainBrokenError
from retraining.registry import Registry
from retraining.store import Store
from retraining.trust_history import TrustHistory
from retraining.verify import ArtefactCheck, VerifiedDecision, verify_decision


def verify_approved(
    store: Store,
    trust: TrustHistory,
    decision: Digest,
    before: Registry,
    *,
    now: datetime | None,
    named: tuple[Digest, ...] | None = None,
    rehash: ArtefactCheck | None = None,
) -> tuple[VerifiedDecision, tuple[Digest, ...]]:
    """Verify a held week's decision, and that enough people approved it.

    Args:
        before: The registry that the promotion continues.
        now: The promoter's clock; None for an auditor.
        named: Only these approvals, which all have to count; all that there are when None.
        rehash: As for `verify_decision`.

    Returns:
        The verified decision, and the approvals that count.

    Raises:
        ApprovalRefusedError: It may not be approved, or too few people did.
        ChainBrokenError: The newest entry does not hold this decision, or its chain is broken.
    """
    newest = before.links[-1] if before.links else None
    if newest is None or (newest.record.decision, newest.record.verdict) != (decision, "HOLD"):
        raise ChainBrokenError(
            f"The newest entry of {before.model} is not the one that holds {decision}: it was"
            " promoted already, or another run was concluded since. Start the week again."
        )
    verified = verify_decision(
        store, trust, decision, before.before(newest.record.previous), rehash=rehash
    )
    policy = verified.people.policy(verified.pinned.spec)
    refuse_unapprovable(verified.decision, policy)
    approvals = Approvals.load(store, trust, before.model)
    counted = count(
        approvals.links if named is None else approvals.named(named),
        verified.decision,
        digest=decision,
        registry=before,
        trust_list=verified.pinned.run.trust_list,
        policy=policy,
        now=now,
    )
    if named is not None and counted.digests != named:
        raise ChainBrokenError(
            f"{len(named)} approvals are named and {len(counted.links)} of them count: the others"
            " are about something else, are no signature by a key where one is asked for, or are a"
            " second one of the same person."
        )
    if not counted.complete:
        n = counted.reviewers_lacking
        lacking = [f"{n} more reviewer{'s' * (n > 1)}"] if n else []
        lacking += ["an owner of its pipeline file"] if counted.owner_lacking else []
        raise ApprovalRefusedError(
            f"The signed decision for {before.model} {verified.decision.week} is HOLD, and"
            f" {' and '.join(lacking)} would have to sign it. Until then nothing is promoted,"
            " whatever a task's colour says:"
            f" {' and '.join(counted.commands(verified.decision, decision))}"
        )
    return verified, counted.digests


def check_approvals(store: Store, trust: TrustHistory, registry: Registry) -> int:
    """Verify every approval of a model; return how many there are.

    Raises:
        ChainBrokenError: One is not signed as it has to be, or is about a week that its registry
            entry does not hold.
    """
    links = Approvals.load(store, trust, registry.model).links
    for entry in (link.record for link in links):
        where = f"{registry.model} approval {entry.sequence}"
        try:
            known = registry.before(entry.registry_head).entries
        except ChainBrokenError as error:
            raise ChainBrokenError(f"{where}: {error}") from error
        holds = bool(known) and (known[-1].decision, known[-1].verdict) == (entry.decision, "HOLD")
        if entry.decision is not None and not holds:
            raise ChainBrokenError(
                f"{where}: the registry entry that it names holds no such decision. Whoever holds"
                f" the key of {entry.approver} wrote it by hand; find out why."
            )
    return len(links)
