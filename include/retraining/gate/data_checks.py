"""Checks on the data: who was refused, how much was quarantined, how much is left, from whom.

Users' feedback has a check of its own, which says what it changed. A week without any is no fault,
and a week with harmful feedback goes on without it.
"""

from collections.abc import Iterator, Mapping, Sequence

from retraining.records import (
    BatchId,
    Check,
    FeedbackEffect,
    PinnedRun,
    ProvenanceReport,
    Refusal,
    ScreenedBatch,
    ScreeningReport,
    Verdict,
)
from retraining.spec import PipelineSpec

# Screening's code for "a source that may stop the week was refused": the check on sources says
# which one and why, so the week's refusal need not be read a second time.
SOURCE_REFUSED = "source_refused"
_MISSING = "missing"  # ingest's code for "nothing was delivered"


def check_data(
    pinned: PinnedRun,
    spec: PipelineSpec,
    provenance: Sequence[ProvenanceReport],
    screening: ScreeningReport,
) -> tuple[Check, ...]:
    """Every check on the data, in the order of the road."""
    used = [batch for batch in screening.batches if batch.refusal is None]
    return (
        *_sources(pinned, spec, provenance, screening),
        _left_out(pinned),
        *_screening(pinned, spec, screening),
        *_quarantine(spec, used),
        _accepted_rows(spec, used),
        *_shares(spec, used),
        *_feedback(spec, provenance, screening),
    )


def _sources(
    pinned: PinnedRun,
    spec: PipelineSpec,
    provenance: Sequence[ProvenanceReport],
    screening: ScreeningReport,
) -> Iterator[Check]:
    """One check per refused batch that stops the week, one that names all others."""
    refusals = _refusals(provenance, screening)
    left_out = []
    for batch, refusal in sorted(refusals.items(), key=lambda item: (item[0].week, str(item[0]))):
        if _no_feedback(spec, batch, refusal):
            continue  # the check on feedback says so
        # A batch that is carried over from a held week never stops the weeks after it.
        stops = spec.source(batch.source).on_refusal == "stop" and batch.week == pinned.week
        if not stops:
            left_out.append(f"{batch} left out ({refusal.code})")
            continue
        yield Check(
            name=f"source {batch.source}",
            verdict="HOLD",
            observed=f"{batch} was refused ({refusal.code}): {refusal.sentence}",
            allowed="no refusal of a source with on_refusal: stop",
            next_step=f"have {batch.source} deliver again, or run the week without it",
        )
    yield Check(
        name="sources",
        verdict="PROMOTE",
        observed="; ".join(left_out) or "none left out",
        allowed="refused batches are left out, on record",
    )


def _refusals(
    provenance: Sequence[ProvenanceReport], screening: ScreeningReport
) -> dict[BatchId, Refusal]:
    return {batch.batch: batch.refusal for batch in screening.batches if batch.refusal} | {
        report.batch: report.refusal for report in provenance if report.refusal
    }


def _left_out(pinned: PinnedRun) -> Check:
    names = ", ".join(pinned.left_out)
    reason = f" (reason given: {pinned.reason})" if pinned.left_out and pinned.reason else ""
    return Check(
        name="left out by hand",
        verdict="PROMOTE",
        observed=f"{names}{reason}" if names else "none",
        allowed="any, on record; the limits on shares still hold",
    )


def _screening(
    pinned: PinnedRun, spec: PipelineSpec, screening: ScreeningReport
) -> Iterator[Check]:
    refusal = screening.refusal
    stopped = any(
        batch.refusal is not None
        and batch.batch.week == pinned.week
        and spec.source(batch.batch.source).on_refusal == "stop"
        for batch in screening.batches
    )
    if refusal is not None and refusal.code == SOURCE_REFUSED and stopped:
        return
    yield Check(
        name="screening",
        verdict="HOLD" if refusal else "PROMOTE",
        observed=f"refused ({refusal.code}): {refusal.sentence}" if refusal else "not refused",
        allowed="rows that can be trained on",
        next_step="review suspicious_samples.csv of this week" if refusal else "",
    )


def _quarantine(spec: PipelineSpec, used: Sequence[ScreenedBatch]) -> Iterator[Check]:
    policy = spec.screening
    for batch in used:
        yield _at_most(
            f"quarantine of {batch.batch}",
            batch.n_quarantined,
            batch.n_rows,
            policy.max_quarantined_share_per_source,
            what="rows quarantined",
            next_step=f"review its rows, or run the week without {batch.batch.source}",
        )
    yield _at_most(
        "quarantine in total",
        sum(batch.n_quarantined for batch in used),
        sum(batch.n_rows for batch in used),
        policy.max_quarantined_share,
        what="rows quarantined",
        next_step="review suspicious_samples.csv of this week",
    )


def _accepted_rows(spec: PipelineSpec, used: Sequence[ScreenedBatch]) -> Check:
    n_accepted = sum(batch.n_accepted for batch in used)
    enough = n_accepted >= spec.screening.min_rows
    return Check(
        name="accepted rows",
        verdict="PROMOTE" if enough else "HOLD",
        observed=f"{n_accepted} accepted new rows",
        allowed=f"at least {spec.screening.min_rows}",
        next_step="" if enough else "wait for the next week, whose run takes these rows along",
    )


def _shares(spec: PipelineSpec, used: Sequence[ScreenedBatch]) -> Iterator[Check]:
    """No source may make up more of the accepted rows than its owner allowed."""
    total = sum(batch.n_accepted for batch in used)
    for source in spec.sources:
        rows = [batch.n_accepted for batch in used if batch.batch.source == source.name]
        if not rows:
            continue
        yield _at_most(
            f"share of {source.name}",
            sum(rows),
            total,
            source.max_share_of_batch,
            what="accepted rows",
            next_step=f"find out why so little else arrived, or run without {source.name}",
        )


def _feedback(
    spec: PipelineSpec, provenance: Sequence[ProvenanceReport], screening: ScreeningReport
) -> Iterator[Check]:
    """Say what the feedback changed; hold the week only if it is used against what was measured.

    Screening leaves harmful feedback out. Its numbers are judged once more here, so that whoever
    replays the decision need not believe that it did.
    """
    if spec.feedback is None:
        return
    batches = [batch for batch in screening.batches if batch.batch.source == spec.feedback.source]
    n_used = sum(batch.n_accepted for batch in batches if batch.refusal is None)
    effect = screening.feedback
    harms = effect is not None and effect.costs_more_than(spec.feedback.max_loss)
    if effect is not None and (harms or effect.n_feedback == n_used):
        observed = f"{_effect(effect)}: {'kept' if n_used else 'left out'}"
    elif n_used:
        observed = f"{n_used} rows were accepted whose effect is not on record"
    else:
        observed = _unused(spec, batches, _refusals(provenance, screening))
    wrong = n_used > 0 and (harms or effect is None or effect.n_feedback != n_used)
    yield Check(
        name="feedback",
        verdict="HOLD" if wrong else "PROMOTE",
        observed=observed,
        allowed="any; what surely loses more than"
        f" {spec.feedback.max_loss:g} of accuracy is left out",
        next_step="start the week again: screening used what it should have left out"
        if wrong
        else "",
    )


def _effect(effect: FeedbackEffect) -> str:
    accuracy, without = effect.with_feedback, effect.without_feedback
    change = effect.difference
    return (
        f"{effect.n_feedback} rows; accuracy of a plain model on {effect.n_reference} reference"
        f" rows {accuracy.value:.4f} [{accuracy.low:.4f}, {accuracy.high:.4f}] with them,"
        f" {without.value:.4f} [{without.low:.4f}, {without.high:.4f}] without, difference"
        f" {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
    )


def _unused(
    spec: PipelineSpec, batches: Sequence[ScreenedBatch], refusals: Mapping[BatchId, Refusal]
) -> str:
    """Why the week has no feedback."""
    if not batches:
        return "left out by hand"
    reasons = []
    for batch in batches:
        refusal = refusals.get(batch.batch)
        if not _no_feedback(spec, batch.batch, refusal):
            code = refusal.code if refusal else "no rows accepted"
            reasons.append(f"{batch.batch} not used ({code})")
    return "; ".join(reasons) or "no feedback batch this week"


def _no_feedback(spec: PipelineSpec, batch: BatchId, refusal: Refusal | None) -> bool:
    """Whether this is feedback that nobody handed over: most weeks have none."""
    return (
        spec.feedback is not None
        and batch.source == spec.feedback.source
        and refusal is not None
        and refusal.code == _MISSING
    )


def _at_most(name: str, part: int, whole: int, limit: float, *, what: str, next_step: str) -> Check:
    within = part <= limit * whole
    verdict: Verdict = "PROMOTE" if within else "HOLD"
    share = part / whole if whole else 0.0
    return Check(
        name=name,
        verdict=verdict,
        observed=f"{part} of {whole} {what} ({share:.1%})",
        allowed=f"at most {limit:.1%}",
        next_step="" if within else next_step,
    )
