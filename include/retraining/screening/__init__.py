"""Screening: which rows may be trained on, which not, and why.

Every row is judged against fixed trusted rows, the reference set and the accepted history, by two
scores: `label_disagreement` and `isolation`. `calibration` turns a score into a decision, `judging`
applies it to a batch, `suspicious` writes down what was quarantined, `feedback_effect` asks what
users' feedback would change; here batches and the week are accepted or refused.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from retraining.features import labels_of
from retraining.records import BatchId, Refusal, ScreenedBatch, ScreeningReport
from retraining.screening import suspicious
from retraining.screening.feedback_effect import judge_feedback
from retraining.screening.judging import Judge, Judged, claimed_ids, suspicious_rows
from retraining.screening.result import BatchRows, ScreeningResult
from retraining.screening.trusted import Encode, trusted_rows
from retraining.spec import PipelineSpec

__all__ = ["BatchRows", "ScreeningResult", "screen"]


def screen(
    batches: Sequence[BatchRows],
    *,
    reference: pd.DataFrame,
    history: pd.DataFrame | None,
    holdout_row_ids: Collection[str],
    week: str,
    spec: PipelineSpec,
    encode: Encode,
) -> ScreeningResult:
    """Judge every row of every batch, then every batch, then the feedback, then the week.

    Args:
        batches: What was delivered, refused batches included, in any order.
        reference: The pinned, vetted rows.
        history: Accepted rows of promoted weeks; None before the first.
        holdout_row_ids: Ids of the rows that are never trained on.
        week: The newest week of the run; batches of others are carried over from held weeks.
        encode: Preprocessing: rows to float32 [n, d], each row alone.

    Returns:
        The same for the same input, byte for byte.

    Raises:
        ConfigError: The reference set has too few rows of a class.
    """
    ordered = sorted(batches, key=lambda item: (item.batch.week, item.batch.source))
    known = () if history is None else history[spec.row_id].astype(str)
    claims = claimed_ids(ordered, known=set(known), holdout=holdout_row_ids, spec=spec)
    screened: list[ScreenedBatch] = []
    accepted: dict[BatchId, pd.DataFrame] = {}
    found: list[pd.DataFrame] = []
    # One thread: how many there are must not change the order in which sums are added up.
    with threadpool_limits(limits=1):
        trusted = trusted_rows(reference, history, spec=spec, encode=encode)
        judge = Judge(trusted, spec, encode)
        for batch, claim in zip(ordered, claims, strict=True):
            if batch.refusal is not None or batch.rows is None or batch.faults is None:
                screened.append(_unread(batch))
                continue
            judged = judge.judge(batch.rows, claim)
            screened.append(_concluded(batch, judged, spec))
            found.append(suspicious_rows(batch, judged, spec))
            if screened[-1].refusal is None:
                accepted[batch.batch] = batch.rows[~judged.quarantined].reset_index(drop=True)
        judgement = judge_feedback(
            accepted, reference=reference, history=history, spec=spec, encode=encode
        )
    if judgement is not None and judgement.refusal is not None:
        screened = _without_feedback(screened, accepted, judgement.refusal, spec)
    counts = _class_counts(accepted, spec)
    used = [batch for batch in screened if batch.refusal is None]
    return ScreeningResult(
        report=ScreeningReport(
            batches=tuple(screened),
            n_accepted=sum(batch.n_accepted for batch in used),
            n_quarantined=sum(batch.n_quarantined for batch in used),
            class_counts=counts,
            thresholds=judge.thresholds,
            feedback=judgement.effect if judgement else None,
            refusal=_week_refusal(screened, counts, week, spec),
        ),
        accepted=accepted,
        suspicious=_joined(found),
        spec=spec,
    )


def _unread(batch: BatchRows) -> ScreenedBatch:
    refusal = batch.refusal or Refusal(
        code="not_parsed",
        sentence=f"The rows of {batch.batch} were not handed over. Start the week again.",
    )
    return ScreenedBatch(batch=batch.batch, batch_digest=batch.batch_digest, refusal=refusal)


def _concluded(batch: BatchRows, judged: Judged, spec: PipelineSpec) -> ScreenedBatch:
    assert batch.faults is not None  # noqa: S101 - for the type checker
    n_rows = len(judged.quarantined) + len(batch.faults)
    n_quarantined = int(judged.quarantined.sum()) + len(batch.faults)
    reasons = Counter({name: int(rows.sum()) for name, rows in judged.reasons.items()})
    reasons.update(reason for names in batch.faults["reasons"] for reason in set(names))
    reasons = Counter({name: count for name, count in reasons.items() if count})
    refusal = _batch_refusal(batch.batch, n_rows, n_quarantined, reasons, spec)
    return ScreenedBatch(
        batch=batch.batch,
        batch_digest=batch.batch_digest,
        n_rows=n_rows,
        n_accepted=0 if refusal else n_rows - n_quarantined,
        n_quarantined=n_quarantined,
        quarantined=dict(sorted(reasons.items())),
        refusal=refusal,
    )


def _batch_refusal(
    batch: BatchId, n_rows: int, n_quarantined: int, reasons: Counter[str], spec: PipelineSpec
) -> Refusal | None:
    least = spec.source(batch.source).min_rows
    if n_rows < least:
        return Refusal(
            code="too_few_rows",
            sentence=f"{batch} has {n_rows} rows, expected at least {least}. Ask its owner whether"
            " the delivery is complete.",
        )
    limit = spec.screening.max_quarantined_share_per_source
    if n_quarantined > limit * n_rows:
        named = ", ".join(f"{name} {count}" for name, count in reasons.most_common(3))
        return Refusal(
            code="too_many_quarantined",
            sentence=f"{n_quarantined} of {n_rows} rows of {batch} ({n_quarantined / n_rows:.1%})"
            f" were quarantined ({named}), expected at most {limit:.1%}. Review them in"
            " suspicious_samples.csv.",
        )
    return None


def _without_feedback(
    screened: Sequence[ScreenedBatch],
    accepted: dict[BatchId, pd.DataFrame],
    refusal: Refusal,
    spec: PipelineSpec,
) -> list[ScreenedBatch]:
    """Take every batch of feedback out of use; the rest of the week goes on."""
    assert spec.feedback is not None  # noqa: S101 - for the type checker
    remaining = []
    for batch in screened:
        if (
            batch.batch.source == spec.feedback.source
            and accepted.pop(batch.batch, None) is not None
        ):
            batch = batch.model_copy(update={"n_accepted": 0, "refusal": refusal})
        remaining.append(batch)
    return remaining


def _week_refusal(
    screened: Sequence[ScreenedBatch], counts: dict[str, int], week: str, spec: PipelineSpec
) -> Refusal | None:
    """Why nothing may be trained on at all, the most telling reason first."""
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
    n_quarantined = sum(batch.n_quarantined for batch in used)
    if n_quarantined > policy.max_quarantined_share * n_rows:
        return Refusal(
            code="too_many_quarantined",
            sentence=f"{n_quarantined} of {n_rows} rows of all sources in use were quarantined,"
            f" expected at most {policy.max_quarantined_share:.1%}. Review them in"
            " suspicious_samples.csv.",
        )
    if (n_accepted := n_rows - n_quarantined) < policy.min_rows:
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


def _class_counts(accepted: dict[BatchId, pd.DataFrame], spec: PipelineSpec) -> dict[str, int]:
    classes = spec.label.classes
    total = np.zeros(len(classes), dtype=np.int64)
    for frame in accepted.values():
        total += np.bincount(labels_of(frame, spec), minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, total, strict=True)}


def _joined(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    names = suspicious.SCHEMA.names
    frames = [frame.reindex(columns=names) for frame in found if len(frame)]
    if not frames:
        return pd.DataFrame(columns=names)
    return pd.concat(frames, ignore_index=True)
