"""How far a day's rows moved from those that the champion learned from: effect sizes, no p-values.

With many rows a test calls any difference significant, however small; what matters is how large it
is. Numbers: the Kolmogorov-Smirnov distance, the largest difference of the two distribution
functions. Categories and classes: the total variation distance, half the sum of the differences of
their shares. Both lie between 0 (the same) and 1 (nothing in common). Of an image only its mean
brightness is looked at, as a number: a change of what it shows at the same brightness is not seen.

The interval allows for the noise of both samples without any assumption about the distributions:
- Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality" (Annals of Probability
  1990), for the distribution function;
- Weissman et al., "Inequalities for the L1 deviation of the empirical distribution" (HP Labs 2003),
  for shares of k values.
By the triangle inequality the true distance differs from the measured one by no more than the two
samples' own errors together, so the interval is, if anything, too wide.
"""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.monitoring.metrics import interval
from retraining.records import Interval
from retraining.spec import CategoryFeature, Feature, ImageFeature

Reals = npt.NDArray[np.float64]
Positions = npt.NDArray[np.integer]

# More rows change no digit that anybody would act on (the allowance is 0.009 then), and images of
# a million rows need not be in memory at once.
MAX_ROWS = 50_000


def feature_drift(
    feature: Feature, day: "pd.Series", baseline: "pd.Series", *, confidence: float
) -> Interval:
    """Distance of a column on the day from the same column of the baseline; both have rows."""
    if isinstance(feature, CategoryFeature):
        codes = [
            pd.Index(feature.categories).get_indexer(pd.Index(column)) for column in (day, baseline)
        ]
        return class_drift(codes[0], codes[1], len(feature.categories), confidence=confidence)
    values = [
        brightness(column, feature)
        if isinstance(feature, ImageFeature)
        else column.to_numpy(dtype=np.float64)
        for column in (day, baseline)
    ]
    return number_drift(values[0], values[1], confidence=confidence)


def number_drift(day: Reals, baseline: Reals, *, confidence: float) -> Interval:
    """Kolmogorov-Smirnov distance of two samples."""
    both = np.concatenate([day, baseline])
    steps = [
        np.searchsorted(np.sort(sample), both, side="right") / len(sample)
        for sample in (day, baseline)
    ]
    distance = float(np.abs(steps[0] - steps[1]).max())
    noise = sum(_massart(len(sample), 1 - confidence) for sample in (day, baseline))
    return interval(distance, distance - noise, distance + noise)


def class_drift(
    day: Positions, baseline: Positions, n_values: int, *, confidence: float
) -> Interval:
    """Total variation distance of two samples of positions in a list of `n_values`.

    A position of -1 is a value that is not in the list (any longer), and counts as one more.
    """
    n_values += 1
    shares = [
        np.bincount(sample + 1, minlength=n_values) / len(sample) for sample in (day, baseline)
    ]
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    noise = sum(_weissman(len(sample), n_values, 1 - confidence) for sample in (day, baseline))
    return interval(distance, distance - noise, distance + noise)


def brightness(column: "pd.Series", feature: ImageFeature) -> Reals:
    """Mean of each image's bytes, 0 to 1."""
    pixels = np.frombuffer(b"".join(column), dtype=np.uint8).reshape(len(column), feature.n_bytes)
    means: Reals = pixels.mean(axis=1, dtype=np.float64)
    return means / feature.max_value


def thinned(frame: pd.DataFrame) -> pd.DataFrame:
    """At most `MAX_ROWS` of the rows, evenly spread, the same every time."""
    if len(frame) <= MAX_ROWS:
        return frame
    chosen = np.linspace(0, len(frame) - 1, MAX_ROWS).round().astype(np.int64)
    return frame.iloc[chosen].reset_index(drop=True)


def _massart(n: int, alpha: float) -> float:
    """Error of one distribution function that is exceeded with probability alpha / 2 at most."""
    return math.sqrt(math.log(4 / alpha) / (2 * n))


def _weissman(n: int, k: int, alpha: float) -> float:
    """The same for the total variation of k shares: 2^k - 2 events, each with probability below."""
    events = math.log(2**k - 2) if k < 50 else k * math.log(2)
    return math.sqrt(2 * (events + math.log(2 / alpha)) / n) / 2
