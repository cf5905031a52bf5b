"""Where much is odd, look more strictly: among like rows, of one user, of a source's class.

Poison comes in pockets, honest mistakes do not. A row in bad company needs less evidence of its
own: its p-value is multiplied by what the company says, before the procedure of Benjamini and
Hochberg.

* *Like rows that are held*: by the share of the others (structure-adaptive: Li and Barber,
  "Multiple testing with the structure-adaptive Benjamini-Hochberg algorithm", JRSS B 2019).
* *Like rows of the batch, its user, its class of its source*: by the odds of a lie there, against
  the odds anywhere (locally adaptive weights: Cai, Sun and Xia, "LAWS", JASA 2022, section 2).
  Lies are rows surely beyond those expected. Among like rows of the same label: more of the batch
  than trusted ones there explain, as near-copies are. Of a user or a class, few of whose lies stand
  out by themselves: more *striking* ones than chance and the user in the middle show, or trusted
  rows of the class and the same class of other sources.

Only odd rows can be held, and only of these something is known; of all rows, how many there are.
"""

from dataclasses import dataclass, field

import numpy as np

from retraining.screening.evidence import stand_out
from retraining.screening.judge import Answers
from retraining.screening.rows import Integers, Mask, Reals, Rows

STRIKING = 0.05  # share of trusted rows with as much evidence
_ANYWHERE, _MOST = 0.05, 0.9  # share of lies of no pocket, and the largest believed of any
_CREDIT = 5  # honest rows that a group is given in advance: one lie proves no pocket
_PRIOR_ROWS = 20  # that a class is given, striking as often as chance has it
_SEVERAL_ROWS = 5  # of users whose share of striking rows says something
_SURELY = 2.0  # standard deviations beyond what is expected


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

    def company(self, odd: Answers, p_values: Reals, like: Reals, usual: Reals) -> Reals:
        """What the p-value of each odd row is multiplied by for its company [c], up to 1.

        Args:
            p_values: Of the odd rows [c].
            like: What `lies_nearby` found [c].
            usual: What `usual_share` found [k].
        """
        striking = p_values <= STRIKING
        lies = like.copy()
        known = odd.users >= 0
        users = odd.users[known]
        expected = self._usual_of_users(users, striking[known])
        of_user = _lies_of(users, striking[known], self.of_users(users), expected)
        lies[known] = np.maximum(lies[known], of_user)
        known = odd.sources >= 0
        classes = self._class_of(odd.sources, odd.labels)[known]
        elsewhere = self._striking_elsewhere(classes, striking[known], odd.labels[known])
        most = np.maximum(elsewhere, usual[odd.labels[known]])
        of_class = _lies_of(classes, striking[known], self._classes[classes], most)
        lies[known] = np.maximum(lies[known], of_class)
        return _odds(_ANYWHERE) / _odds(lies.clip(_ANYWHERE, _MOST))

    def stand_out(self, p_values: Reals, sources: Integers, rate: float) -> Mask:
        """Odd rows that stand out among all rows of their source [c], at that false discovery rate.

        Each source by itself: a flood in one lowers the bar for no other.
        """
        found = np.zeros(len(p_values), dtype=bool)
        for source in np.unique(sources):
            members = sources == source
            found[members] = stand_out(p_values[members], rate, n_tests=self.of_source(int(source)))
        return found

    def _usual_of_users(self, users: Integers, striking: Mask) -> float:
        """Share of striking rows of the user in the middle, at least what chance has."""
        n_rows = self._users[1:]
        n_striking = np.bincount(users[striking], minlength=len(n_rows))
        several = n_rows >= _SEVERAL_ROWS
        if not several.any():
            return STRIKING
        return max(STRIKING, float(np.median(n_striking[several] / n_rows[several])))

    def _striking_elsewhere(self, classes: Integers, striking: Mask, labels: Integers) -> Reals:
        """Share of striking rows among those of the same label in other sources [m]."""
        here = np.bincount(classes[striking], minlength=len(self._classes))
        elsewhere = self._of_labels(here)[labels] - here[classes]
        n_rows = self._of_labels(self._classes)[labels] - self._classes[classes]
        return _largest_share(elsewhere, n_rows)

    def _of_labels(self, of_classes: Integers) -> Integers:
        """Sums over all sources [k], of counts per source and class."""
        labels = np.arange(len(of_classes)) % self.n_classes
        return np.bincount(labels, of_classes, self.n_classes).astype(np.int64)

    def _class_of(self, sources: Integers, labels: Integers) -> Integers:
        return (sources + 1) * self.n_classes + labels


def _added(counts: Integers, groups: Integers) -> Integers:
    """Counts of groups, with those of some more rows."""
    more = np.bincount(groups)
    total = np.zeros(max(len(counts), len(more)), dtype=np.int64)
    total[: len(counts)] += counts
    total[: len(more)] += more
    return total


def honest_share(lies: Reals) -> Reals:
    """What a p-value is multiplied by where that share of the like rows is held [c]."""
    return 1 - np.minimum(lies, _MOST)


def usual_share(p_values: Reals, labels: Integers, n_classes: int) -> Reals:
    """Share of striking rows among trusted ones of each class [k], from p-values and labels."""
    n_striking = np.bincount(labels[p_values <= STRIKING], minlength=n_classes)
    return _largest_share(n_striking, np.bincount(labels, minlength=n_classes))


def _largest_share(n_striking: Integers, n_rows: Integers) -> Reals:
    """The largest share that such counts are likely to come from, at least what chance has."""
    n = n_rows + _PRIOR_ROWS
    share: Reals = (n_striking + STRIKING * _PRIOR_ROWS) / n
    return np.maximum(share + _SURELY * np.sqrt(share * (1 - share) / n), STRIKING)


def lies_nearby(near: Integers, labels: Integers, of_pool: Integers, n_sample: int) -> Reals:
    """Share of batch rows surely beyond those that trusted rows explain, around each row [c].

    Args:
        near: Places in the pool of the nearest rows of the same label [c, neighbours]; -1: none.
        labels: Of the rows [c].
        of_pool: Labels of the pool: `n_sample` rows of the batch, then the trusted ones.
    """
    n_of_label = np.bincount(of_pool)
    of_batch = np.bincount(of_pool[:n_sample], minlength=len(n_of_label))
    n = (near >= 0).sum(axis=1)
    n_batch = n - (near >= n_sample).sum(axis=1)
    return _lies(n_batch, n, of_batch[labels] / np.maximum(n_of_label[labels], 1))


def _lies_of(groups: Integers, striking: Mask, n_rows: Integers, expected: Reals | float) -> Reals:
    """Share of rows surely beyond the expected share of striking ones, among others of a group."""
    _, group = np.unique(groups, return_inverse=True)
    return _lies(np.bincount(group, striking)[group] - striking, n_rows - 1, expected)


def _lies(found: Reals | Integers, n: Integers, expected: Reals | float) -> Reals:
    """Share that is surely more than `expected` of n rows [m]; below 0 where it is less."""
    deviation = np.sqrt(expected * (1 - np.asarray(expected)) * n)
    result: Reals = (found - expected * n - _SURELY * deviation) / (n + _CREDIT)
    return result


def _odds(share: Reals | float) -> Reals:
    return np.asarray(share / (1 - np.asarray(share)))
