"""What users' feedback changes, measured before the challenger sees it.

Two plain surrogates learn from the rows that the challenger would learn from, one with the week's
feedback and one without, and both answer the reference set. The difference is paired: both are
right or wrong about the same rows, so what is hard for both cancels out.

The confidence interval is the percentile interval of the paired bootstrap (Efron and Tibshirani,
"An Introduction to the Bootstrap", 1993, chapters 13 and 16). To draw n rows with replacement only
matters through how often each of four kinds is drawn (both right, one of them, none), and those
counts are multinomial: so the bootstrap is drawn from that distribution, at any size of n.

What cannot be measured is left out: feedback is untrusted, and the week goes on without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from retraining.features import labels_of
from retraining.records import BatchId, FeedbackEffect, Interval, Refusal
from retraining.screening.paired import percentile_interval
from retraining.screening.plain_model import fit_plain_model
from retraining.screening.rows import SEED, Integers, Mask, Matrix, Reals
from retraining.screening.stored import RowFile
from retraining.spec import FeedbackPolicy, PipelineSpec

Encode = Callable[[pd.DataFrame], Matrix]

MIN_REFERENCE_ROWS = 50
# Bounds time and memory in a long history: of more rows some are drawn, which weigh for all.
MAX_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class FeedbackJudgement:
    """What was found, and what follows for the feedback's batches.

    Attributes:
        effect: None where nothing could be measured.
        refusal: Why the feedback is left out; None when it is kept.
    """

    effect: FeedbackEffect | None
    refusal: Refusal | None


def judge_feedback(
    accepted: Mapping[BatchId, RowFile],
    *,
    reference: pd.DataFrame,
    history: Sequence[RowFile],
    spec: PipelineSpec,
    encode: Encode,
) -> FeedbackJudgement | None:
    """Measure what the accepted feedback changes; None when there is none.

    Args:
        accepted: Rows that passed screening, per batch; batches of held weeks among them.
        reference: Vetted rows to measure on.
        history: Accepted rows of promoted weeks, feedback of theirs included: those weeks were
            judged then, and every challenger learns from them.
        spec: The pinned one.
        encode: Preprocessing: rows to float32 [n, d].
    """
    policy = spec.feedback
    if policy is None:
        return None
    feedback = [rows for batch, rows in accepted.items() if batch.source == policy.source]
    if not sum(map(len, feedback)):
        return None
    others = [
        *history,
        *(rows for batch, rows in accepted.items() if batch.source != policy.source),
    ]
    if len(reference) < MIN_REFERENCE_ROWS:
        return _unmeasured(
            f"the reference set has {len(reference)} rows, expected at least {MIN_REFERENCE_ROWS}."
            " Pin a larger reference set."
        )
    if not sum(map(len, others)):
        return _unmeasured(
            "no other rows were accepted to compare it with. Find out why nothing else arrived."
        )
    random = np.random.RandomState(SEED)
    without = _drawn(others, random, spec=spec, encode=encode)
    with_it = without.joined(_drawn(feedback, random, spec=spec, encode=encode))
    truth, questions = labels_of(reference, spec), encode(reference)
    n_classes = len(spec.label.classes)
    effect = paired_effect(
        with_it.answers(questions, n_classes=n_classes) == truth,
        without.answers(questions, n_classes=n_classes) == truth,
        n_feedback=sum(map(len, feedback)),
        confidence=spec.gate.confidence,
        n_resamples=spec.gate.bootstrap_resamples,
        random=random,
    )
    left_out = effect.costs_more_than(policy.max_loss)
    effect = effect.model_copy(update={"left_out": left_out})
    return FeedbackJudgement(effect=effect, refusal=_harmful(effect, policy) if left_out else None)


def _unmeasured(why: str) -> FeedbackJudgement:
    return FeedbackJudgement(
        effect=None,
        refusal=Refusal(
            code="feedback_not_measured",
            sentence=f"What the feedback changes cannot be told: {why}",
        ),
    )


def _harmful(effect: FeedbackEffect, policy: FeedbackPolicy) -> Refusal:
    return Refusal(
        code="feedback_harms",
        sentence=f"With the {effect.n_feedback} rows of feedback a plain model answers"
        f" {effect.with_feedback.value:.1%} of {effect.n_reference} reference rows rightly,"
        f" without them {effect.without_feedback.value:.1%}; expected a loss of at most"
        f" {policy.max_loss:.1%}. Look at what users said, and who they are.",
    )


# --- surrogates -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lesson:
    """Encoded rows to learn from, and how many rows each stands for [n]."""

    features: Matrix
    labels: Integers
    weights: Reals

    def joined(self, other: "_Lesson") -> "_Lesson":
        return _Lesson(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.weights, other.weights]),
        )

    def answers(self, questions: Matrix, *, n_classes: int) -> Integers:
        """Class that a plain model of these rows answers to each question."""
        if (self.labels == self.labels[0]).all():
            return np.full(len(questions), self.labels[0])  # there is nothing to tell apart
        model = fit_plain_model(
            self.features, self.labels, n_classes=n_classes, row_weights=self.weights
        )
        answers: Integers = model.predict(questions.astype(np.float64))
        return answers


def _drawn(
    files: Sequence[RowFile],
    random: np.random.RandomState,
    *,
    spec: PipelineSpec,
    encode: Encode,
) -> _Lesson:
    """All rows, or `MAX_ROWS` of them that weigh as much as all."""
    n_rows = sum(map(len, files))
    chosen = np.arange(n_rows)
    if n_rows > MAX_ROWS:
        chosen = np.sort(random.permutation(n_rows)[:MAX_ROWS])
    ends = np.cumsum([len(file) for file in files])
    parts = [
        file.frame_at(mine - start)
        for file, start, mine in zip(
            files,
            ends - [len(file) for file in files],
            np.split(chosen, np.searchsorted(chosen, ends[:-1])),
            strict=True,
        )
    ]
    rows = pd.concat(parts, ignore_index=True)
    weights = np.full(len(rows), n_rows / len(rows))
    return _Lesson(encode(rows), labels_of(rows, spec), weights)


# --- the difference -------------------------------------------------------------------------


def paired_effect(
    with_right: Mask,
    without_right: Mask,
    *,
    n_feedback: int,
    confidence: float,
    n_resamples: int,
    random: np.random.RandomState,
) -> FeedbackEffect:
    """Compare two models on the same rows, given which of them each answered rightly [n]."""
    n_rows = len(with_right)
    # Kinds: 0 nobody is right, 1 only the one without, 2 only the one with, 3 both.
    kinds = np.bincount(2 * with_right + without_right, minlength=4)
    drawn = random.multinomial(n_rows, kinds / n_rows, size=n_resamples)

    def interval(of_kinds: Sequence[int]) -> Interval:
        value, samples = (counts @ np.array(of_kinds) / n_rows for counts in (kinds, drawn))
        return percentile_interval(float(value), samples, confidence=confidence)

    return FeedbackEffect(
        n_feedback=n_feedback,
        n_reference=n_rows,
        with_feedback=interval((0, 0, 1, 1)),
        without_feedback=interval((0, 1, 0, 1)),
        difference=interval((0, -1, 1, 0)),
        left_out=False,
    )
