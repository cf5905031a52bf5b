"""From the values of one donor to the ranges in which its like lie.

An attacker who gives each row values of its own, a little apart or anywhere in the tail of a
column, leaves few rows that share them. But the same columns turn hosts for all of these rows, and
their values lie in a box that few honest rows are in: so boxes of more and more of them, nearest
first, are weighed like the values of one.
"""

from collections.abc import Iterator

import numpy as np

from retraining.screening.rows import Mask, Matrix, Reals

_MOST_COLUMNS = 8  # a patch of pixels has more, and its pixels are the same in every row
_SHARES = (0.25, 0.5, 0.75, 1.0)  # of the donors that a box is drawn around


def boxes(seed: Matrix, like: Matrix, near: Reals, fixed: Mask) -> Iterator[tuple[Reals, Reals]]:
    """Middle and half width of each box [c]; none of many columns.

    A box owes its sides to at most two rows per column, which are inside because they drew it.

    Args:
        seed: Values of one donor [c].
        like: Values of donors that the same columns turn hosts for, itself among them [n, c].
        near: How far apart values are still the same [c].
        fixed: Columns of which only the same value is alike [c].
    """
    if len(seed) > _MOST_COLUMNS:
        return
    apart = np.abs(like - seed) / near
    alike = (apart[:, fixed] <= 1).all(axis=1)
    drawn, apart = like[alike], apart[alike].max(axis=1)
    order = np.argsort(apart, kind="stable")
    for n_drawn in sorted({max(1, round(share * len(drawn))) for share in _SHARES}):
        inside = drawn[order[:n_drawn]].astype(np.float64)
        low, high = inside.min(axis=0), inside.max(axis=0)
        yield (low + high) / 2, (high - low) / 2 + near
