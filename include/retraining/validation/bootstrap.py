"""Confidence intervals by the paired bootstrap: every resample judges all models at once.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 16: percentile
intervals. Because both models answer the same resampled rows, what is common to them (hard rows,
many or few rows of a class) cancels out of the difference.
"""

from collections.abc import Sequence

import numpy as np

from retraining.records import Interval
from retraining.validation.metrics import Answers, Integers, Reals, weighted_metrics

# Fixed and public. It picks resamples of the pinned holdout, hides nothing and protects nothing;
# with it, the same files give the same report everywhere. `RandomState`, because NumPy promises
# its stream for ever and that of `Generator` for one version.
_SEED = 20_260_101
_MAX_CELLS = 250_000  # of the matrix of counts: 2 MB, so that it stays in the processor's cache
_DIGITS = 6  # more than any holdout can tell, and few enough that no processor differs


def resampled_metrics(models: Sequence[Answers], *, n_resamples: int) -> list[dict[str, Reals]]:
    """Metrics of every model on the same resamples: per model, name to values [n_resamples]."""
    n_rows = len(models[0].labels)
    random = np.random.RandomState(_SEED)
    at_once = max(1, _MAX_CELLS // n_rows)
    chunks: list[list[dict[str, Reals]]] = []
    for start in range(0, n_resamples, at_once):
        counts = _draw(random, n_rows, min(at_once, n_resamples - start))
        chunks.append([weighted_metrics(model, counts) for model in models])
    return [
        {
            name: np.concatenate([chunk[number][name] for chunk in chunks])
            for name in chunks[0][number]
        }
        for number in range(len(models))
    ]


def intervals(
    values: dict[str, float], samples: dict[str, Reals], *, confidence: float
) -> dict[str, Interval]:
    """One interval per metric that has a value."""
    return {
        name: interval(value, samples[name], confidence=confidence)
        for name, value in sorted(values.items())
        if np.isfinite(value)
    }


def interval(value: float, samples: Reals, *, confidence: float) -> Interval:
    """Percentile interval around `value`; resamples without value (NaN) say nothing."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return Interval(value=_rounded(value), low=_rounded(low), high=_rounded(high))


def without_bias(values: dict[str, float], samples: dict[str, Reals]) -> dict[str, Reals]:
    """Centre the samples of the calibration error on its value.

    It is a sum of absolute values, so resampling noise only ever adds to it: its resamples lie
    above the value, and their plain percentiles would call a model surely worse than it is.
    """
    error = samples["calibration_error"]
    centred = error - (error.mean() - values["calibration_error"])
    return samples | {"calibration_error": np.clip(centred, 0, 1)}


def _draw(random: np.random.RandomState, n_rows: int, n_resamples: int) -> Reals:
    """How often each row is drawn: [n_resamples, n_rows], every row of it sums to n_rows."""
    drawn: Integers = random.randint(0, n_rows, size=(n_resamples, n_rows))
    drawn += np.arange(n_resamples)[:, None] * n_rows
    counts = np.bincount(drawn.ravel(), minlength=n_resamples * n_rows)
    return counts.reshape(n_resamples, n_rows).astype(np.float64)


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS) + 0.0  # -0.0 would be another JSON text
