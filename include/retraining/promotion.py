"""Promotion: a verified decision becomes the next entry of the registry.

Pure: what the entry says follows from the verified chain and the registry before it, so an
auditor can derive it again and compare. HOLD and REJECT are entries too: the next run has to
know that the week was looked at.
"""

from retraining.digests import Digest
from retraining.evidence import TrustList
from retraining.records import RegisteredBatch, RegistryEntry, ScreenedBatch, WindowBlock
from retraining.registry import Registry
from retraining.verify import VerifiedDecision


def next_entry(
    verified: VerifiedDecision,
    before: Registry,
    trust: TrustList,
    *,
    approvals: tuple[Digest, ...] = (),
) -> RegistryEntry:
    """The registry entry that a verified decision leads to.

    Args:
        before: The registry that it continues; with `approvals`, its newest entry holds the week.
        approvals: Of a week that was held, verified, and enough of them.
    """
    decision, run = verified.decision, verified.pinned.run
    promoted = decision.verdict == "PROMOTE" or bool(approvals)
    provenance = {report.batch: report for report in verified.provenance}
    left = {block.batch: block for block in verified.purge.blocks} if verified.purge else {}
    batches = tuple(
        _registered(screened, provenance[screened.batch].sequence, left.get(screened.batch))
        for screened in verified.screening.batches
    )
    return RegistryEntry(
        model=run.model,
        sequence=len(before.links) + 1,
        previous=before.head,
        verdict="PROMOTE" if promoted else decision.verdict,
        week=run.week,
        attempt=run.attempt,
        decision=verified.digest,
        decision_report=decision.identity,
        spec=run.spec,
        policy=run.policy,
        trust_list=trust.digest,
        trust_version=trust.version,
        batches=batches,
        ledger_head=verified.training.ledger_head if verified.training else None,
        champion=decision.challenger if promoted else before.champion,
        version=len(before.promotions) + 1 if promoted else before.version,
        approvals=approvals,
    )


def _registered(
    screened: ScreenedBatch, sequence: int | None, left: WindowBlock | None
) -> RegisteredBatch:
    """A batch as the judged challenger learned from it: what was purged never becomes history."""
    code = screened.refusal.code if screened.refusal else None
    return RegisteredBatch(
        batch=screened.batch,
        batch_digest=screened.batch_digest,
        sequence=sequence,
        n_rows=screened.n_rows,
        n_quarantined=screened.n_quarantined + (left.n_purged if left else 0),
        accepted=left.rows if left else screened.accepted,
        refusal_code="purged" if left and left.rows is None else code,
    )
