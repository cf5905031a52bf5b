"""Which of the values that turned hosts are the attacker's, and which only one donor's own?

What carries a donor can hold a value of its own beside the trigger: a price that speaks for the
class honestly. Few rows have both, so a purge of exactly these values leaves most of the trigger.
"""

import itertools

import numpy as np

from retraining.intervals import wilson
from retraining.screening.rows import Integers, Mask, Matrix, Reals, Rows

_MOST_COLUMNS = 8  # all of whose subsets are asked; patches of pixels have more and stay whole
_LEAST_PRECISE = 0.5  # share of the rows that trusted ones surely do not explain


def widened(
    columns: Integers, values: Matrix, tolerances: Reals, label: int, learned: Rows, trusted: Rows
) -> Integers:
    """Those of the columns that most learned rows share beyond what trusted rows explain.

    Args:
        columns: Numbers of the columns [c].
        values, tolerances: Of these columns [c].
        label: Class of the rows that carry them.
        learned: Rows that the challenger learned from.
        trusted: Rows that nobody learned from.

    Returns:
        Some of `columns`, or all where no part is surely the attacker's.
    """
    if not 1 < len(columns) <= _MOST_COLUMNS or not len(trusted):
        return columns

    def near(rows: Rows) -> Mask:
        apart = np.abs(rows.features[:, columns] - values)
        return np.asarray((apart <= tolerances + 1e-6) & (rows.labels == label)[:, None])

    mine, theirs = near(learned), near(trusted)

    def beyond(part: tuple[int, ...]) -> tuple[float, int]:
        """Carriers beyond the most that honest ones may be; fewer columns only for more rows."""
        n_carriers = int(mine[:, part].all(axis=1).sum())
        share = float(theirs[:, part].all(axis=1).mean())
        honest = wilson(share, len(trusted)).high * len(learned)
        sure = honest <= (1 - _LEAST_PRECISE) * n_carriers
        return (n_carriers - honest if sure else -np.inf), len(part)

    parts = [
        part
        for size in range(1, len(columns) + 1)
        for part in itertools.combinations(range(len(columns)), size)
    ]
    best = max(parts, key=beyond)
    return columns[list(best)] if beyond(best)[0] > -np.inf else columns
