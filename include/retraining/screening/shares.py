"""How much of a source, or of a user, is poison: counts with intervals, and who is condemned.

Rows are held at a stated false discovery rate, so of h held rows that share is expected to be
honest; intervals are exact binomial ones (Clopper and Pearson 1934).
"""

import numpy as np
from scipy.stats import beta, binom

from retraining.records import Interval
from retraining.screening.pockets import STRIKING, Tally
from retraining.screening.rows import Integers, Mask, Reals

MIN_ODD_OF_USER = 3  # below it a user may have been unlucky
_FAMILY_ERROR = 0.01  # chance that any honest user of a week is condemned
_MAY_BE_ODD = 2 * STRIKING  # share of rows that an honest user may have, for his hard cases


def poison_share(n_held: int, n_rows: int, *, false_discovery_rate: float) -> Interval:
    """Estimated share of poison among the rows of a source, with its 95% interval."""
    if n_rows == 0:
        return Interval(value=0.0, low=0.0, high=1.0)
    low = beta.ppf(0.025, n_held, n_rows - n_held + 1) if n_held else 0.0
    high = beta.ppf(0.975, n_held + 1, n_rows - n_held) if n_held < n_rows else 1.0
    true = 1 - false_discovery_rate
    return Interval(
        value=round(true * n_held / n_rows, 6),
        low=round(true * float(low), 6),
        high=round(float(high), 6),
    )


def condemned_users(users: Integers, p_values: Reals, held: Mask, tally: Tally) -> Integers:
    """Users with more odd rows than an honest one can have, all users of the week considered.

    One-sided binomial tests, Bonferroni over the users. A row counts when it is held, or when few
    trusted rows have as much evidence: half of what a ring sends cannot hide among hard cases.

    Args:
        users: Of the odd rows [c]; -1 where that is not known.
        p_values: Share of trusted rows with as much evidence [c].
        held: Rows that are held for it, or carry a pattern [c].
        tally: Of all rows of the week.
    """
    counted = (users >= 0) & (held | (p_values <= STRIKING))
    names, user = np.unique(users[counted], return_inverse=True)
    if len(names) == 0:
        return names
    n_odd, n_rows = np.bincount(user), tally.of_users(names)
    chance = binom.sf(n_odd - 1, n_rows, _MAY_BE_ODD)
    guilty = (n_odd >= MIN_ODD_OF_USER) & (chance <= _FAMILY_ERROR / tally.n_users)
    return np.asarray(names[guilty])
