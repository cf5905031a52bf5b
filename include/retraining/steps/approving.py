"""People approve: a week that was held, or a changed pipeline file. Checked, signed, appended.

An approval changes nothing by itself. That of a week is for promotion, which verifies the decision
and its whole chain again; that of a pipeline file is for the next run, which pins it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from retraining.approvals import (
    Counted,
    approval_chain,
    count,
    needs_reviewers,
    people_of,
    refuse_unapprovable,
    sign_spec_command,
)
from retraining.digests import Digest
from retraining.errors import ApprovalRefusedError, NameTakenError, RegistryMovedError
from retraining.evidence import Role, Signer, trusted_signer
from retraining.records import ApprovalEntry, GateDecision, moment_text
from retraining.records.approvals import UI_PREFIX
from retraining.registry import Registry
from retraining.signed_chain import Link
from retraining.spec import ApprovalPolicy, load_spec
from retraining.steps.workbench import Workbench
from retraining.verify import verify_decision

_SHORTEST_REASON = 3  # characters, as in the record


@dataclass(frozen=True, kw_only=True)
class AskedWeek:
    """A held week that may be approved, and how far that is.

    Attributes:
        decision: Payload digest of the gate's attestation.
        held_by: The registry entry that holds the week.
        policy: The rules in force for it.
        counted: Approvals that count now, and who is lacking.
    """

    decision: Digest
    report: GateDecision
    held_by: Digest
    policy: ApprovalPolicy
    counted: Counted

    @property
    def commands(self) -> str:
        """What those who are lacking type."""
        return " and ".join(self.counted.commands(self.report, self.decision))


def asked_week(bench: Workbench, decision: Digest) -> AskedWeek:
    """How far the approval of that decision is; verifies who signed what, and not the whole chain.

    Raises:
        ApprovalRefusedError: It cannot be approved; the message says why.
        RegistryMovedError: Not any more: the code or the trust list changed.
    """
    report = bench.decision(decision).report
    registry = bench.registry(report.model)
    newest = registry.links[-1] if registry.links else None
    if newest is None or newest.record.decision != decision:
        said = "a dry run" if report.dry_run else report.verdict
        raise ApprovalRefusedError(
            f"The decision on {report.model} {report.week} ({said}) is not what the registry holds"
            " now: it was concluded otherwise, or another run was concluded since. Start the week"
            " again."
        )
    if newest.record.verdict == "PROMOTE":
        raise ApprovalRefusedError(
            f"{report.model} {report.week} was promoted already: version {newest.record.version}."
        )
    pinned = bench.pinned(report.pinned_run)
    if pinned.run.trust_list != bench.trust.latest.digest:
        raise RegistryMovedError(
            "The trust list changed since this run was pinned. Start the week again."
        )
    before = registry.before(newest.record.previous)
    policy = people_of(bench.store, bench.trust, pinned.run, before).policy(pinned.spec)
    refuse_unapprovable(report, policy)
    counted = count(
        bench.approvals(report.model).links,
        report,
        digest=decision,
        registry=registry,
        trust_list=pinned.run.trust_list,
        policy=policy,
        now=datetime.now(UTC),
    )
    return AskedWeek(
        decision=decision, report=report, held_by=newest.digest, policy=policy, counted=counted
    )


def commands_to_approve(bench: Workbench, decision: Digest) -> str:
    """What people type to approve that decision; empty when nobody can."""
    try:
        return asked_week(bench, decision).commands
    except (ApprovalRefusedError, RegistryMovedError):
        return ""


def held_decision(bench: Workbench, run: Digest) -> Digest | None:
    """The decision that the newest registry entry holds, if it is that of the pinned run `run`."""
    pinned = bench.pinned(run)
    registry = bench.registry(pinned.run.model)
    newest = registry.entries[-1] if registry.links else None
    if newest is None or newest.verdict == "ROLLBACK":
        return None
    report = bench.decision(newest.decision).report
    return newest.decision if report.pinned_run == run else None


def approve(
    bench: Workbench,
    decision: Digest,
    *,
    why: str,
    key: Path | None = None,
    expires_hours: int | None = None,
) -> Link[ApprovalEntry]:
    """Approve a held week with a reviewer's key, after verifying its whole chain.

    Args:
        key: The reviewer's private key; the installation's own when not given.
        expires_hours: For how long it counts; as long as the pipeline file allows when None.

    Raises:
        ApprovalRefusedError: It cannot be approved, no reason is given, or this key did already.
        ConfigError: The key is not that of a reviewer.
        ChainBrokenError: The decision's chain does not verify; nobody can approve that.
    """
    signer = _signer(bench, "reviewer", key)
    return _approve(
        bench, decision, signer, signer.public_key.keyid, why=why, expires_hours=expires_hours
    )


def approve_in_ui(
    bench: Workbench, decision: Digest, *, user: str, why: str
) -> Link[ApprovalEntry]:
    """Record that somebody said yes in Airflow, signed by the promoter: the weaker form.

    Args:
        user: As Airflow names who answered.

    Raises:
        ApprovalRefusedError: As `approve`, and where the pipeline file wants keys.
    """
    if not user.strip():
        raise ApprovalRefusedError("Airflow does not say who answered, so nobody approved it.")
    asked = asked_week(bench, decision)
    if not asked.policy.in_ui:
        raise ApprovalRefusedError(
            "The pipeline file in force (approval.in_ui) counts no answer in Airflow. A reviewer"
            f" signs: {asked.commands}"
        )
    signer = bench.keys.signer("promoter", bench.trust.latest)
    return _approve(bench, decision, signer, f"{UI_PREFIX}{user.strip()}", why=why)


def sign_spec(
    bench: Workbench, model: str, *, why: str, key: Path | None = None
) -> Link[ApprovalEntry]:
    """Sign the pipeline file as it is now, as its owner; the next run takes it along.

    Args:
        key: The owner's private key; the installation's own when not given.

    Raises:
        ApprovalRefusedError: No reason is given, or this owner has signed it since the champion
            last changed.
        SpecError, ConfigError: The pipeline file is wrong, or the key is not that of an owner.
    """
    spec = load_spec(bench.settings.pipelines / f"{model}.yaml")
    signer = _signer(bench, "owner", key)
    registry = bench.registry(model)
    resolved = bench.store.put(spec.to_json())  # so that an auditor sees what was signed
    return _append(
        bench,
        registry,
        signer,
        why=why,
        spec=resolved,
        registry_head=registry.head,
        approver=signer.public_key.keyid,
    )


def _approve(
    bench: Workbench,
    decision: Digest,
    signer: Signer,
    approver: str,
    *,
    why: str,
    expires_hours: int | None = None,
) -> Link[ApprovalEntry]:
    asked = asked_week(bench, decision)
    if not needs_reviewers(asked.report):
        raise ApprovalRefusedError(
            f"{asked.report.model} {asked.report.week} is held for its pipeline file alone, which"
            f" an owner signs: {sign_spec_command(asked.report.model)}"
        )
    if asked.counted.by(approver):
        more = asked.commands or "nothing more is needed"
        raise ApprovalRefusedError(
            f"{approver} has approved this already, and counts once; still needed: {more}."
        )
    hours = asked.policy.expires_hours if expires_hours is None else expires_hours
    if not 1 <= hours <= asked.policy.expires_hours:
        raise ApprovalRefusedError(
            f"Found {hours} hours, expected 1 to {asked.policy.expires_hours}, as the pipeline file"
            " in force says (approval.expires_hours)."
        )
    registry = bench.registry(asked.report.model)
    before = registry.before(registry.before(asked.held_by).links[-1].record.previous)
    verified = verify_decision(bench.store, bench.trust, decision, before)
    if not verified.replayed:
        raise RegistryMovedError(
            "The code changed since this run was pinned. Start the week again."
        )
    return _append(
        bench,
        registry,
        signer,
        why=why,
        decision=decision,
        registry_head=asked.held_by,
        approver=approver,
        strength="ui" if approver.startswith(UI_PREFIX) else "signed",
        expires_on=moment_text(datetime.now(UTC) + timedelta(hours=hours)),
    )


def _append(
    bench: Workbench, registry: Registry, signer: Signer, *, why: str, **said: Any
) -> Link[ApprovalEntry]:
    if len(why.strip()) < _SHORTEST_REASON:
        raise ApprovalRefusedError("Say why: the reason goes on record.")
    trust, known = bench.trust.latest, bench.approvals(registry.model)
    entry = ApprovalEntry(
        model=registry.model,
        sequence=len(known.links) + 1,
        previous=known.head,
        why=why.strip(),
        trust_list=trust.digest,
        trust_version=trust.version,
        **said,
    )
    try:
        link = approval_chain(bench.store, bench.trust, registry.model).append(entry, signer)
    except NameTakenError as error:
        raise RegistryMovedError(
            f"Somebody else approved something of {registry.model} at the same time. Start again."
        ) from error
    bench.log(f"approval {registry.model}: by {entry.approver} [{link.digest}]")
    return link


def _signer(bench: Workbench, role: Role, key: Path | None) -> Signer:
    trust = bench.trust.latest
    return trusted_signer(key, role, trust) if key else bench.keys.signer(role, trust)
