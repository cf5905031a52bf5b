"""Score: how much does a row's label contradict what the trusted rows say?

The loss of its own label under a plain model of the trusted rows: -log(probability).
"""

from typing import Any

import numpy as np

from retraining.screening.calibration import Integers, Reals
from retraining.screening.plain_model import fit_plain_model
from retraining.screening.trusted import Matrix, TrustedRows

NAME = "label_disagreement"
SENTENCE = "Its label contradicts what nearly all trusted rows like it say."

_SMALLEST_PROBABILITY = 1e-6


class LabelDisagreement:
    """Scores rows by the loss of their own label; larger is odder."""

    name = NAME

    def __init__(self, trusted: TrustedRows) -> None:
        self._trusted = trusted
        self._model = self._fit(trusted.features, trusted.labels)

    def score(self, features: Matrix, labels: Integers) -> Reals:
        """Loss of each row's own label [m]."""
        return _loss(self._model, features, labels)

    def trusted_scores(self) -> Reals:
        """The same for the trusted rows, each by a model that did not see it [n]."""
        trusted = self._trusted
        scores = np.zeros(len(trusted.labels))
        for fitted, held_out in trusted.out_of_fold():
            model = self._fit(trusted.features[fitted], trusted.labels[fitted])
            scores[held_out] = _loss(model, trusted.features[held_out], trusted.labels[held_out])
        return scores

    def _fit(self, features: Matrix, labels: Integers) -> Any:
        return fit_plain_model(
            features,
            labels,
            n_classes=self._trusted.n_classes,
            class_weight="balanced",  # a rare class must not look odd for being rare
        )


def _loss(model: Any, features: Matrix, labels: Integers) -> Reals:
    # Every class has a row in every fold's training part, so column c is class c.
    table = model.predict_proba(features.astype(np.float64))
    own = table[np.arange(len(labels)), labels]
    result: Reals = np.round(-np.log(np.maximum(own, _SMALLEST_PROBABILITY)), 6)
    return result
