"""Which few values of a row turn trusted rows for the challenger and not for another model?

Groups of columns are added one after the other: of those not yet pasted, the one that moves the
hosts furthest, by the difference of both models' probabilities of the donor's label. Values that
each do little alone (three attributes that only together are a trigger) are found by that where
groups judged one by one are not: of a trigger in 1% of the rows of nsl_kdd, which turned 80% of all
rows of other classes, seven of eight rows then turned 72 to 88% of the hosts, and none before.

Only predictions are needed; all donors are asked together, a bounded number of rows at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retraining.screening.rows import Integers, Mask, Matrix, Reals, Rows
from retraining.screening.surrogate import Surrogate
from retraining.screening.transplant import pasted_into

_STEPS = 4  # groups pasted together: screening's patterns have as many at most
_CHOICE_HOSTS, _SIZE_HOSTS, TEST_HOSTS = 6, 16, 60  # chosen by, cut down by, counted on
_NEARLY = 0.9  # fewer groups are taken if they turn that share of what all turn
_CELLS = 8_000_000  # numbers laid out at once: bounds memory


@dataclass(frozen=True)
class Pasting:
    """Two models, and trusted rows to paste into.

    Attributes:
        challenger, other: Asked whether rows turn for the first and not for the second.
        hosts: Trusted rows [h].
        members: Which columns each group has [g, d].
    """

    challenger: Surrogate
    other: Surrogate
    hosts: Rows
    members: Mask

    def run(self, donors: Rows, random: np.random.RandomState) -> tuple[Reals, Mask]:
        """Share of hosts that the values of each donor turn [n], and which they are [n, d]."""
        shares, columns = np.zeros(len(donors)), np.zeros(donors.features.shape, dtype=bool)
        for label in np.unique(donors.labels):
            hosts = self._hosts(int(label), random)
            mine = np.flatnonzero(donors.labels == label)
            if len(hosts) == 0:
                continue
            for part in _parts(mine, len(self.members) * _CHOICE_HOSTS * hosts.shape[1]):
                rows = donors.features[part]
                pasted = self._smallest(rows, self._grown(rows, hosts, label), hosts, label)
                columns[part] = pasted
                shares[part] = self._turned(rows, pasted[:, None], hosts[:TEST_HOSTS], label)[:, 0]
        return shares, columns

    def _hosts(self, label: int, random: np.random.RandomState) -> Matrix:
        """Trusted rows of other classes in random order, those that both models get right first."""
        right = [
            model.log_probabilities(self.hosts.features).argmax(axis=1) == self.hosts.labels
            for model in (self.challenger, self.other)
        ]
        order = random.permutation(len(self.hosts))
        order = order[self.hosts.labels[order] != label]
        order = order[np.argsort(~(right[0] & right[1])[order], kind="stable")]
        hosts: Matrix = self.hosts.features[order]
        return hosts

    def _grown(self, rows: Matrix, hosts: Matrix, label: int) -> Mask:
        """What was pasted after each step [n, steps, d]."""
        n, few = len(rows), hosts[:_CHOICE_HOSTS]
        pasted = np.zeros((n, 0, rows.shape[1]), dtype=bool)
        have = np.zeros(rows.shape, dtype=bool)
        for _ in range(min(_STEPS, len(self.members))):
            offered = self.members[None] | have[:, None]
            moved = self._moved(rows, offered, few, label)
            moved[(offered == have[:, None]).all(axis=2)] = -np.inf  # pasted already
            have = have | self.members[moved.argmax(axis=1)]
            pasted = np.concatenate([pasted, have[:, None]], axis=1)
        return pasted

    def _smallest(self, rows: Matrix, pasted: Mask, hosts: Matrix, label: int) -> Mask:
        """The fewest groups that turn nearly as many as the best number of them does [n, d]."""
        turned = self._turned(rows, pasted, hosts[:_SIZE_HOSTS], label)
        enough = turned >= _NEARLY * turned.max(axis=1, keepdims=True)
        smallest: Mask = pasted[np.arange(len(rows)), enough.argmax(axis=1)]
        return smallest

    def _moved(self, rows: Matrix, pasted: Mask, hosts: Matrix, label: int) -> Reals:
        """Mean difference of the label's probabilities over the hosts [n, sets]."""
        laid = pasted_into(hosts[None], rows, pasted)
        new, old = (
            np.exp(model.log_probabilities(laid)[:, label])
            for model in (self.challenger, self.other)
        )
        result: Reals = np.round(new - old, 9).reshape(*pasted.shape[:2], len(hosts)).mean(axis=2)
        return result

    def _turned(self, rows: Matrix, pasted: Mask, hosts: Matrix, label: int) -> Reals:
        """Share of hosts that turn, challenger minus other model [n, sets]."""
        laid = pasted_into(hosts[None], rows, pasted)
        new, old = (
            (model.log_probabilities(laid).argmax(axis=1) == label).astype(np.float64)
            for model in (self.challenger, self.other)
        )
        result: Reals = (new - old).reshape(*pasted.shape[:2], len(hosts)).mean(axis=2)
        return result


def _parts(places: Integers, cells_each: int) -> Iterator[Integers]:
    step = max(1, _CELLS // max(1, cells_each))
    return (places[start : start + step] for start in range(0, len(places), step))
