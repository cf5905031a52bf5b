"""How good the answers were, from labels and answers alone, each with an interval.

The traffic holds the class that was answered and no probability, so everything here is read off the
confusion matrix. The definitions are those of `retraining.validation.metrics`; a test holds the two
against each other.

Accuracy, precision and recall are shares, and get Wilson's interval, which also says something when
all or none are right (Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion",
Statistical Science 2001). F1 and balanced accuracy are not, and get the percentile bootstrap (Efron
and Tibshirani 1993): resampling rows is the same as one multinomial draw of the matrix's cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retraining.intervals import wilson
from retraining.records import Interval

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# As in validation: with fewer rows of a class its recall moves in steps of more than 0.1.
MIN_CLASS_ROWS = 10

_SEED = 20_260_101  # fixed and public: the same day gives the same report everywhere
_RESAMPLES = 1000
_MAX_CELLS = 2_000_000  # of a matrix of resamples: 16 MB
_DIGITS = 6


@dataclass(frozen=True)
class Measured:
    """A value, or None where the rows cannot tell, and the rows behind it."""

    interval: Interval | None
    n_rows: int


@dataclass(frozen=True)
class Confusion:
    """How often each label met each answer: `counts[label, answer]`."""

    counts: Integers
    positive: int | None

    @classmethod
    def of(
        cls, labels: Integers, answers: Integers, *, n_classes: int, positive: int | None
    ) -> "Confusion":
        """Count rows; both arrays [n] hold positions in the list of classes."""
        cells = np.bincount(labels * n_classes + answers, minlength=n_classes**2)
        return cls(cells.reshape(n_classes, n_classes), positive)


def measure(
    confusion: Confusion, names: Sequence[str], *, min_rows: int, confidence: float
) -> dict[str, Measured]:
    """Measure each of `names`.

    Args:
        min_rows: Labelled rows that any of them needs.
        confidence: Of the intervals, such as 0.95.
    """
    n_rows = int(confusion.counts.sum())
    enough = n_rows >= min_rows
    return {name: _MEASURES[name](confusion, enough, confidence) for name in names}


def interval(value: float, low: float, high: float) -> Interval:
    """Ends between 0 and 1, in few enough digits that no processor differs."""
    ends = (min(max(end, 0.0), 1.0) for end in (value, low, high))
    value, low, high = (round(float(end), _DIGITS) for end in ends)
    return Interval(value=value, low=low, high=high)


def _accuracy(confusion: Confusion, enough: bool, confidence: float) -> Measured:
    n = int(confusion.counts.sum())
    return _share(int(np.trace(confusion.counts)), n, enough, confidence)


def _precision(confusion: Confusion, enough: bool, confidence: float) -> Measured:
    hits, _n_true, n_said = _positive(confusion)
    return _share(hits, n_said, enough and n_said >= MIN_CLASS_ROWS, confidence)


def _recall(confusion: Confusion, enough: bool, confidence: float) -> Measured:
    hits, n_true, _n_said = _positive(confusion)
    return _share(hits, n_true, enough and n_true >= MIN_CLASS_ROWS, confidence)


def _f1(confusion: Confusion, enough: bool, confidence: float) -> Measured:
    hits, n_true, n_said = _positive(confusion)
    n_rows = n_true + n_said - hits
    if not enough or n_true < MIN_CLASS_ROWS:
        return Measured(None, n_rows)
    at = confusion.positive
    labels, answers, counts = _cells(confusion)
    # A resample has rows of the class as long as the day has ten, all but surely.
    both, either = (labels == at) & (answers == at), (labels == at).astype(int) + (answers == at)

    def f1(resampled: Reals) -> Reals:
        return np.asarray(2 * (resampled @ both) / np.maximum(resampled @ either, 1))

    return Measured(_bootstrap(f1, counts, confidence), n_rows)


def _balanced_accuracy(confusion: Confusion, enough: bool, confidence: float) -> Measured:
    n_rows = int(confusion.counts.sum())
    if not enough or confusion.counts.sum(axis=1).min() < MIN_CLASS_ROWS:
        return Measured(None, n_rows)
    labels, answers, counts = _cells(confusion)
    starts = np.flatnonzero(np.diff(labels, prepend=-1))

    def balanced(resampled: Reals) -> Reals:
        rows = np.add.reduceat(resampled, starts, axis=1)
        right = np.add.reduceat(resampled * (labels == answers), starts, axis=1)
        recalls = np.divide(right, rows, out=np.zeros_like(right), where=rows > 0)
        return np.asarray(recalls.sum(axis=1) / (rows > 0).sum(axis=1))

    return Measured(_bootstrap(balanced, counts, confidence), n_rows)


_MEASURES: dict[str, Callable[[Confusion, bool, float], Measured]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
}


def _share(k: int, n: int, enough: bool, confidence: float) -> Measured:
    return Measured(wilson(k / n, n, confidence=confidence) if enough and n else None, n)


def _positive(confusion: Confusion) -> tuple[int, int, int]:
    """Rows of the positive class that were called so, rows of it, rows that were called so."""
    at, counts = confusion.positive, confusion.counts
    if at is None:
        raise ValueError("precision, recall and F1 are about a positive class, and there is none")
    return int(counts[at, at]), int(counts[at].sum()), int(counts[:, at].sum())


def _cells(confusion: Confusion) -> tuple[Integers, Integers, Integers]:
    """Label, answer and count of each cell that has rows, in ascending order of label."""
    labels, answers = np.nonzero(confusion.counts)
    return labels, answers, confusion.counts[labels, answers]


def _bootstrap(metric: Callable[[Reals], Reals], counts: Integers, confidence: float) -> Interval:
    # `RandomState`, because NumPy promises its stream for ever and that of `Generator` for one
    # version.
    random = np.random.RandomState(_SEED)
    n_rows, at_once = int(counts.sum()), max(1, _MAX_CELLS // len(counts))
    samples = [
        metric(random.multinomial(n_rows, counts / n_rows, size=size).astype(np.float64))
        for size in _pieces(_RESAMPLES, at_once)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(samples), [tail, 1 - tail])
    return interval(float(metric(counts[None].astype(np.float64))[0]), low, high)


def _pieces(total: int, at_once: int) -> list[int]:
    return [min(at_once, total - start) for start in range(0, total, at_once)]
