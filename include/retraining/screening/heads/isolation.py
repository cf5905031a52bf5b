"""Head: does the row lie where hardly a row lies, whatever its label?

An isolation forest (Liu, Ting and Zhou, "Isolation Forest", ICDM 2008, section 4) of the sampled
rows and the trusted ones together: a small reference set alone does not say where rows may lie.
Each tree learns from 256 rows, so that one row hardly speaks for itself. It finds junk and values
that never occur together; it does not find wrong labels, which the other heads are for.
"""

import numpy as np
from sklearn.ensemble import IsolationForest

from retraining.screening.opinions import Opinions, View
from retraining.screening.rows import SEED, Columns, Reals

_N_TREES = 100


class Isolation:
    """How easily a row is cut off from the others, 0 to 1."""

    name = "isolation"
    sentence = "It lies far from all other rows."

    def fit(self, opinions: Opinions, columns: Columns) -> None:
        """One forest of the whole pool."""
        forest = IsolationForest(n_estimators=_N_TREES, random_state=SEED)
        self._forest = forest.fit(opinions.pool.rows.features)

    def score(self, view: View) -> Reals:
        """[m]."""
        if len(view) == 0:
            return np.zeros(0)  # which the forest refuses
        result: Reals = -self._forest.score_samples(view.rows.features)
        return result
