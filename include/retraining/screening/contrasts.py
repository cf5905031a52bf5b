"""Contrast sets: values that one source's rows of a class share, and that nobody else's rows have.

A clean-label trigger contradicts nobody: its rows have the label that everybody would give them.
But they share values that do not belong together. So combinations of values are counted: among the
new rows of a class, and among trusted rows of the same class. One stands out if three things that
know nothing of each other say so:

- it is far commoner among new rows than among trusted ones (the exact conditional test of
  Przyborowski and Wilenski, Biometrika 1940, Bonferroni over all pairs that were looked at);
- it lies with some sources of the week and not with the others (hypergeometric, Bonferroni over the
  sets that got this far and over the sources): what the world does, all sources deliver;
- its rows have one label, as few rows drawn at random would.

Honest news of one source are rows that are alike; values that were pasted into rows leave these as
far apart in all other columns as rows of their class are. So what also lies close together there is
no finding.

The search is that of Bay and Pazzani, "Detecting Group Differences: Mining Contrast Sets" (Data
Mining and Knowledge Discovery 2001), over pairs, each then widened to all values that its rows
share. Needs two sources.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import binom, hypergeom

from retraining.screening.rows import Columns, Integers, Mask, Reals, Rows, drawn
from retraining.screening.shared_values import SAME_VALUE, SharedValues

_LEAST_ROWS, _LEAST_SHARE = 8, 0.002  # of the rows of a class, that share a value
_COMMON = 0.5  # share of trusted rows of the class: a value that so many have marks nobody
_MOST_VALUES = 600  # looked at in pairs, those first that new rows have more of
_MOST_SETS = 40  # of a class, that are widened and tested
_SHARED = 0.8  # share of a pair's rows that have a value, which then belongs to the set
_SAME_ROWS = 0.8  # share of a pair's rows that an earlier pair had
_MAX_P = 0.002
_MAX_P_OF_LABEL = 0.01
_LEAST_APART = 0.5  # distance to the nearest other one, beside that of trusted rows of the class
_LEAST_PRECISE = 0.5  # share of the new carriers that trusted rows do not let one expect
_MOST_COMPARED = 500  # rows: bounds memory
_FAR = 3.0  # deviations: further away is as far


@dataclass(frozen=True, kw_only=True)
class Contrast(SharedValues):
    """Values that rows of some sources share, and hardly any trusted row has.

    Attributes:
        n_carriers: Sampled rows that carry the values and the label.
        n_trusted, n_trusted_of_label: Trusted rows that carry the values, and those of the label.
        sources: Numbers of those sources: rows of others may have the values by chance.
        p_value: That honest rows share them, against trusted rows and against other sources: the
            larger of both.
    """

    n_carriers: int
    n_trusted: int
    n_trusted_of_label: int
    sources: tuple[int, ...]
    p_value: float

    def sources_of(self, _sources: Integers, _labels: Integers) -> Integers:
        """Those that it lies with."""
        return np.array(self.sources, dtype=np.int64)


def find_contrasts(batch: Rows, trusted: Rows, *, columns: Columns) -> list[Contrast]:
    """Contrast sets of the new rows [n] against the trusted ones [t], class by class."""
    if len(np.unique(batch.sources[batch.sources >= 0])) < 2 or len(trusted) < 2:
        return []
    spread = np.maximum(trusted.features.std(axis=0, dtype=np.float64), 1e-9)
    found = []
    for label in np.unique(batch.labels):
        found += _Class(batch, trusted, int(label), columns, spread).contrasts()
    return found


@dataclass(frozen=True)
class _Values:
    """Values of single columns that rows of a class have [v].

    Attributes:
        column: Number of each one's column [v].
        new, old: Which rows of the class have it, new [v, n] and trusted [v, t].
    """

    column: Integers
    new: Mask
    old: Mask


class _Class:
    """The rows of one class, new and trusted."""

    def __init__(
        self, batch: Rows, trusted: Rows, label: int, columns: Columns, spread: Reals
    ) -> None:
        self._batch, self._trusted, self._label = batch, trusted, label
        self._columns, self._spread = columns, spread
        self._mine = batch.labels == label
        self._new = batch.take(self._mine)
        self._old = trusted.take(trusted.labels == label)

    def contrasts(self) -> list[Contrast]:
        """Those that stand out."""
        if len(self._old) == 0 or len(self._new) < _LEAST_ROWS:
            return []
        values = self._values()
        first, second, p_value = self._pairs(values)
        sets: list[SharedValues] = []
        seen: list[Mask] = []
        for pair in np.argsort(p_value, kind="stable"):
            if p_value[pair] > _MAX_P or len(seen) == _MOST_SETS:
                break
            rows = values.new[first[pair]] & values.new[second[pair]]
            if any((rows & other).sum() > _SAME_ROWS * rows.sum() for other in seen):
                continue
            seen.append(rows)
            shared = self._widened(values, rows, int(first[pair]), int(second[pair]))
            sets += [] if shared is None else [shared]
        odd = [shared for shared in sets if self._one_label(shared) and self._spread_out(shared)]
        told = [self._beside_trusted(shared, n_pairs=len(p_value)) for shared in odd]
        rare = [contrast for contrast in told if contrast.p_value <= _MAX_P]
        apart = [self._beside_sources(contrast, len(rare)) for contrast in rare]
        return [contrast for contrast in apart if contrast.p_value <= _MAX_P]

    def _values(self) -> _Values:
        """Values that enough new rows and not most trusted rows have, in two rasters per column.

        Where a raster divides what lies close together, the other one does not.
        """
        least = max(_LEAST_ROWS, int(_LEAST_SHARE * len(self._new)))
        column, raster, place, more = [], [], [], []
        for number in map(int, np.flatnonzero(np.ptp(self._new.features, axis=0) > 0)):
            for half in (0.0, 0.5):
                new, counts = np.unique(self._cells(self._new, number, half), return_counts=True)
                share = _share_of(new, self._cells(self._old, number, half))
                kept = np.flatnonzero((counts >= least) & (share <= _COMMON))
                expected = len(self._new) * share[kept]
                more += list((counts[kept] - expected) / np.sqrt(expected + 1))
                column += [number] * len(kept)
                raster += [half] * len(kept)
                place += list(new[kept])
        order = np.argsort(-np.array(more), kind="stable")[:_MOST_VALUES]
        chosen = [int(n) for n in order if more[n] > 0]

        def having(rows: Rows) -> Mask:
            masks = [self._cells(rows, column[n], raster[n]) == place[n] for n in chosen]
            return np.array(masks, dtype=bool).reshape(len(chosen), len(rows))

        chosen_columns = np.array([column[n] for n in chosen], dtype=np.int64)
        return _Values(chosen_columns, having(self._new), having(self._old))

    def _cells(self, rows: Rows, column: int, half: float) -> Reals:
        width = 2 * SAME_VALUE * self._spread[column]
        result: Reals = np.floor(rows.features[:, column].astype(np.float64) / width + half)
        return result

    def _pairs(self, values: _Values) -> tuple[Integers, Integers, Reals]:
        """Pairs of values of two columns that enough new rows have, and their p-values."""
        both, both_old = _together(values.new), _together(values.old)
        # Pixels of one patch make a trigger together; columns of one category cannot.
        of = values.column if self._columns.is_image else self._columns.groups[values.column]
        first, second = np.nonzero(np.triu(both >= _LEAST_ROWS, 1) & (of[:, None] != of[None]))
        counts, old_counts = both[first, second], both_old[first, second]
        p_value = _commoner(counts, len(self._new), old_counts, len(self._old))
        return first, second, np.minimum(p_value * len(p_value), 1.0)

    def _widened(self, values: _Values, rows: Mask, first: int, second: int) -> SharedValues | None:
        """All values that nearly all rows of a pair have; None where too few have all of them."""
        held = values.new[:, rows].mean(axis=1) >= _SHARED
        held[[first, second]] = True
        core = values.new[held].all(axis=0)
        if core.sum() < _LEAST_ROWS:
            return None
        columns = np.unique(values.column[held])
        cells = self._new.features[core][:, columns].astype(np.float64)
        return SharedValues(
            columns=columns,
            values=(cells.min(axis=0) + cells.max(axis=0)) / 2,
            tolerances=SAME_VALUE * self._spread[columns],
            label=self._label,
        )

    def _one_label(self, shared: SharedValues) -> bool:
        """Whether as many rows drawn at random would hardly have the label so often."""
        carriers = shared.carried_by(self._batch.features)
        usual = max(self._mine.mean(), (self._trusted.labels == self._label).mean())
        n_mine = int((carriers & self._mine).sum())
        chance = float(binom.sf(n_mine - 1, carriers.sum(), min(usual, 1 - 1e-9)))
        return chance <= _MAX_P_OF_LABEL

    def _spread_out(self, shared: SharedValues) -> bool:
        """Whether its rows lie elsewhere nearly as far apart as trusted rows of the class do."""
        carriers = np.flatnonzero(shared.carried_by(self._new.features))
        n = min(len(carriers), len(self._old), _MOST_COMPARED)
        others = np.setdiff1d(np.arange(len(self._spread)), shared.columns)
        middle = self._old.features[:, others].mean(axis=0, dtype=np.float64)

        def nearest(rows: Rows) -> float:
            table = (rows.features[:, others] - middle) / self._spread[others]
            return _mean_to_nearest(np.clip(table, -_FAR, _FAR))

        mine = nearest(self._new.take(carriers[drawn(len(carriers), n)]))
        usual = nearest(self._old.take(drawn(len(self._old), n)))
        return mine >= max(_LEAST_APART * usual, 1e-9)

    def _beside_trusted(self, shared: SharedValues, *, n_pairs: int) -> Contrast:
        """How likely so many new rows have it, if they have it as often as trusted ones."""
        n = int(shared.carried_by(self._new.features).sum())
        n_known = int(shared.carried_by(self._old.features).sum())
        p_value = _commoner(np.array([n]), len(self._new), np.array([n_known]), len(self._old))
        mostly_honest = n_known / len(self._old) * len(self._new) > (1 - _LEAST_PRECISE) * n
        return Contrast(
            columns=shared.columns,
            values=shared.values,
            tolerances=shared.tolerances,
            label=shared.label,
            n_carriers=n,
            n_trusted=int(shared.carried_by(self._trusted.features).sum()),
            n_trusted_of_label=n_known,
            sources=(),
            p_value=1.0 if mostly_honest else min(1.0, float(p_value[0]) * n_pairs),
        )

    def _beside_sources(self, contrast: Contrast, n_tested: int) -> Contrast:
        """The same with the sources that it lies with, and how likely that is by chance.

        Rows of nobody, for whom a reviewer vouched, stand among the others.
        """
        sources = self._new.sources
        names = np.unique(sources[sources >= 0])
        of = sources[contrast.carried_by(self._new.features)]
        n_rows = np.array([(sources == name).sum() for name in names], dtype=np.int64)
        counts = np.array([(of == name).sum() for name in names], dtype=np.int64)
        order = np.argsort(-counts / np.maximum(n_rows, 1), kind="stable")
        n_sets = len(names) if (sources < 0).any() else len(names) - 1
        if n_sets < 1:
            return replace(contrast, p_value=1.0)
        found, asked = np.cumsum(counts[order])[:n_sets], np.cumsum(n_rows[order])[:n_sets]
        p_values = hypergeom.sf(found - 1, len(sources), len(of), asked)
        p_value = float(p_values.min()) * n_sets * n_tested
        lies_with = names[order[: int(p_values.argmin()) + 1]]
        return replace(
            contrast,
            sources=tuple(sorted(map(int, lies_with))),
            p_value=min(1.0, max(contrast.p_value, p_value)),
        )


def _share_of(values: Reals, among: Reals) -> Reals:
    """Of each value [v], the share of numbers that are it."""
    known, counts = np.unique(among, return_counts=True)
    place = np.searchsorted(known, values).clip(0, len(known) - 1)
    result: Reals = np.where(known[place] == values, counts[place], 0) / len(among)
    return result


def _together(having: Mask) -> Reals:
    """How many rows have both of two values [v, v]."""
    masks = having.astype(np.float32)  # whole numbers, so exact in whatever order they are added
    return np.asarray(masks @ masks.T, dtype=np.float64)


def _commoner(n_new: Reals | Integers, new: int, n_old: Reals | Integers, old: int) -> Reals:
    """P-value that new rows have something as often, if they have it at the rate of old ones."""
    result: Reals = binom.sf(n_new - 1, n_new + n_old, new / (new + old))
    return result


def _mean_to_nearest(table: Reals) -> float:
    """Mean city-block distance of each row to the nearest other one; 0 for fewer than two."""
    if len(table) < 2:
        return 0.0
    apart = cdist(table, table, "cityblock")
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(axis=1).mean())
