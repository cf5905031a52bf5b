"""Screening: which rows may be trained on, which not, and why.

`engine` judges rows: what would surrogates learn from them that trusted rows contradict? `claims`
asks whose row it is, `pockets` and `shares` what follows for users and sources, `reasons` puts it
into words, `feedback_effect` asks what users' feedback would change; here batches and the week are
accepted or refused.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from retraining.errors import ConfigError
from retraining.features import labels_of
from retraining.records import BatchId, Refusal, ScreenedBatch, ScreeningReport, SourceEvidence
from retraining.reviews import CONFIRMED, Reviewed
from retraining.screening.batches import JudgedBatch, readable_batch
from retraining.screening.case import Case
from retraining.screening.claims import claimed_ids
from retraining.screening.feedback_effect import Encode, judge_feedback
from retraining.screening.judge import Answers
from retraining.screening.judging import Progress, judge_batches, judge_shard
from retraining.screening.reasons import is_evidence
from retraining.screening.result import BatchRows, ScreeningResult
from retraining.screening.shares import poison_share
from retraining.screening.stored import RowFile
from retraining.screening.verdicts import batch_refusal, source_refusal, week_refusal
from retraining.spec import PipelineSpec

__all__ = ["BatchRows", "ScreeningResult", "Week", "screen", "screen_shard"]

MIN_REFERENCE_ROWS = 50
MIN_ROWS_PER_CLASS = 5


@dataclass(frozen=True, kw_only=True)
class Week:
    """What is screened, and by what.

    Attributes:
        batches: What was delivered, refused batches included, in any order.
        reference: The pinned, vetted rows.
        history: Accepted rows of promoted weeks, oldest first; empty before the first.
        holdout_row_ids: Ids of the rows that are never trained on.
        reviewed: What reviewers released and confirmed; confirmed rows are no longer in the
            history.
        week: The newest week of the run; batches of others are carried over from held weeks.
    """

    batches: Sequence[BatchRows]
    reference: pd.DataFrame
    history: Mapping[BatchId, RowFile]
    holdout_row_ids: Collection[str]
    reviewed: Reviewed
    week: str
    spec: PipelineSpec

    @property
    def ordered(self) -> list[BatchRows]:
        """The batches by week and source."""
        return sorted(self.batches, key=lambda item: (item.batch.week, item.batch.source))

    def readable(self) -> dict[BatchId, JudgedBatch]:
        """Batches with rows, and the reasons that stand before anybody looks at their values.

        Raises:
            ConfigError: The reference set has too few rows, or too few of a class.
        """
        _check_reference(self.reference, self.spec)
        row_id = self.spec.row_id
        claims = claimed_ids(
            self.ordered,
            known={str(name) for rows in self.history.values() for name in rows.column(row_id)},
            holdout=self.holdout_row_ids,
            spec=self.spec,
        )
        return {
            delivered.batch: readable_batch(delivered, claim, self.reviewed, self.spec)
            for delivered, claim in zip(self.ordered, claims, strict=True)
            if delivered.refusal is None and delivered.rows is not None
        }

    def case(self, readable: Mapping[BatchId, JudgedBatch]) -> Case:
        """The rows of these batches, to be judged."""
        return Case.of(
            list(readable.values()),
            reference=self.reference,
            history=self.history,
            vouched=self.reviewed.vouched,
            spec=self.spec,
        )


def screen_shard(week: Week, shard: int) -> dict[int, Answers]:
    """Judge the rows of one shard; `screen` of the same week takes it from there.

    Raises:
        ConfigError: The reference set has too few rows, or too few of a class.
    """
    return judge_shard(week.case(week.readable()), shard)


def screen(
    week: Week,
    *,
    encode: Encode,
    answered: Mapping[int, Answers] | None = None,
    progress: Progress = lambda _: None,
) -> ScreeningResult:
    """Judge every row of every batch, then every batch, then the feedback, then the week.

    Args:
        encode: Preprocessing of the models: rows to float32 [n, d], each row alone.
        answered: What `screen_shard` found elsewhere.
        progress: Is told what is being looked at.

    Returns:
        The same for the same input, byte for byte, on one machine.

    Raises:
        ConfigError: The reference set has too few rows, or too few of a class.
    """
    spec, reviewed = week.spec, week.reviewed
    reference, history = week.reference, week.history
    readable = week.readable()
    # One thread: how many there are must not change the order in which sums are added up.
    with threadpool_limits(limits=1):
        found = judge_batches(
            list(readable.values()),
            week.case(readable),
            answered=answered or {},
            progress=progress,
        )
        screened = [
            _concluded(
                readable[delivered.batch],
                None
                if delivered.batch in reviewed.vouched
                else found.sources.get(delivered.batch.source),
                spec,
            )
            if delivered.batch in readable
            else _unread(delivered)
            for delivered in week.ordered
        ]
        accepted = {
            batch.batch: _accepted(readable[batch.batch])
            for batch in screened
            if batch.refusal is None
        }
        judgement = judge_feedback(
            accepted,
            reference=reference,
            history=tuple(history.values()),
            spec=spec,
            encode=encode,
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
            n_reference=len(reference),
            n_history=sum(map(len, history.values())),
            patterns=found.patterns,
            sentences=found.sentences,
            feedback=judgement.effect if judgement else None,
            refusal=week_refusal(screened, counts, week.week, spec),
        ),
        accepted=accepted,
        suspicious=found.suspicious,
        purged={
            batch: ids - reviewed.released
            for batch, ids in found.purged.items()
            if ids - reviewed.released
        },
    )


def _check_reference(reference: pd.DataFrame, spec: PipelineSpec) -> None:
    if len(reference) < MIN_REFERENCE_ROWS:
        raise ConfigError(
            f"The reference set of {spec.model} has {len(reference)} rows; screening needs at least"
            f" {MIN_REFERENCE_ROWS}. Pin a larger reference set."
        )
    counts = np.bincount(labels_of(reference, spec), minlength=len(spec.label.classes))
    if (fewest := int(counts.min())) < MIN_ROWS_PER_CLASS:
        name = spec.label.classes[int(counts.argmin())]
        raise ConfigError(
            f"The reference set of {spec.model} has {fewest} rows of class {name!r}; screening"
            f" needs at least {MIN_ROWS_PER_CLASS} of each class. Pin a larger reference set."
        )


def _unread(batch: BatchRows) -> ScreenedBatch:
    refusal = batch.refusal or Refusal(
        code="not_parsed",
        sentence=f"The rows of {batch.batch} were not handed over. Start the week again.",
    )
    return ScreenedBatch(batch=batch.batch, batch_digest=batch.batch_digest, refusal=refusal)


def _concluded(
    judged: JudgedBatch, evidence: SourceEvidence | None, spec: PipelineSpec
) -> ScreenedBatch:
    faults = judged.delivered.faults
    assert faults is not None  # noqa: S101 - for the type checker
    n_rows = len(judged.rows) + len(faults)
    n_quarantined = int(judged.quarantined.sum()) + len(faults)
    poison = [rows for name, rows in judged.reasons.items() if is_evidence(name)]
    n_poison = int(np.any([np.zeros(len(judged.rows), dtype=bool), *poison], axis=0).sum())
    reasons = Counter({name: int(rows.sum()) for name, rows in judged.reasons.items()})
    reasons.update(reason for names in faults["reasons"] for reason in set(names))
    reasons = Counter({name: count for name, count in reasons.items() if count})
    refusal = batch_refusal(
        judged.batch,
        n_rows=n_rows,
        n_quarantined=n_quarantined,
        n_poison=n_poison,
        n_confirmed=int(judged.reasons[CONFIRMED].sum()),
        reasons=reasons,
        spec=spec,
    ) or source_refusal(judged.batch, evidence)
    rate = spec.screening.false_discovery_rate
    return ScreenedBatch(
        batch=judged.batch,
        batch_digest=judged.delivered.batch_digest,
        n_rows=n_rows,
        n_accepted=0 if refusal else n_rows - n_quarantined,
        n_quarantined=n_quarantined,
        quarantined=dict(sorted(reasons.items())),
        poison_share=poison_share(n_poison, len(judged.rows), false_discovery_rate=rate),
        source_evidence=evidence,
        refusal=refusal,
    )


def _accepted(judged: JudgedBatch) -> RowFile:
    return judged.rows.without(judged.quarantined)


def _without_feedback(
    screened: Sequence[ScreenedBatch],
    accepted: dict[BatchId, RowFile],
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


def _class_counts(accepted: dict[BatchId, RowFile], spec: PipelineSpec) -> dict[str, int]:
    classes = spec.label.classes
    total = np.zeros(len(classes), dtype=np.int64)
    for rows in accepted.values():
        labels = labels_of(rows.frame([spec.label.column]), spec)
        total += np.bincount(labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, total, strict=True)}
