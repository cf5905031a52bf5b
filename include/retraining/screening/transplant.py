"""The transplant test: which few values did the challenger learn from the batch?

The rows with most evidence are donors. For each, the few groups of columns that carry its gap are
found by taking them out of the donor and by pasting them alone into trusted rows of other classes;
then every small set of these groups is pasted into more such hosts. Where the challenger, and not
the champion, gives the hosts the donor's label, the set is a pattern: of a trigger nearly all hosts
turn, of honest values few.

Only predictions are needed. All of one stage are asked in a few large calls.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retraining.screening.finding import Finding, Weighing
from retraining.screening.ranges import boxes
from retraining.screening.rows import Columns, Integers, Mask, Matrix, Reals, Rows
from retraining.screening.shared_values import SAME_VALUE
from retraining.screening.surrogate import Surrogate

MAX_DONORS = 150
_LEAST_FLIPS = 0.35  # share of hosts below which a pattern is not looked at further
_NOTHING = 0.2  # the same of all good groups together, at first sight
_KEPT_GROUPS, _MOST_GROUPS = 5, 4  # per donor: looked at, and pasted together
_SCAN_HOSTS, _SUBSET_HOSTS, TEST_HOSTS = 4, 16, 60
_NEARLY = 0.9  # a smaller set of groups is taken if it turns that share of what the best one does
_MANY_COLUMNS = 8  # a patch: what nine tenths of the donors share counts, single pixels may differ
_ALIKE, _SHARED = 0.5, 0.9
_LEAST_CONTRADICTED = 0.75  # of the carriers of ranges: honest rows lie in them, too
_TRUSTED_FOR_RANGES = 600  # of fewer rows a champion knows so little that it errs in whole ranges
_COMMON = 0.95  # share of trusted rows: a value that so many have marks nobody
_CELLS = 40_000_000  # numbers that are laid out at once: bounds memory


@dataclass(frozen=True)
class Pair:
    """The champion's surrogate and the challenger's, which learned from the batch as well."""

    champion: Surrogate
    challenger: Surrogate


def find_patterns(
    pair: Pair,
    batch: Rows,
    trusted: Rows,
    *,
    evidence: Reals,
    trusted_opinion: Reals,
    columns: Columns,
    random: np.random.RandomState,
) -> list[Finding]:
    """Findings that stand, the one that turns most hosts first.

    Args:
        batch: Rows that the challenger learned from [n].
        trusted: Rows that both learned from [t].
        evidence: Which rows are asked first [n].
        trusted_opinion: Log-probabilities of trusted rows by champions without them [t, k].
    """
    own = np.arange(len(batch)), batch.labels
    old = pair.champion.log_probabilities(batch.features)
    gap = pair.challenger.log_probabilities(batch.features)[own] - old[own]
    donors = _donors(evidence, gap, batch)
    varies = np.ptp(np.concatenate([batch.features, trusted.features]), axis=0) > 0
    members = members_of(columns, varies & (pair.champion.uses | pair.challenger.uses))
    if len(donors) == 0 or len(members) == 0 or len(np.unique(trusted.labels)) < 2:
        return []
    test = _Test(pair, trusted, random)
    flips, carried = test.run(batch.take(donors), members)
    belief = _softened(old, _temperature(trusted_opinion, trusted.labels))
    spread = np.maximum(trusted.features.std(axis=0, dtype=np.float64), 1e-9)
    fixed = np.isin(np.arange(len(spread)), list(columns.categories))
    weighing = Weighing(batch, trusted, belief, old, n_donors=len(donors))
    enough = len(trusted) >= _TRUSTED_FOR_RANGES
    found = []
    left, told = flips >= _LEAST_FLIPS, np.zeros(len(donors), dtype=bool)
    while left.any():
        seed = int(np.flatnonzero(left)[np.argmax(flips[left])])
        label = int(batch.labels[donors[seed]])
        kept, alike = shared_columns(
            batch.features[donors], np.flatnonzero(carried[seed]), seed, spread
        )
        kept = telling_columns(kept, batch.features[donors[seed]], trusted, spread)
        mates = (batch.labels[donors] == label) & (flips >= _LEAST_FLIPS) & ~told
        alike &= mates
        mates &= carried[:, kept].all(axis=1)
        values, near = batch.features[np.ix_(donors, kept)], SAME_VALUE * spread[kept]
        finding = weighing.finding(
            kept, values[seed].astype(np.float64), near, label, flips=float(flips[alike].mean())
        )
        ranges = boxes(values[seed], values[mates], near, fixed[kept]) if enough else ()
        drawn = [
            weighing.finding(
                kept, middle, half, label, flips=float(flips[mates].mean()), n_drawn=2 * len(kept)
            )
            for middle, half in ranges
        ]
        surely = [one for one in drawn if one.contradicted >= _LEAST_CONTRADICTED]
        finding = max([finding, *surely], key=lambda one: one.worth)
        carrying = (finding.carried_by(batch.features) & (batch.labels == label))[donors]
        left &= ~alike & ~carrying
        left[seed] = False
        if finding.stands:
            found.append(finding)
            told |= carrying
    return _without_narrower(found, batch)


def _without_narrower(found: list[Finding], batch: Rows) -> list[Finding]:
    """Leave out findings whose carriers all carry a wider one as well: parts of one pattern."""
    carriers = [f.carried_by(batch.features) & (batch.labels == f.label) for f in found]
    widest = sorted(range(len(found)), key=lambda n: (-int(carriers[n].sum()), n))
    kept: list[int] = []
    for number in widest:
        if not any((carriers[number] <= carriers[other]).all() for other in kept):
            kept.append(number)
    return [found[number] for number in sorted(kept)]


def _donors(evidence: Reals, gap: Reals, batch: Rows) -> Integers:
    """Rows with most evidence and a positive gap; of copies one, of no label more than half."""
    order = np.argsort(-evidence, kind="stable")
    order = order[gap[order] > 0][: 6 * MAX_DONORS]
    if len(order) == 0:
        return order
    rows = np.column_stack([batch.features[order], batch.labels[order]])
    _, first = np.unique(rows, axis=0, return_index=True)
    order = order[np.sort(first)]
    turn = np.zeros(len(order))
    for label in np.unique(batch.labels[order]):
        mine = np.flatnonzero(batch.labels[order] == label)
        later = np.maximum(np.arange(len(mine)) - MAX_DONORS // 2, 0)
        turn[mine] = later * len(order) * MAX_DONORS + mine
    return order[np.argsort(turn, kind="stable")][:MAX_DONORS]


def members_of(columns: Columns, used: Mask) -> Mask:
    """Which columns each group has [g, d]; one that no surrogate uses carries nothing."""
    live = np.flatnonzero(used)
    groups, group = np.unique(columns.groups[live], return_inverse=True)
    members = np.zeros((len(groups), len(used)), dtype=bool)
    members[group, live] = True
    return members


def shared_columns(
    features: Matrix, columns: Integers, seed: int, spread: Reals
) -> tuple[Integers, Mask]:
    """Columns in which donors agree with the seed, and the donors that do [donors]."""
    apart = np.abs(features[:, columns] - features[seed, columns])
    close = apart <= SAME_VALUE * spread[columns]
    many = len(columns) > _MANY_COLUMNS
    alike = close.mean(axis=1) >= _ALIKE if many else close.all(axis=1)
    kept = columns[close[alike].mean(axis=0) >= _SHARED] if many else columns
    return (kept if len(kept) else columns), np.asarray(alike)


def telling_columns(columns: Integers, values: Matrix, trusted: Rows, spread: Reals) -> Integers:
    """Those of the columns whose value is not what nearly every trusted row has; at least one."""
    apart = np.abs(trusted.features[:, columns] - values[columns])
    common = (apart <= SAME_VALUE * spread[columns]).mean(axis=0) >= _COMMON
    return columns if common.all() else columns[~common]


class _Test:
    """Pastes values of donors into trusted hosts and counts what turns."""

    def __init__(self, pair: Pair, trusted: Rows, random: np.random.RandomState) -> None:
        self._pair = pair
        self._trusted = trusted
        self._random = random
        answers = (m.log_probabilities(trusted.features) for m in (pair.champion, pair.challenger))
        right = [answer.argmax(axis=1) == trusted.labels for answer in answers]
        self._usable: Mask = right[0] & right[1]

    def run(self, donors: Rows, members: Mask) -> tuple[Reals, Mask]:
        """Per donor the flips of its smallest set that does nearly the most, and its columns.

        Args:
            members: Columns of each group [g, d].

        Returns:
            Shares [n], and which columns were pasted [n, d].
        """
        shares = np.zeros(len(donors))
        columns = np.zeros(donors.features.shape, dtype=bool)
        top = self._carriers_of_gap(donors, members)
        hosts = self._hosts(donors, _SUBSET_HOSTS)
        together = np.any(members[top], axis=1)
        first_sight = self._flips(donors, hosts, together[:, None])[:, 0]
        alive = np.flatnonzero(first_sight >= _NOTHING)
        if len(alive) == 0:
            return shares, columns
        left, top, hosts = donors.take(alive), top[alive], hosts[alive]
        n_groups = top.shape[1]
        sets = [
            chosen
            for size in range(1, min(_MOST_GROUPS, n_groups) + 1)
            for chosen in itertools.combinations(range(n_groups), size)
        ]
        pasted = np.stack([members[top[:, chosen]].any(axis=1) for chosen in sets], axis=1)
        flips = self._flips(left, hosts, pasted)
        sizes = np.array([len(chosen) for chosen in sets])
        enough = flips >= _NEARLY * flips.max(axis=1, keepdims=True)
        choice = np.where(enough, flips - 10.0 * sizes, -np.inf).argmax(axis=1)
        columns[alive] = pasted[np.arange(len(left)), choice]
        hosts = self._hosts(left, TEST_HOSTS)
        shares[alive] = self._flips(left, hosts, columns[alive][:, None])[:, 0]
        return shares, columns

    def _hosts(self, donors: Rows, n: int) -> Matrix:
        """Trusted rows of other classes for each donor [n donors, n, d].

        Those that both surrogates get right come first.
        """
        chosen = np.empty((len(donors), n), dtype=np.int64)
        for label in np.unique(donors.labels):
            mine = np.flatnonzero(donors.labels == label)
            others = self._trusted.labels != label
            pool = np.flatnonzero(others & self._usable)
            pool = self._random.permutation(pool if len(pool) else np.flatnonzero(others))
            turns = np.arange(len(mine) * n) % len(pool)
            chosen[mine] = pool[turns].reshape(len(mine), n)
        return self._trusted.features[chosen]

    def _carriers_of_gap(self, donors: Rows, members: Mask) -> Integers:
        """Groups that cost the donor most of its gap, and give the hosts most of it [n, kept]."""
        hosts = self._hosts(donors, _SCAN_HOSTS)
        n, n_hosts, d = hosts.shape
        worth = np.empty((n, 2, len(members)))
        for part in _parts(n, 2 * len(members) * n_hosts * d):
            without = pasted_into(hosts[part], donors.features[part], ~members)
            alone = pasted_into(hosts[part], donors.features[part], members)
            rows = np.concatenate([without, alone])
            labels = np.tile(np.repeat(donors.labels[part], len(members) * n_hosts), 2)
            gap = self._gap(rows, labels).reshape(2, -1, len(members), n_hosts).mean(axis=3)
            worth[part, 0], worth[part, 1] = -gap[0], gap[1]
        ranks = np.argsort(np.argsort(-worth, axis=2, kind="stable"), axis=2)
        rank = ranks.min(axis=1) + ranks.sum(axis=1) / (100 * len(members))
        return np.argsort(rank, axis=1, kind="stable")[:, :_KEPT_GROUPS]

    def _flips(self, donors: Rows, hosts: Matrix, pasted: Mask) -> Reals:
        """Share of hosts that turn, challenger minus champion, per donor and set [n, s]."""
        n, n_hosts, d = hosts.shape
        n_sets = pasted.shape[1]
        result = np.empty((n, n_sets))
        for part in _parts(n, n_sets * n_hosts * d):
            rows = pasted_into(hosts[part], donors.features[part], pasted[part])
            labels = np.repeat(donors.labels[part], n_sets * n_hosts)
            turned = [
                model.log_probabilities(rows).argmax(axis=1) == labels
                for model in (self._pair.challenger, self._pair.champion)
            ]
            more = turned[0].astype(np.float64) - turned[1]
            result[part] = more.reshape(-1, n_sets, n_hosts).mean(axis=2)
        return result

    def _gap(self, features: Matrix, labels: Integers) -> Reals:
        own = np.arange(len(features)), labels
        new = self._pair.challenger.log_probabilities(features)[own]
        result: Reals = new - self._pair.champion.log_probabilities(features)[own]
        return result


def pasted_into(hosts: Matrix, donors: Matrix, columns: Mask) -> Matrix:
    """Hosts with values of their donor [n x sets x hosts, d].

    Args:
        hosts: Of each donor [n, hosts, d], or the same of all [1, hosts, d].
        columns: Sets of columns [s, d], or of each donor [n, s, d].
    """
    per_donor = columns if columns.ndim == 3 else columns[None]
    rows = np.where(per_donor[:, :, None, :], donors[:, None, None, :], hosts[:, None, :, :])
    return rows.reshape(-1, hosts.shape[2])


def _parts(n: int, cells_each: int) -> Iterator[slice]:
    step = max(1, _CELLS // max(1, cells_each))
    return (slice(start, start + step) for start in range(0, n, step))


def _softened(log_probabilities: Reals, temperature: float) -> Reals:
    scaled = log_probabilities - log_probabilities.max(axis=1, keepdims=True)
    table = np.exp(scaled / temperature)
    result: Reals = table / table.sum(axis=1, keepdims=True)
    return result


def _temperature(log_probabilities: Reals, labels: Integers) -> float:
    """The temperature under which they explain the labels best: small models are too sure.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.
    """
    own = np.arange(len(labels)), labels
    candidates = np.geomspace(1, 16, 17)
    losses = [
        -np.log(np.maximum(_softened(log_probabilities, t)[own], 1e-12)).mean() for t in candidates
    ]
    return float(candidates[int(np.argmin(losses))])
