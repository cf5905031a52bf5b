"""Which held weeks may be approved at all, and which approvals of one count. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from retraining.digests import Digest
from retraining.errors import ApprovalRefusedError
from retraining.records import ApprovalEntry, GateDecision
from retraining.signed_chain import Link
from retraining.spec import ApprovalPolicy

# Checks that nobody's approval replaces, and what does.
_NOT_BY_APPROVAL = {
    "spec": "an owner has to sign the pipeline file, then the week is started again",
    "training": "it has to be trained",
    "validation": "it has to be measured: start the week again",
}


def refuse_unapprovable(decision: GateDecision, policy: ApprovalPolicy) -> None:
    """Raise ApprovalRefusedError when no approval can promote this decision's challenger.

    Args:
        policy: The rules in force for its run.
    """
    what = f"{decision.model} {decision.week}"
    if decision.verdict == "REJECT":
        raise ApprovalRefusedError(
            f"{what} was REJECTED, and nobody can approve that: there is evidence against this"
            " model. Do what its failed checks say, and start the week again."
        )
    if decision.verdict != "HOLD" or decision.dry_run:
        found = "a dry run" if decision.dry_run else decision.verdict
        raise ApprovalRefusedError(f"{what} is {found}, so there is nothing to approve.")
    if decision.challenger is None:
        raise ApprovalRefusedError(
            f"{what} has no challenger, so there is nothing to promote. Do what its failed checks"
            " say, and start the week again."
        )
    failed = {check.name for check in decision.failed()}
    for name, instead in _NOT_BY_APPROVAL.items():
        if name in failed:
            raise ApprovalRefusedError(f"{what} is held by the check {name}: {instead}.")
    needed = {_asked_for(name) for name in failed}
    if lacking := sorted(needed - set(policy.ask)):
        raise ApprovalRefusedError(
            f"{what} cannot be approved: the pipeline file in force asks nobody {lacking}"
            f" (approval.ask is {list(policy.ask)}). Do what its failed checks say."
        )


def _asked_for(check: str) -> str:
    return {"approval": "always", "purge": "on_purge"}.get(check, "on_hold")


def counting(
    approvals: Sequence[Link[ApprovalEntry]],
    *,
    decision: Digest,
    held_by: Digest,
    trust_list: Digest,
    policy: ApprovalPolicy,
    now: datetime | None,
) -> tuple[Link[ApprovalEntry], ...]:
    """The approvals of a decision that count: one per person, in the order of the chain.

    Args:
        held_by: The registry entry that holds the week.
        trust_list: The list of the run: an approval under another one may be of a key that was
            taken off.
        now: The promoter's clock; None for an auditor, who has nobody's word for the time.
    """
    found: dict[str, Link[ApprovalEntry]] = {}
    for link in approvals:
        entry = link.record
        about = (entry.decision, entry.registry_head, entry.trust_list)
        if about != (decision, held_by, trust_list):
            continue
        if entry.strength == "ui" and not policy.in_ui:
            continue
        if now is not None and not _stands(entry, policy, now):
            continue
        found.setdefault(entry.approver, link)
    return tuple(found.values())


def still_needed(counted: Sequence[Link[ApprovalEntry]], policy: ApprovalPolicy) -> int:
    """How many more people have to approve."""
    return max(policy.reviewers - len(counted), 0)


def _stands(entry: ApprovalEntry, policy: ApprovalPolicy, now: datetime) -> bool:
    """Whether it has not expired, and does not claim to stand longer than anyone may say."""
    longest = timedelta(hours=policy.expires_hours)
    return entry.expiry is not None and now < entry.expiry <= now + longest
