"""Head: does the row's label contradict what the trusted rows teach?"""

import numpy as np

from retraining.screening.opinions import Opinions, View
from retraining.screening.rows import Columns, Integers, Reals


def margin_of_another(log_probabilities: Reals, labels: Integers) -> Reals:
    """By how much the likeliest other class beats the row's own [n], in nats; else negative."""
    own = np.arange(len(labels)), labels
    others = log_probabilities.copy()
    others[own] = -np.inf
    result: Reals = others.max(axis=1) - log_probabilities[own]
    return result


class Contradiction:
    """Margin of another class under the champion."""

    name = "contradiction"
    sentence = "Trusted rows like it carry another label."

    def fit(self, opinions: Opinions, columns: Columns) -> None:
        """Nothing: the surrogates say it all."""

    def score(self, view: View) -> Reals:
        """In nats [m]."""
        return margin_of_another(view.champion, view.rows.labels)
