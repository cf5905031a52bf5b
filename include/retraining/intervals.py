"""The interval of a share, for pages and records."""

import math

from retraining.records import Interval

_NORMAL_95 = 1.959963984540054  # quantile 0.975 of the standard normal
_DIGITS = 6


def wilson(share: float, n_rows: int) -> Interval:
    """A share of `n_rows` with its 95% interval; of no rows, everything is possible.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (JASA
    22, 1927): unlike the usual one it stays inside 0 and 1, and holds for few rows.
    """
    if n_rows == 0:
        return Interval(value=share, low=0.0, high=1.0)
    squared = _NORMAL_95**2
    middle = share + squared / (2 * n_rows)
    half = _NORMAL_95 * math.sqrt(share * (1 - share) / n_rows + squared / (4 * n_rows**2))
    low, high = ((middle + sign * half) / (1 + squared / n_rows) for sign in (-1, 1))
    # Rounding must not put a share of exactly 0 or 1 outside its interval.
    return Interval(
        value=share,
        low=round(min(max(low, 0.0), share), _DIGITS),
        high=round(max(min(high, 1.0), share), _DIGITS),
    )
