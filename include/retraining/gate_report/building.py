"""From signed records to the page: what is shown of them, in which order, in which words."""

from collections.abc import Iterable, Iterator, Sequence

from retraining.approvals import Counted, asked_of
from retraining.errors import ApprovalRefusedError
from retraining.gate_report.page import (
    Behaviour,
    CalibrationBin,
    ComparedMetric,
    Finding,
    NamedRecord,
    Page,
    Privacy,
    Purged,
    PurgedRound,
    SourceBatch,
    TracedCheck,
)
from retraining.gate_report.reading import SignedRecords
from retraining.intervals import wilson
from retraining.records import (
    BehaviourReport,
    BehaviourResult,
    GateDecision,
    ProvenanceReport,
    PurgeReport,
    ScreenedBatch,
    ValidationReport,
    WindowBlock,
)
from retraining.spec import GatePolicy, Metric

WHOLE = "all"  # the slice that is the whole holdout
_MAX_NAMED = 3
_LESS_IS_BETTER: tuple[Metric, ...] = ("calibration_error",)


def build_page(decision: GateDecision, signed: SignedRecords) -> Page:
    """The page about `decision`, which was made from these records."""
    pinned, gate, validation = signed.pinned, signed.spec.gate, signed.validation
    failed = decision.failed()
    passed = tuple(check for check in decision.checks if check.verdict == "PROMOTE")
    screened = {batch.batch: batch for batch in signed.screening.batches}
    asked = _asked(decision, signed)
    page = Page(
        model=decision.model,
        week=decision.week,
        attempt=pinned.attempt,
        verdict=decision.verdict,
        dry_run=decision.dry_run,
        headline=_headline(decision),
        next_steps=tuple(dict.fromkeys(c.next_step for c in failed if c.next_step)),
        approve=asked.commands(decision, decision.identity) if asked else (),
        reviewers=asked.reviewers_lacking if asked else 0,
        checks=(*failed, *passed),
        decision=decision.identity,
        challenger=decision.challenger,
        champion=decision.champion,
        margin=gate.margin,
        harm=gate.harm,
        confidence=validation.confidence if validation else None,
        comparisons=tuple(_comparisons(validation, gate)) if validation else (),
        calibration=tuple(
            CalibrationBin(confidence=sure, correct=wilson(right, n_rows), n_rows=n_rows)
            for sure, right, n_rows in (validation.calibration_bins if validation else ())
        ),
        sources=tuple(_source(report, screened.get(report.batch)) for report in signed.provenance),
        left_out=pinned.left_out,
        screening_sentences=signed.screening.sentences,
        screening_refusal=signed.screening.refusal,
        purged=_purged(signed.screening.window),
        rounds=tuple(_rounds(decision, signed.purges)),
        feedback=signed.screening.feedback,
        behaviour=_behaviour(validation.behaviour) if validation and validation.behaviour else None,
        privacy=_privacy(signed),
        records=tuple(_records(signed)),
        pinned={
            name: digest
            for name in ("spec", "policy", "code_version", "trust_list", "reference", "holdout")
            if (digest := getattr(pinned, name))
        }
        | ({"registry_head": decision.registry_head} if decision.registry_head else {}),
        trust_version=signed.trust.version,
        signer_keys=_signer_keys(signed),
    )
    # As its JSON says it, names sorted: whoever has only that draws the same bytes.
    return Page.from_json(page.to_json())


def _headline(decision: GateDecision) -> str:
    failed = decision.failed()
    n_checks = len(decision.checks)
    if not failed:
        follows = (
            "a dry run, so nothing is promoted" if decision.dry_run else "promotion may follow"
        )
        return f"All {n_checks} checks passed; {follows}."
    serving = (
        "The champion keeps serving, so nothing is broken"
        if decision.champion
        else "No model serves"
    )
    surely = [check for check in failed if check.verdict == "REJECT"]
    why = (
        f"{len(surely)} of {n_checks} checks found the challenger surely bad"
        if surely
        else f"{len(failed)} of {n_checks} checks did not pass"
    )
    names = [check.name for check in surely or failed]
    more = f" and {len(names) - _MAX_NAMED} more" * (len(names) > _MAX_NAMED)
    return f"Not promoted: {why} ({', '.join(names[:_MAX_NAMED])}{more}). {serving}."


def _asked(decision: GateDecision, signed: SignedRecords) -> Counted | None:
    """Whom the gate leaves the decision to; None when nobody can approve it."""
    try:
        return asked_of(decision, signed.people.policy(signed.spec))
    except ApprovalRefusedError:
        return None


def _comparisons(validation: ValidationReport, policy: GatePolicy) -> Iterator[ComparedMetric]:
    judged_slices = {WHOLE, *(part.name for part in policy.slices)}
    for part in validation.slices:
        for metric in sorted({*part.challenger, *part.champion, *part.difference}):
            yield ComparedMetric(
                metric=metric,
                slice=part.slice,
                n_rows=part.n_rows,
                challenger=part.challenger.get(metric),
                champion=part.champion.get(metric),
                difference=part.difference.get(metric),
                judged=metric in policy.compared and part.slice in judged_slices,
                less_is_better=metric in _LESS_IS_BETTER,
            )


def _purged(blocks: Iterable[WindowBlock]) -> tuple[Purged, ...]:
    return tuple(
        Purged(
            batch=block.batch,
            n_rows=block.n_rows,
            n_purged=block.n_purged,
            learned_by=block.learned_by,
        )
        for block in blocks
        if block.n_purged
    )


def _rounds(decision: GateDecision, purges: Sequence[PurgeReport]) -> Iterator[PurgedRound]:
    """Each purge, with the verdict on the challenger before it."""
    for number, purge in enumerate(purges):
        again = number < len(decision.earlier)
        verdict, checks = decision.verdict, decision.checks
        if again:
            verdict, checks = decision.earlier[number].verdict, decision.earlier[number].checks
        yield PurgedRound(
            challenger=purge.challenger,
            verdict=verdict,
            failed=tuple(check for check in checks if check.verdict != "PROMOTE"),
            traced=tuple(
                TracedCheck(
                    check=found.check,
                    pattern_columns=found.pattern.columns if found.pattern else (),
                    by_batch=found.by_batch,
                    n_users=found.n_users,
                    precision=found.precision,
                )
                for found in purge.traced
            ),
            sources=purge.sources,
            purged=_purged(purge.blocks),
            n_purged=purge.n_purged,
            again=again,
            refusal=purge.refusal,
        )


def _source(arrived: ProvenanceReport, screened: ScreenedBatch | None) -> SourceBatch:
    seen = screened or ScreenedBatch(batch=arrived.batch)
    return SourceBatch(
        batch=arrived.batch,
        trust=arrived.trust,
        signature=arrived.signature,
        key_id=arrived.key_id,
        risk_score=arrived.risk_score,
        risk_reasons=arrived.risk_reasons,
        n_rows=seen.n_rows,
        n_accepted=seen.n_accepted,
        n_quarantined=seen.n_quarantined,
        quarantined=seen.quarantined,
        poison_share=seen.poison_share,
        evidence=seen.source_evidence,
        refusal=arrived.refusal or seen.refusal,
    )


def _behaviour(report: BehaviourReport) -> Behaviour:
    return Behaviour(
        findings=tuple(map(_finding, report.results)),
        false_alarm_rate=report.false_alarm_rate,
        power=report.power,
        disagreements=report.disagreements,
        n_judging=report.n_judging,
    )


def _finding(result: BehaviourResult) -> Finding:
    return Finding(
        name=result.name,
        measure=result.measure,
        statistic=result.statistic,
        p_value=result.p_value,
        null=result.null,
        n_null=result.n_null,
        null_quantiles=result.null_quantiles,
        insufficient=result.insufficient,
        sentence=result.sentence,
        pattern_columns=result.pattern.columns if result.pattern else (),
        pattern_label=result.pattern.label if result.pattern else "",
        from_class=result.from_class,
        to_class=result.to_class,
        by_source=result.by_source,
        traced=result.traced,
        n_traced=result.n_traced,
    )


def _privacy(signed: SignedRecords) -> Privacy | None:
    training, policy = signed.training, signed.spec.training
    if training is None:
        return None
    return Privacy(
        epsilon=training.epsilon,
        delta=training.delta,
        allowed_per_run=policy.epsilon_per_run,
        by_batch=training.epsilon_by_block,
        allowed_per_batch=policy.epsilon_per_block,
    )


def _records(signed: SignedRecords) -> Iterator[NamedRecord]:
    for name, result in signed.results.items():
        attestation = result.attestation
        yield NamedRecord(
            name=name,
            attestation=attestation.digest,
            report=attestation.report,
            key_id=attestation.key_id,
        )


def _signer_keys(signed: SignedRecords) -> dict[str, str]:
    """Of the records, and of whoever may have signed the decision."""
    signers = {result.attestation.key_id for result in signed.results.values()}
    return {
        key_id: str(known.key["keyval"]["public"])
        for key_id, known in sorted(signed.trust.keys.items())
        if known.key["scheme"] == "ed25519" and (key_id in signers or "promoter" in known.roles)
    }
