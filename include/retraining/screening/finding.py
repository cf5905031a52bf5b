"""What the transplant test finds, and when it stands.

What a pattern says is a finding only if it cannot be explained otherwise: far more rows that carry
it have the label than the champion, its confidence calibrated on trusted rows, and the trusted
rows with the same values would let one expect (a binomial test, corrected for the number of
donors); and the champion contradicts most of them.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from retraining.screening.rows import Integers, Reals, Rows
from retraining.screening.shared_values import SharedValues

_TRUSTED_WEIGHT = 2.0  # trusted rows that the champion's belief about a row counts for
_MAX_P = 0.01
_LEAST_CONTRADICTED = 0.5
_MAX_P_OF_SOURCE = 0.1  # its rows go, too, when in doubt: the pattern itself is no chance


@dataclass(frozen=True, kw_only=True)
class Finding(SharedValues):
    """Values that the batch taught the challenger, against champion and trusted rows.

    Attributes:
        flips: Share of trusted hosts that turn for the challenger, minus the same for the champion.
        n_carriers: Sampled rows that carry the values and the label.
        n_trusted, n_trusted_of_label: Trusted rows that carry the values, and those of the label.
        chance: That an honest row with the values has the label.
        p_value: Of so many carriers with the label, times how often chance had a try.
        contradicted: Share of the carriers whose label the champion rejects.
        ranged: Whether it is about ranges, and not about the values of one row.
    """

    flips: float
    n_carriers: int
    n_trusted: int
    n_trusted_of_label: int
    chance: float
    p_value: float
    contradicted: float
    ranged: bool = False

    @property
    def stands(self) -> bool:
        """Whether neither the champion nor trusted rows explain it."""
        return self.p_value <= _MAX_P and self.contradicted >= _LEAST_CONTRADICTED

    @property
    def worth(self) -> float:
        """Carriers that the champion contradicts, less the others; nothing if it falls."""
        return self.n_carriers * (2 * self.contradicted - 1) if self.stands else -np.inf

    def sources_of(self, sources: Integers, labels: Integers) -> Integers:
        """Those whose rows with the values have the label more often than honest ones would.

        Common values may be part of a lie: other sources' rows have them honestly.

        Args:
            sources, labels: Of all rows that carry the values [n].
        """
        names, number = np.unique(sources, return_inverse=True)
        n_rows = np.bincount(number, minlength=len(names))
        n_of_label = np.bincount(number[labels == self.label], minlength=len(names))
        odd = binom.sf(n_of_label - 1, n_rows, self.chance) <= _MAX_P_OF_SOURCE
        result: Integers = names[odd]
        return result


@dataclass(frozen=True)
class Weighing:
    """What honest rows would let one expect of rows that share some values.

    Attributes:
        batch: Rows that the challenger learned from [n].
        trusted: Rows that somebody vetted, or that passed before.
        belief: How likely the champion, calibrated, finds each class of a row of the batch [n, k].
        old: Its log-probabilities [n, k].
        n_donors: That values are taken from: so often chance had a try with those of one.
    """

    batch: Rows
    trusted: Rows
    belief: Reals
    old: Reals
    n_donors: int

    def finding(
        self,
        columns: Integers,
        values: Reals,
        tolerances: Reals,
        label: int,
        *,
        flips: float,
        n_drawn: int = 0,
    ) -> Finding:
        """Who carries the values, and how likely so many have the label by honest chance.

        Args:
            columns, values, tolerances: As in `SharedValues` [c].
            flips: As in `Finding`.
            n_drawn: Donors that values and tolerances were chosen by: they prove nothing, and
                chance had a try with as many sets of them as there are (Littlestone and Warmuth,
                "Relating data compression and learnability", 1986).
        """
        shared = SharedValues(columns=columns, values=values, tolerances=tolerances, label=label)
        carries = shared.carried_by(self.batch.features)
        known = shared.carried_by(self.trusted.features)
        of_label = carries & (self.batch.labels == label)
        n_known = int(known.sum())
        n_known_of_label = int((self.trusted.labels[known] == label).sum())
        expected = _TRUSTED_WEIGHT * self.belief[carries, label] + n_known_of_label
        chance = min(float((expected / (_TRUSTED_WEIGHT + n_known)).mean()), 0.999)
        n_tries = math.comb(max(self.n_donors, n_drawn), n_drawn or 1)
        n_proving = int(of_label.sum()) - n_drawn
        p_value = float(binom.sf(n_proving - 1, int(carries.sum()) - n_drawn, chance))
        return Finding(
            columns=columns,
            values=values,
            tolerances=tolerances,
            label=label,
            flips=round(flips, 6),
            n_carriers=int(of_label.sum()),
            n_trusted=n_known,
            n_trusted_of_label=n_known_of_label,
            chance=chance,
            p_value=min(1.0, p_value * n_tries) if n_proving > 0 else 1.0,
            ranged=n_drawn > 0,
            contradicted=round(float((self.old[of_label].argmax(axis=1) != label).mean()), 6),
        )
