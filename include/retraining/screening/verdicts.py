"""From rows to batches to the week: what is refused, with the most telling reason first."""

from collections import Counter
from collections.abc import Sequence

from retraining.records import BatchId, Refusal, ScreenedBatch, SourceEvidence
from retraining.reviews import CONFIRMED
from retraining.spec import PipelineSpec


def batch_refusal(
    batch: BatchId,
    *,
    n_rows: int,
    n_quarantined: int,
    n_poison: int,
    n_confirmed: int,
    reasons: Counter[str],
    spec: PipelineSpec,
) -> Refusal | None:
    """Why a batch is quarantined whole; None when its other rows may be used.

    Args:
        n_poison: Rows that were quarantined for what they would teach, not for a fault of theirs.
        n_confirmed: Rows that a reviewer confirmed. They are known, so they count against no limit.
    """
    least = spec.source(batch.source).min_rows
    if n_rows < least:
        return Refusal(
            code="too_few_rows",
            sentence=f"{batch} has {n_rows} rows, expected at least {least}. Ask its owner whether"
            " the delivery is complete.",
        )
    if n_rows and n_confirmed == n_rows:
        return Refusal(
            code=CONFIRMED,
            sentence=f"A reviewer confirmed all {n_rows} rows of {batch} as poison. Ask its owner"
            " for another delivery, or leave it out.",
        )
    n_quarantined, n_poison = n_quarantined - n_confirmed, n_poison - n_confirmed
    named = ", ".join(f"{name} {count}" for name, count in reasons.most_common(3))
    limit = spec.screening.max_quarantined_share_per_source
    if n_quarantined > limit * n_rows:
        return Refusal(
            code="too_many_quarantined",
            sentence=f"{n_quarantined} of {n_rows} rows of {batch} ({n_quarantined / n_rows:.1%})"
            f" were quarantined ({named}), expected at most {limit:.1%}. Review them in"
            " suspicious_samples.csv.",
        )
    most = spec.screening.max_poison_rows_per_source
    if n_poison > most:
        return Refusal(
            code="too_much_poison",
            sentence=f"{n_poison} rows of {batch} look like poison ({named}), expected at most"
            f" {most}: a few hundred can be enough, however large the batch. Review them in"
            " suspicious_samples.csv.",
        )
    return None


def source_refusal(batch: BatchId, evidence: SourceEvidence | None) -> Refusal | None:
    """Why a batch is quarantined whole for what its source shows; None when it is not."""
    if evidence is None or not evidence.condemned:
        return None
    return Refusal(
        code=evidence.condemned[0],
        sentence=f"{batch} is quarantined whole for its source. {' '.join(evidence.sentences)}",
    )


def week_refusal(
    screened: Sequence[ScreenedBatch], counts: dict[str, int], week: str, spec: PipelineSpec
) -> Refusal | None:
    """Why nothing may be trained on at all; None when the week goes on."""
    policy = spec.screening
    for batch in screened:
        stops = spec.source(batch.batch.source).on_refusal == "stop" and batch.batch.week == week
        if batch.refusal is not None and stops:
            return Refusal(
                code="source_refused",
                sentence=f"{batch.batch} was refused ({batch.refusal.code}) and may stop the week:"
                f" {batch.refusal.sentence}",
            )
    used = [batch for batch in screened if batch.refusal is None]
    n_rows = sum(batch.n_rows for batch in used)
    # Rows that a reviewer confirmed are known, so they count against no limit here either.
    n_quarantined = sum(batch.n_quarantined - batch.quarantined.get(CONFIRMED, 0) for batch in used)
    if n_quarantined > policy.max_quarantined_share * n_rows:
        return Refusal(
            code="too_many_quarantined",
            sentence=f"{n_quarantined} of {n_rows} rows of all sources in use were quarantined,"
            f" expected at most {policy.max_quarantined_share:.1%}. Review them in"
            " suspicious_samples.csv.",
        )
    n_accepted = sum(batch.n_accepted for batch in used)
    if n_accepted < policy.min_rows:
        return Refusal(
            code="too_few_rows",
            sentence=f"{n_accepted} new rows were accepted, expected at least {policy.min_rows}."
            " Wait for the next week, whose run takes these rows along.",
        )
    if sum(count > 0 for count in counts.values()) < 2:
        return Refusal(
            code="one_class",
            sentence="All accepted rows are of one class, expected two or more. Ask the sources'"
            " owners what happened to the others.",
        )
    return None
