"""What champion and challenger surrogates say about rows that they never saw.

The champion learned from the trusted rows, the challenger from these and the batch. Each is fitted
several times, without a part of the rows, so that every row is judged by models that did not learn
from it: what a trusted row looks like then says what is to be expected of an honest one.

The champion leaves out whole weeks of the history: how much one honest week differs from the
others is then part of what is expected, and a week of ordinary drift does not look poisoned.
"""

from dataclasses import dataclass

import numpy as np

from retraining.screening.neighbours import N_NEIGHBOURS, Neighbours
from retraining.screening.rows import SEED, Columns, Integers, Reals, Rows
from retraining.screening.surrogate import Surrogate, fit_surrogate

_CHALLENGER_FOLDS = 3
_FOLDS_OF_MANY, _FOLDS_OF_FEW = 3, 5
_MANY_ROWS = 1000  # fewer trusted rows are divided into more folds, so that each model has enough


@dataclass(frozen=True)
class View:
    """Rows with what both surrogates say about them.

    Attributes:
        champion: Log-probabilities [n, k] of models that did not see the row.
        challenger: The same of the challenger.
        near: Places in the pool of the nearest rows of the same label [n, N_NEIGHBOURS]; -1 where
            nobody has looked for them.
    """

    rows: Rows
    champion: Reals
    challenger: Reals
    near: Integers

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def gap(self) -> Reals:
        """What the batch taught the challenger about each row's own label [n], in nats."""
        own = np.arange(len(self)), self.rows.labels
        result: Reals = self.challenger[own] - self.champion[own]
        return result


@dataclass(frozen=True)
class Opinions:
    """Both surrogates, and the rows that they were made of.

    Attributes:
        pool: The sampled batch rows, then the trusted rows.
        n_sample: How many of the pool are batch rows.
    """

    champions: tuple[Surrogate, ...]
    challengers: tuple[Surrogate, ...]
    pool: View
    n_sample: int
    neighbours: Neighbours

    def view(self, rows: Rows) -> View:
        """The same about other rows of the batch, without neighbours: the mean of all models."""
        return View(
            rows=rows,
            champion=_mean(self.champions, rows),
            challenger=_mean(self.challengers, rows),
            near=np.full((len(rows), N_NEIGHBOURS), -1, dtype=np.int64),
        )

    def closer(self, view: View, chosen: Integers) -> View:
        """Some rows of a view, with their neighbours."""
        rows = view.rows.take(chosen)
        return View(
            rows=rows,
            champion=view.champion[chosen],
            challenger=view.challenger[chosen],
            near=self.neighbours.of(rows),
        )


def form_opinions(sample: Rows, trusted: Rows, *, columns: Columns, n_classes: int) -> Opinions:
    """Fit both surrogates on the trusted rows and a sample of the batch."""
    random = np.random.RandomState(SEED)
    n_sample = len(sample)
    together = Rows.joined([sample, trusted])

    def fit(rows: Rows, seed: int) -> Surrogate:
        return fit_surrogate(
            rows.features, rows.labels, n_classes=n_classes, is_image=columns.is_image, seed=seed
        )

    folds = champion_folds(trusted, random)
    n_folds = int(folds.max()) + 1
    champions = tuple(fit(trusted.take(folds != fold), fold) for fold in range(n_folds))
    champion = np.empty((len(together), n_classes))
    champion[:n_sample] = _mean(champions, sample)
    for fold, model in enumerate(champions):
        held_out = np.flatnonzero(folds == fold)
        champion[n_sample + held_out] = model.log_probabilities(trusted.features[held_out])

    parts = spread(together.labels, _CHALLENGER_FOLDS, random)
    challengers = tuple(
        fit(together.take(parts != part), 50 + part) for part in range(_CHALLENGER_FOLDS)
    )
    challenger = np.empty((len(together), n_classes))
    for part, model in enumerate(challengers):
        held_out = np.flatnonzero(parts == part)
        challenger[held_out] = model.log_probabilities(together.features[held_out])
    neighbours = Neighbours(together, n_sample, columns)
    pool = View(
        rows=together,
        champion=champion,
        challenger=challenger,
        near=neighbours.of(together, np.arange(len(together), dtype=np.int64)),
    )
    return Opinions(champions, challengers, pool, n_sample, neighbours)


def champion_folds(trusted: Rows, random: np.random.RandomState) -> Integers:
    """Which champion leaves out each trusted row [n]: whole weeks, and the reference set spread."""
    n_folds = _FOLDS_OF_MANY if len(trusted) >= _MANY_ROWS else _FOLDS_OF_FEW
    folds = spread(trusted.labels, n_folds, random)
    weeks = np.unique(trusted.weeks[trusted.weeks >= 0])
    if len(weeks) >= n_folds:
        block = np.arange(len(weeks)) * n_folds // len(weeks)
        delivered = trusted.weeks >= 0
        folds[delivered] = block[np.searchsorted(weeks, trusted.weeks[delivered])]
    return folds


def spread(labels: Integers, n_folds: int, random: np.random.RandomState) -> Integers:
    """A fold for each row [n], every class spread evenly over all folds."""
    folds = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        folds[rows] = (random.permutation(len(rows)) + random.randint(n_folds)) % n_folds
    return folds


def _mean(models: tuple[Surrogate, ...], rows: Rows) -> Reals:
    total = sum(model.log_probabilities(rows.features) for model in models)
    result: Reals = np.asarray(total) / len(models)
    return result
