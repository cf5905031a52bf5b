"""Where much was found, look more strictly: among like rows, of one user, of one source.

Poison comes in pockets, honest mistakes do not. A row whose neighbours, user or source were found
to lie needs less evidence of its own: its p-value counts as if multiplied by the share of honest
rows around it, before the procedure of Benjamini and Hochberg (structure-adaptive: Li and Barber,
"Multiple testing with the structure-adaptive Benjamini-Hochberg algorithm", JRSS B 2019).
"""

import numpy as np

from retraining.screening.evidence import stand_out
from retraining.screening.rows import Integers, Mask, Reals, Rows

_MOST = 0.9  # share of lies that is believed of any pocket: no row is held for its company alone
# Honest rows that a user, or a source's class, is given in advance: one lie proves no pocket.
_USER_CREDIT, _SOURCE_CREDIT = 5, 20


def share_of_pocket(near: Reals, rows: Rows, held: Mask) -> Reals:
    """Share of held rows around each row [n]: the largest of neighbours, user and source's class.

    Args:
        near: Share among each row's nearest rows of the same label [n].
    """
    share = near.copy()
    known = rows.users >= 0
    if known.any():
        share[known] = np.maximum(
            share[known], _share(rows.users[known], held[known], _USER_CREDIT)
        )
    classes = rows.sources * (int(rows.labels.max(initial=0)) + 1) + rows.labels
    return np.minimum(np.maximum(share, _share(classes, held, _SOURCE_CREDIT)), _MOST)


def stand_out_by_source(p_values: Reals, sources: Integers, rate: float) -> Mask:
    """Rows that stand out among the rows of their source [n], at that false discovery rate.

    Each source by itself: a flood in one lowers the bar for no other.
    """
    found = np.zeros(len(p_values), dtype=bool)
    for source in np.unique(sources):
        members = sources == source
        found[members] = stand_out(p_values[members], rate)
    return found


def _share(groups: Integers, held: Mask, credit: int) -> Reals:
    """Share of held rows among the others of each row's group [n]."""
    _, group = np.unique(groups, return_inverse=True)
    n_held = np.bincount(group, held)[group] - held
    result: Reals = n_held / (np.bincount(group)[group] - 1 + credit)
    return result
