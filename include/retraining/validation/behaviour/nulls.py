"""Numbers of a null, as the report shows them."""

import numpy as np

from retraining.records import NULL_LEVELS
from retraining.screening.rows import Reals

N_CHECKS = 6  # of a report, that share its false alarms
_DIGITS = 4  # significant, of a p-value: fewer than any processor's rounding could change


def quantiles_of(values: Reals) -> tuple[float, ...]:
    """Of the values of a null, at the levels of the report."""
    return tuple(round(float(value), 6) + 0.0 for value in np.quantile(values, NULL_LEVELS))


def corrected(p_value: float, n_looked_at: int) -> float:
    """The smallest of several p-values, corrected for their number (Bonferroni), rounded."""
    return float(f"{min(1.0, p_value * n_looked_at):.{_DIGITS}g}")
