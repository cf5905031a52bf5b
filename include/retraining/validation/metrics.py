"""Metrics of one model on labelled rows, for many weightings of the rows at once.

A bootstrap resample is nothing but a count per row, so every metric here takes a matrix of counts
[r, n] and returns r values; the plain metric is the case r = 1 with all counts 1. One piece of code
for both, so that an interval and the value inside it can never mean different things.

Sums of whole numbers, exact in any order, and then one division: no thread count and no processor
changes a digit. (The calibration error adds fractions, in one fixed order.)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), use 15 bins of equal width.
CALIBRATION_BINS = 15
# With fewer rows of a class its recall moves in steps of more than 0.1, and a resample may miss the
# class altogether: the interval would say nothing, with two digits behind the point.
MIN_CLASS_ROWS = 10


@dataclass(frozen=True)
class PositiveAnswers:
    """What one model said about the positive class.

    Attributes:
        true: Whether the row is of that class [n].
        said: Whether the model gives it that class [n].
        score: Probability of that class [n].
    """

    true: Mask
    said: Mask
    score: Reals


@dataclass(frozen=True)
class Answers:
    """What one model said about n labelled rows.

    Attributes:
        labels: Class of each row [n].
        correct: Whether the most probable class is the label [n].
        confidence: Probability of the most probable class [n].
        positive: With two classes of which one is called positive.
    """

    labels: Integers
    correct: Mask
    confidence: Reals
    positive: PositiveAnswers | None

    def of(self, rows: Mask) -> "Answers":
        """The same for some of the rows."""
        part = self.positive
        if part is not None:
            part = PositiveAnswers(part.true[rows], part.said[rows], part.score[rows])
        return Answers(self.labels[rows], self.correct[rows], self.confidence[rows], part)

    @property
    def bins(self) -> Integers:
        """Calibration bin of each row [n]: 0 to 14, the upper edge belongs to the bin."""
        upper = np.ceil(self.confidence * CALIBRATION_BINS).astype(np.int64) - 1
        return np.clip(upper, 0, CALIBRATION_BINS - 1)


def answers_of(
    labels: Integers, probabilities: npt.NDArray[np.floating], *, positive: int | None
) -> Answers:
    """Read a model's probabilities [n, k].

    A row without finite answer (a model that diverged) counts as a wrong answer given with full
    confidence: what is broken must look worse than everything else, never be left out.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    broken = np.asarray(~np.isfinite(table).all(axis=1))
    table = np.where(broken[:, None], 0.0, table)
    predicted: Integers = table.argmax(axis=1)
    about_positive = None
    if positive is not None:
        true: Mask = np.equal(labels, positive)
        about_positive = PositiveAnswers(
            true=true,
            said=np.where(broken, ~true, predicted == positive),
            score=np.where(broken, np.where(true, -1.0, 2.0), table[:, positive]),
        )
    return Answers(
        labels=labels,
        correct=(predicted == labels) & ~broken,
        confidence=np.where(broken, 1.0, table.max(axis=1)),
        positive=about_positive,
    )


def weighted_metrics(answers: Answers, counts: Reals) -> dict[str, Reals]:
    """Every metric that these rows can tell, each with one value per row of `counts`.

    Args:
        answers: Of n rows, at least one.
        counts: How often each row counts [r, n], whole numbers.

    Returns:
        Name to values [r]; NaN where a weighting leaves out what the metric is about. A metric
        about classes is not there when a class has fewer than `MIN_CLASS_ROWS` rows.
    """
    total = counts.sum(axis=1)
    values = {
        "accuracy": counts @ answers.correct / total,
        "calibration_error": _calibration_error(answers, counts, total),
    }
    if np.unique(answers.labels, return_counts=True)[1].min() < MIN_CLASS_ROWS:
        return values
    values["balanced_accuracy"] = _balanced_accuracy(answers, counts)
    if answers.positive is not None and len(np.unique(answers.labels)) > 1:
        values |= _positive_class(answers.positive, counts)
    return values


def reliability(answers: Answers) -> tuple[tuple[float, float, int], ...]:
    """Per calibration bin with rows: mean confidence, share correct, rows."""
    rows = [answers.bins == number for number in range(CALIBRATION_BINS)]
    return tuple(
        (
            round(float(answers.confidence[chosen].mean()), 6),
            round(float(answers.correct[chosen].mean()), 6),
            int(chosen.sum()),
        )
        for chosen in rows
        if chosen.any()
    )


def _calibration_error(answers: Answers, counts: Reals, total: Reals) -> Reals:
    """Expected calibration error of the top class: mean |share correct - confidence| of bins."""
    excess = answers.correct - answers.confidence
    result: Reals = np.abs(_sums_by_group(counts * excess, answers.bins)).sum(axis=1) / total
    return result


def _balanced_accuracy(answers: Answers, counts: Reals) -> Reals:
    """Mean recall of the classes that have rows in the weighting."""
    rows = _sums_by_group(counts, answers.labels)
    right = _sums_by_group(counts * answers.correct, answers.labels)
    present = rows > 0
    recalls = np.divide(right, rows, out=np.zeros_like(right), where=present)
    result: Reals = recalls.sum(axis=1) / present.sum(axis=1)
    return result


def _positive_class(answers: PositiveAnswers, counts: Reals) -> dict[str, Reals]:
    n_true = counts @ answers.true
    n_said = counts @ answers.said
    n_hit = counts @ (answers.true & answers.said)
    # A model that never says the class has precision 0 here, not "undefined": with NaN the
    # resamples in which it fails worst would drop out of its interval.
    precision = np.where(n_said > 0, _ratio(n_hit, n_said), 0.0)
    return {
        "precision": np.where(n_true > 0, precision, np.nan),
        "recall": _ratio(n_hit, n_true),
        "f1": np.where(n_true > 0, _ratio(2 * n_hit, n_true + n_said), np.nan),
        "auc": _auc(answers, counts, n_true),
    }


def _auc(answers: PositiveAnswers, counts: Reals, n_true: Reals) -> Reals:
    """Probability that a positive row scores above a negative one; ties count half."""
    ranks = np.unique(answers.score, return_inverse=True)[1]  # equal scores share a rank
    positives = _sums_by_group(counts * answers.true, ranks)
    negatives = _sums_by_group(counts * ~answers.true, ranks)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    won = (positives * below).sum(axis=1)
    return _ratio(won, n_true * (counts.sum(axis=1) - n_true))


def _sums_by_group(values: Reals, groups: Integers) -> Reals:
    """Sum the columns of [r, n] that belong together: [r, groups], in ascending order of group."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    result: Reals = np.add.reduceat(values[:, order], starts, axis=1)
    return result


def _ratio(part: Reals, whole: Reals) -> Reals:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
