"""Head: does the row's label contradict what champion and challenger say together?

A challenger knows more than the champion of a small reference set, and less where it was lied to.
Both are pooled (log-linear: Genest and Zidek, "Combining Probability Distributions", Statistical
Science 1986, section 2) with the weight, and the temperature, that explain the labels of trusted
rows best. Label errors by probabilities of models that did not see the row: Northcutt, Jiang and
Chuang, "Confident Learning", JAIR 2021, section 3.
"""

import itertools

import numpy as np

from retraining.screening.heads.contradiction import margin_of_another
from retraining.screening.opinions import Opinions, View
from retraining.screening.rows import Columns, Integers, Reals

_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the champion
_TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 5.0)


class Consensus:
    """Margin of another class under both surrogates pooled, neither of which saw the row."""

    name = "consensus"
    sentence = "Trusted rows and the rest of the batch together speak for another label."

    def fit(self, opinions: Opinions, columns: Columns) -> None:
        """Choose the weights by the labels of trusted rows."""
        trusted = slice(opinions.n_sample, None)
        champion, challenger = opinions.pool.champion[trusted], opinions.pool.challenger[trusted]
        labels = opinions.pool.rows.labels[trusted]
        self._weight, self._temperature = min(
            itertools.product(_WEIGHTS, _TEMPERATURES),
            key=lambda chosen: _loss(_pooled(champion, challenger, *chosen), labels),
        )

    def score(self, view: View) -> Reals:
        """In nats [m]."""
        pooled = _pooled(view.champion, view.challenger, self._weight, self._temperature)
        return margin_of_another(pooled, view.rows.labels)


def _pooled(champion: Reals, challenger: Reals, weight: float, temperature: float) -> Reals:
    mixed = (weight * champion + (1 - weight) * challenger) / temperature
    mixed -= mixed.max(axis=1, keepdims=True)
    result: Reals = mixed - np.log(np.exp(mixed).sum(axis=1, keepdims=True))
    return result


def _loss(log_probabilities: Reals, labels: Integers) -> float:
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())
