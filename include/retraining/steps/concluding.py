"""Gate and promotion: the one decision, and the next entry of the registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from retraining import gate, promotion
from retraining.approvals import people_of
from retraining.chains import registry_chain
from retraining.digests import Digest
from retraining.errors import ChainBrokenError, NameTakenError, RegistryMovedError
from retraining.gate_report import store_page
from retraining.recording import StepResult
from retraining.records import (
    GateDecision,
    ProvenanceReport,
    PurgeReport,
    RegistryEntry,
    ScreeningReport,
    TrainingReport,
    ValidationReport,
)
from retraining.registry import Registry
from retraining.signed_chain import Link
from retraining.step_requests import PinnedContext, input_of
from retraining.steps.workbench import Workbench
from retraining.verify import VerifiedDecision, verify_decision
from retraining.verify.approved import verify_approved


@dataclass(frozen=True)
class RoundDigests:
    """Attestations of a purge, and of the training and validation that came of it."""

    purge: Digest
    training: Digest | None
    validation: Digest | None


def decide(
    bench: Workbench,
    run: Digest,
    *,
    provenance: Sequence[Digest],
    screening: Digest,
    training: Digest | None,
    validation: Digest | None,
    rounds: Sequence[RoundDigests] = (),
) -> StepResult[GateDecision]:
    """Turn the reports of all steps into the week's one signed decision.

    HOLD and REJECT are appended to the registry here; PROMOTE is by promotion.

    Args:
        training, validation: Of the first challenger.
        rounds: Purges, and the challengers that came of them.

    Raises:
        RegistryMovedError: Another run concluded since this one was pinned.
    """
    pinned = bench.pinned(run)
    registry = bench.registry(pinned.run.model)
    if earlier := _concluded(bench, pinned, registry):
        return earlier
    if registry.head != pinned.run.registry_head:
        raise RegistryMovedError(
            f"Another run of {pinned.run.model} concluded since this one was pinned, so its"
            " comparison is stale. Start the week again."
        )
    recorder = bench.recorder(pinned)
    started = recorder.started()
    inputs = {"pin": run, "screening": screening}
    sources = {}
    for digest in provenance:
        verified = bench.open(pinned, "provenance", digest, ProvenanceReport)
        batch = verified.report.batch
        sources[batch] = verified.report
        inputs[f"provenance/{batch.source}/{batch.week}"] = digest
        inputs[f"ingest/{batch.source}/{batch.week}"] = verified.attestation.inputs["ingest"]
    measured = [_opened(bench, pinned, training, validation)]
    measured += [_opened(bench, pinned, named.training, named.validation) for named in rounds]
    purges = [bench.open(pinned, "purge", named.purge, PurgeReport).report for named in rounds]
    people = people_of(bench.store, bench.trust, pinned.run, registry)
    decision = gate.decide(
        pinned.run,
        run,
        pinned.spec,
        [sources[batch] for batch in pinned.batches() if batch in sources],
        bench.open(pinned, "screening", screening, ScreeningReport).report,
        *measured[0],
        [gate.Round(left, *again) for left, again in zip(purges, measured[1:], strict=True)],
        people=people,
    )
    # The judged challenger's records have the plain names, whichever of the run's it is.
    named_rounds = [(training, validation), *((r.training, r.validation) for r in rounds)]
    for number, (trained, validated) in enumerate(named_rounds, start=1):
        of = input_of(number, judged=decision.judged)
        inputs |= {of("training"): trained} if trained else {}
        inputs |= {of("validation"): validated} if validated else {}
    inputs |= {f"purge/{number}": named.purge for number, named in enumerate(rounds, start=1)}
    trust = bench.trust.named(pinned.run.trust_list)
    artefacts = {"model": decision.challenger} if decision.challenger else {}
    artefacts |= store_page(bench.store, trust, people, decision, inputs)
    result = recorder.conclude(
        "gate",
        decision,
        model=pinned.run.model,
        week=pinned.run.week,
        request=pinned.gate(inputs),
        started_on=started,
        inputs=inputs | ({"registry-head": registry.head} if registry.head else {}),
        artefacts=artefacts,
        policy=pinned.run.policy,
        passed=decision.verdict == "PROMOTE",
        memo=False,
    )
    if decision.verdict != "PROMOTE" and not decision.dry_run:
        _append(bench, result.attestation.digest, registry)
    bench.mirror.decided(pinned.run, decision)
    return result


def _opened(
    bench: Workbench, pinned: PinnedContext, training: Digest | None, validation: Digest | None
) -> tuple[TrainingReport | None, ValidationReport | None]:
    return (
        bench.open(pinned, "training", training, TrainingReport).report if training else None,
        bench.open(pinned, "validation", validation, ValidationReport).report
        if validation
        else None,
    )


def promote(
    bench: Workbench, decision: Digest, *, now: datetime | None = None
) -> Link[RegistryEntry]:
    """Verify the decision and its whole chain, and append the new champion.

    A week that was held is promoted when its entry is the newest and enough people approved it.

    Nothing that Airflow says is believed: whoever marks the gate green, or writes its XCom,
    arrives here with no signed PROMOTE, or approval, for the current registry head.

    Args:
        now: When approvals have to stand; the clock's time when None.

    Raises:
        ChainBrokenError: The decision is not what it claims, or says no.
        ApprovalRefusedError: It is HOLD, and may not be approved, or too few people did.
        RegistryMovedError: It was made before the newest registry entry.
    """
    registry = bench.registry(bench.decision(decision).attestation.model)
    newest = registry.links[-1] if registry.links else None
    if newest and newest.record.decision == decision and newest.record.verdict == "PROMOTE":
        return newest  # a retry after the append: promoted exactly once
    if newest and newest.record.decision == decision and newest.record.verdict == "HOLD":
        verified, approvals = verify_approved(
            bench.store, bench.trust, decision, registry, now=now or datetime.now(UTC)
        )
        link = _write(bench, verified, registry, approvals)
    else:
        link = _append(bench, decision, registry, must_promote=True)
    bench.log(f"promotion {registry.model} {link.record.week} [{link.digest}]")
    bench.mirror.promoted(link.record)
    return link


def _append(
    bench: Workbench, decision: Digest, registry: Registry, *, must_promote: bool = False
) -> Link[RegistryEntry]:
    verified = verify_decision(bench.store, bench.trust, decision, registry)
    if must_promote and not verified.decision.promotes:
        raise ChainBrokenError(
            f"The signed decision for {registry.model} {verified.decision.week} is"
            f" {verified.decision.verdict}{', a dry run' * verified.decision.dry_run}, so"
            " nothing is promoted, whatever the task's colour says."
        )
    return _write(bench, verified, registry)


def _write(
    bench: Workbench,
    verified: VerifiedDecision,
    registry: Registry,
    approvals: tuple[Digest, ...] = (),
) -> Link[RegistryEntry]:
    if not verified.replayed:
        raise RegistryMovedError(
            "The code changed since this run was pinned, so its decision cannot be checked any"
            " more. Start the week again."
        )
    trust = bench.trust.named(verified.pinned.run.trust_list)
    if trust.digest != bench.trust.latest.digest:
        raise RegistryMovedError(
            "The trust list changed since this run was pinned. Start the week again."
        )
    entry = promotion.next_entry(verified, registry, trust, approvals=approvals)
    chain = registry_chain(bench.store, bench.trust, registry.model)
    try:
        link = chain.append(entry, bench.keys.signer("promoter", trust))
    except NameTakenError as error:
        raise RegistryMovedError(
            f"Another run of {registry.model} was concluded first; this decision is stale."
            " Start the week again."
        ) from error
    bench.memory.remember(Registry(registry.model, (*registry.links, link)))
    return link


def _concluded(
    bench: Workbench, pinned: PinnedContext, registry: Registry
) -> StepResult[GateDecision] | None:
    """The decision of this very run, when the gate was killed after it had appended it."""
    if not registry.links or registry.links[-1].record.verdict == "ROLLBACK":
        return None
    earlier = bench.decision(registry.links[-1].record.decision)
    if earlier.report.pinned_run == pinned.digest:
        return StepResult(earlier.attestation, earlier.report, reused=True)
    return None
