"""Where much was found, look more strictly: among like rows, of one user, of one source.

Poison comes in pockets, honest mistakes do not. A row whose neighbours, user or source were found
to lie needs less evidence of its own: its p-value counts as if multiplied by the share of honest
rows around it, before the procedure of Benjamini and Hochberg (structure-adaptive: Li and Barber,
"Multiple testing with the structure-adaptive Benjamini-Hochberg algorithm", JRSS B 2019).

Only odd rows can be held, and only of these something is known; of all rows, how many there are.
"""

from dataclasses import dataclass, field

import numpy as np

from retraining.screening.evidence import stand_out
from retraining.screening.judge import Answers
from retraining.screening.rows import Integers, Mask, Reals, Rows

_MOST = 0.9  # share of lies that is believed of any pocket: no row is held for its company alone
# Honest rows that a user, or a source's class, is given in advance: one lie proves no pocket.
_USER_CREDIT, _SOURCE_CREDIT = 5, 20


@dataclass
class Tally:
    """How many rows a table has per source, user, and source and class."""

    n_classes: int
    _sources: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _users: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _classes: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def add(self, rows: Rows) -> None:
        """Count some more rows."""
        self._sources = _added(self._sources, rows.sources + 1)  # -1: nobody knows
        self._users = _added(self._users, rows.users + 1)
        self._classes = _added(self._classes, self._class_of(rows.sources, rows.labels))

    def of_source(self, source: int) -> int:
        """Rows of one source; of -1 those whose source nobody knows."""
        return int(self._sources[source + 1])

    def of_users(self, users: Integers) -> Integers:
        """Rows of each user [m]."""
        return self._users[users + 1]

    @property
    def n_users(self) -> int:
        """Users who are known by name."""
        return int(np.count_nonzero(self._users[1:]))

    def share_of_pocket(self, near: Reals, odd: Answers, held: Mask) -> Reals:
        """Share of held rows around each odd row [c]: the largest of neighbours, user and class.

        Args:
            near: Share among each row's nearest rows of the same label [c].
            held: Odd rows that are held [c].
        """
        share = near.copy()
        known = odd.users >= 0
        if known.any():
            users = odd.users[known]
            of_user = _share(users, self.of_users(users), held[known], _USER_CREDIT)
            share[known] = np.maximum(share[known], of_user)
        classes = self._class_of(odd.sources, odd.labels)
        of_class = _share(classes, self._classes[classes], held, _SOURCE_CREDIT)
        return np.minimum(np.maximum(share, of_class), _MOST)

    def stand_out(self, p_values: Reals, sources: Integers, rate: float) -> Mask:
        """Odd rows that stand out among all rows of their source [c], at that false discovery rate.

        Each source by itself: a flood in one lowers the bar for no other.
        """
        found = np.zeros(len(p_values), dtype=bool)
        for source in np.unique(sources):
            members = sources == source
            found[members] = stand_out(p_values[members], rate, n_tests=self.of_source(int(source)))
        return found

    def _class_of(self, sources: Integers, labels: Integers) -> Integers:
        return (sources + 1) * self.n_classes + labels


def _added(counts: Integers, groups: Integers) -> Integers:
    """Counts of groups, with those of some more rows."""
    more = np.bincount(groups)
    total = np.zeros(max(len(counts), len(more)), dtype=np.int64)
    total[: len(counts)] += counts
    total[: len(more)] += more
    return total


def _share(groups: Integers, n_rows: Integers, held: Mask, credit: int) -> Reals:
    """Share of held rows among the others of each row's group [m]."""
    _, group = np.unique(groups, return_inverse=True)
    n_held = np.bincount(group, held)[group] - held
    result: Reals = n_held / (n_rows - 1 + credit)
    return result
