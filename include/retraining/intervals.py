"""The interval of a share, for pages and records."""

import math
from statistics import NormalDist

from retraining.records import Interval

_DIGITS = 6  # few enough that no processor differs


def wilson(share: float, n_rows: int, *, confidence: float = 0.95) -> Interval:
    """A share of `n_rows` with its interval; of no rows, everything is possible.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (JASA
    22, 1927): unlike the usual one it stays inside 0 and 1, and holds for few rows.
    """
    if n_rows == 0:
        return Interval(value=share, low=0.0, high=1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = share + z * z / (2 * n_rows)
    half = z * math.sqrt(share * (1 - share) / n_rows + z * z / (4 * n_rows**2))
    low, high = ((middle + sign * half) / (1 + z * z / n_rows) for sign in (-1, 1))
    # Rounding must not put a share of exactly 0 or 1 outside its interval.
    low, high = min(max(low, 0.0), share), max(min(high, 1.0), share)
    value, low, high = (round(float(end), _DIGITS) for end in (share, low, high))
    return Interval(value=value, low=low, high=high)
