"""Head: does the row lie where no trusted row lies, whatever its label?

Isolation forests (Liu, Ting and Zhou 2008). They find junk and values that never occurred
together; they do not find wrong labels, which the other heads are for.
"""

import numpy as np
from sklearn.ensemble import IsolationForest

from retraining.screening.opinions import Opinions, View
from retraining.screening.rows import SEED, Columns, Matrix, Reals

_N_TREES = 30  # per fold; every row but the trusted ones is judged by all folds


class Isolation:
    """How easily a row is cut off from the trusted rows, 0 to 1."""

    name = "isolation"
    sentence = "It lies far from all trusted rows."

    def fit(self, opinions: Opinions, columns: Columns) -> None:
        """One forest per fold of the trusted rows, so that these are judged unseen as well."""
        trusted = opinions.pool.rows.features[opinions.n_sample :]
        folds = opinions.pool.folds[opinions.n_sample :]
        self._forests = [
            IsolationForest(n_estimators=_N_TREES, random_state=SEED).fit(trusted[folds != fold])
            for fold in range(int(folds.max()) + 1)
        ]

    def score(self, view: View) -> Reals:
        """[m]."""
        result = np.zeros(len(view))
        features = view.rows.features
        for fold, forest in enumerate(self._forests):
            held_out = view.folds == fold
            if held_out.any():
                result[held_out] = -forest.score_samples(features[held_out])
        unseen = view.folds < 0
        if unseen.any():
            result[unseen] = _mean(self._forests, features[unseen])
        return result


def _mean(forests: list[IsolationForest], features: Matrix) -> Reals:
    result: Reals = -np.mean([forest.score_samples(features) for forest in forests], axis=0)
    return result
