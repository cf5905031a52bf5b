"""Are the rows that turn hosts spread over all rows by chance, or do they lie with some of them?

Rows are compared within strata: rows of one label that the other model finds about as likely. A
source with rows of a kind of its own, or with harder ones, is then held against rows that are as
hard, and not against all (subclassification: Rosenbaum and Rubin 1984). In each stratum the number
of counted rows among the asked ones is hypergeometric; over all strata their sum is (the exact
conditional test of Cochran, Mantel and Haenszel).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy.stats import hypergeom

from retraining.records import NULL_LEVELS
from retraining.screening.rows import Integers, Mask, Reals

_BINS = 5  # of likelihood, per label
_LEAST_ROWS = 200  # of a stratum: a few dozen poisoned rows must not fill one
_SMALLEST_SHARE = 1e-300


@dataclass(frozen=True)
class Count:
    """How many of the asked rows count, and how many would by chance.

    Attributes:
        n_rows, n_counted: All rows of each stratum, and those that count [s].
        n_asked, n_found: Asked rows of each stratum, and those that count [s].
    """

    n_rows: Integers
    n_counted: Integers
    n_asked: Integers
    n_found: Integers

    @property
    def found(self) -> int:
        """Asked rows that count."""
        return int(self.n_found.sum())

    @classmethod
    def of(cls, counted: Mask, asked: Mask, others: Mask, strata: Integers) -> Self:
        """Count rows.

        Args:
            counted: Which rows count [n].
            asked, others: Which rows are held against which [n].
            strata: Stratum of each row [n].
        """
        n_strata, every = int(strata.max()) + 1, asked | others
        return cls(
            np.bincount(strata[every], minlength=n_strata),
            np.bincount(strata[counted & every], minlength=n_strata),
            np.bincount(strata[asked], minlength=n_strata),
            np.bincount(strata[counted & asked], minlength=n_strata),
        )

    @cached_property
    def chances(self) -> Reals:
        """Probability of each number of counted rows among the asked ones, from 0."""
        total = np.ones(1)
        for n_rows, n_counted, n_asked in zip(
            self.n_rows, self.n_counted, self.n_asked, strict=True
        ):
            most = min(n_counted, n_asked)
            if most:
                of_one = hypergeom(n_rows, n_counted, n_asked).pmf(np.arange(most + 1))
                total = np.convolve(total, of_one)
        return total

    @property
    def p_value(self) -> float:
        """That chance alone gives as many."""
        beyond = float(self.chances[self.found :].sum())
        return min(max(beyond, _SMALLEST_SHARE), 1.0)

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Of the numbers that chance gives, at the levels of the report."""
        below = np.cumsum(self.chances)
        last = len(below) - 1
        places = np.searchsorted(below, NULL_LEVELS).clip(0, last)
        return tuple(float(place) for place in places)

    def with_planted(self, n_planted: int, n_turning: int, *, stratum: int) -> "Count":
        """More asked rows in one stratum, of which some count, were the others as all the rest.

        Not above what was found: what is there already may be an attack.
        """
        n_others, others = self.n_rows - self.n_asked, self.n_counted - self.n_found
        as_others = np.rint(self.n_asked * others / np.maximum(n_others, 1)).astype(np.int64)
        added = np.zeros(len(self.n_rows), dtype=np.int64)
        added[stratum] = 1
        found = as_others + n_turning * added
        return Count(
            self.n_rows + n_planted * added,
            others + found,
            self.n_asked + n_planted * added,
            found,
        )


def strata_of(labels: Integers, likelihood: Reals) -> Integers:
    """A stratum for each row [n]: its label, and how likely the other model finds that label.

    The first stratum of each label has the least likely rows.
    """
    strata = np.zeros(len(labels), dtype=np.int64)
    start = 0
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        n_bins = max(1, min(_BINS, len(mine) // _LEAST_ROWS))
        rank = np.argsort(np.argsort(likelihood[mine], kind="stable"), kind="stable")
        strata[mine] = start + rank * n_bins // len(mine)
        start += n_bins
    return strata
