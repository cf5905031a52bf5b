"""What the transplant test finds, and when it stands.

What a pattern says is a finding only if it cannot be explained otherwise: far more rows that carry
it have the label than the champion, its confidence calibrated on trusted rows, and the trusted
rows with the same values would let one expect (a binomial test, corrected for the number of
donors); and the champion contradicts most of them.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from retraining.screening.rows import Integers
from retraining.screening.shared_values import SharedValues

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
        p_value: Of so many carriers with the label, times the number of donors.
        contradicted: Share of the carriers whose label the champion rejects.
    """

    flips: float
    n_carriers: int
    n_trusted: int
    n_trusted_of_label: int
    chance: float
    p_value: float
    contradicted: float

    @property
    def stands(self) -> bool:
        """Whether neither the champion nor trusted rows explain it."""
        return self.p_value <= _MAX_P and self.contradicted >= _LEAST_CONTRADICTED

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
