"""Score: how far does a row lie from all trusted rows of the class that it claims to be?

One isolation forest per class (Liu, Ting and Zhou 2008). It finds junk and values that never
occurred together; it does not find wrong labels, which `label_disagreement` is for.
"""

from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest

from retraining.screening.calibration import Integers, Reals
from retraining.screening.trusted import SEED, Matrix, TrustedRows

NAME = "isolation"
SENTENCE = "It lies far from all trusted rows of its class."

_N_TREES = 50  # 100 find no more junk on spambase and digits, and take twice as long


class Isolation:
    """Scores rows by how easily they are cut off from their class, 0 to 1; larger is odder."""

    name = NAME

    def __init__(self, trusted: TrustedRows) -> None:
        self._trusted = trusted
        everyone = np.ones(len(trusted.labels), dtype=bool)
        self._forests = [self._fit(label, everyone) for label in range(trusted.n_classes)]

    def score(self, features: Matrix, labels: Integers) -> Reals:
        """Of each row, within its own class [m]."""
        return self._score(self._forests, features, labels)

    def trusted_scores(self) -> Reals:
        """The same for the trusted rows, each by a forest that did not see it [n]."""
        trusted = self._trusted
        scores = np.zeros(len(trusted.labels))
        for fitted, held_out in trusted.out_of_fold():
            forests = [self._fit(label, fitted) for label in range(trusted.n_classes)]
            scores[held_out] = self._score(
                forests, trusted.features[held_out], trusted.labels[held_out]
            )
        return scores

    def _fit(self, label: int, rows: Any) -> Any:
        chosen = rows & (self._trusted.labels == label)
        forest = IsolationForest(n_estimators=_N_TREES, random_state=SEED)
        return forest.fit(self._trusted.features[chosen])

    def _score(self, forests: list[Any], features: Matrix, labels: Integers) -> Reals:
        scores = np.zeros(len(labels))
        for label, forest in enumerate(forests):
            rows = labels == label
            if rows.any():
                scores[rows] = -forest.score_samples(features[rows])
        result: Reals = np.round(scores, 6)
        return result
