"""Which held weeks may be approved at all, and which approvals of one count. Pure.

A decision is approved by the rules under which it was made. Each failed check needs somebody: a
changed pipeline file an owner's signature, every other one the reviewers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from retraining.digests import Digest
from retraining.errors import ApprovalRefusedError
from retraining.records import ApprovalEntry, GateDecision
from retraining.registry import Registry
from retraining.signed_chain import Link
from retraining.spec import ApprovalPolicy

_OWNERS_CHECK = "spec"
_SIGN = "--key KEY --why WHY"
_ASKED_FOR = {"approval": "always", "purge": "on_purge", _OWNERS_CHECK: "on_changed_spec"}
# Checks that nobody's approval replaces, and what does.
_NOT_BY_APPROVAL = {
    "training": "it has to be trained: start the week again",
    "validation": "it has to be measured: start the week again",
}


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The approvals of a held week that count, one per person, in the order of the chain.

    Attributes:
        reviewers_lacking: How many more reviewers have to sign.
        owner_lacking: Whether an owner still has to sign the pipeline file.
    """

    links: tuple[Link[ApprovalEntry], ...]
    reviewers_lacking: int
    owner_lacking: bool

    @property
    def complete(self) -> bool:
        """Whether nobody else is needed."""
        return not (self.reviewers_lacking or self.owner_lacking)

    @property
    def digests(self) -> tuple[Digest, ...]:
        """What the registry entry names."""
        return tuple(link.digest for link in self.links)

    def by(self, approver: str) -> bool:
        """Whether that person has approved the week."""
        said = (link.record for link in self.links)
        return any(entry.approver == approver and entry.decision for entry in said)

    def commands(self, decision: GateDecision, digest: Digest) -> tuple[str, ...]:
        """What those who are lacking type: the reviewers, then an owner.

        Args:
            digest: Of the decision's attestation, or of its report.
        """
        by_reviewers = (f"retraining approve {digest} {_SIGN}",) if self.reviewers_lacking else ()
        by_owner = (sign_spec_command(decision.model),) if self.owner_lacking else ()
        return by_reviewers + by_owner


def sign_spec_command(model: str) -> str:
    """What an owner types to answer for a pipeline file."""
    return f"retraining approve --spec {model} {_SIGN}"


def needs_reviewers(decision: GateDecision) -> bool:
    """Whether any failed check is one that reviewers decide about."""
    return any(check.name != _OWNERS_CHECK for check in decision.failed())


def needs_owner(decision: GateDecision) -> bool:
    """Whether the week is held for its pipeline file, too."""
    return any(check.name == _OWNERS_CHECK for check in decision.failed())


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
    needed = {_ASKED_FOR.get(name, "on_hold") for name in failed}
    if lacking := sorted(needed - set(policy.ask)):
        raise ApprovalRefusedError(
            f"{what} cannot be approved: the pipeline file in force asks nobody {lacking}"
            f" (approval.ask is {list(policy.ask)}). Do what its failed checks say."
        )


def asked_of(decision: GateDecision, policy: ApprovalPolicy) -> Counted:
    """Who has to sign a decision that nobody has approved yet.

    Raises:
        ApprovalRefusedError: No approval can promote it; see `refuse_unapprovable`.
    """
    refuse_unapprovable(decision, policy)
    return _counted((), decision, policy)


def since_last_champion(registry: Registry) -> frozenset[Digest | None]:
    """Registry heads at which the serving model served already, the newest included.

    An owner's signature was made at one of them, or is spent: else an old signature would bring an
    old pipeline file back. A place in the registry says so, which no clock decides.
    """
    heads = [link.digest for link in registry.links]
    changes = [n for n, e in enumerate(registry.entries) if e.verdict in ("PROMOTE", "ROLLBACK")]
    return frozenset(heads[changes[-1] :] if changes else [None, *heads])


def count(
    approvals: Sequence[Link[ApprovalEntry]],
    decision: GateDecision,
    *,
    digest: Digest,
    registry: Registry,
    trust_list: Digest,
    policy: ApprovalPolicy,
    now: datetime | None,
) -> Counted:
    """Count the approvals of a held week.

    Args:
        digest: Of the decision's attestation.
        registry: Its newest entry holds the week.
        trust_list: The list of the run: an approval under another one may be of a key that was
            taken off.
        now: The promoter's clock; None for an auditor, who has nobody's word for the time.
    """
    since = since_last_champion(registry)
    found: dict[tuple[str, bool], Link[ApprovalEntry]] = {}
    for link in approvals:
        entry = link.record
        if entry.trust_list != trust_list:
            continue
        if entry.spec is not None:
            counts = (
                needs_owner(decision)
                and entry.spec == decision.spec
                and entry.registry_head in since
            )
        else:
            counts = (
                needs_reviewers(decision)
                and (entry.decision, entry.registry_head) == (digest, registry.head)
                and (entry.strength == "signed" or policy.in_ui)
                and (now is None or _stands(entry, policy, now))
            )
        if counts:
            found.setdefault((entry.approver, entry.spec is not None), link)
    return _counted(tuple(found.values()), decision, policy)


def _counted(
    links: tuple[Link[ApprovalEntry], ...], decision: GateDecision, policy: ApprovalPolicy
) -> Counted:
    owners = sum(link.record.spec is not None for link in links)
    reviewers = policy.reviewers if needs_reviewers(decision) else 0
    return Counted(
        links=links,
        reviewers_lacking=max(reviewers - (len(links) - owners), 0),
        owner_lacking=needs_owner(decision) and not owners,
    )


def _stands(entry: ApprovalEntry, policy: ApprovalPolicy, now: datetime) -> bool:
    """Whether it has not expired, and does not claim to stand longer than anyone may say."""
    longest = timedelta(hours=policy.expires_hours)
    return entry.expiry is not None and now < entry.expiry <= now + longest
