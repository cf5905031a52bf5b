"""Differences on the same rows, with an interval: what is hard for both models cancels out.

The interval is the percentile interval of the paired bootstrap (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapters 13 and 16).
"""

import numpy as np

from retraining.records import Interval
from retraining.screening.rows import Reals

_DIGITS = 6  # more than any reference set can tell, and few enough that no processor differs
_AT_A_TIME = 100  # resamples, so that many rows need little memory


def percentile_interval(value: float, resampled: Reals, *, confidence: float) -> Interval:
    """A measured value with the interval that its resampled values give, rounded."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=_rounded(value), low=_rounded(low), high=_rounded(high))


def mean_interval(
    differences: Reals, *, confidence: float, n_resamples: int, random: np.random.RandomState
) -> Interval:
    """The mean of paired differences [n], n at least 1, with its bootstrap interval."""
    n_rows = len(differences)
    means = [
        random.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=n) @ differences / n_rows
        for n in _sizes(n_resamples)
    ]
    return percentile_interval(
        float(differences.mean()), np.concatenate(means), confidence=confidence
    )


def _sizes(total: int) -> list[int]:
    return [min(_AT_A_TIME, total - start) for start in range(0, total, _AT_A_TIME)]


def _rounded(value: float | np.float64) -> float:
    return round(float(value), _DIGITS) + 0.0  # -0.0 would be another JSON text
