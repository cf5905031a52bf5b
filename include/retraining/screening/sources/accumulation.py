"""Does one source add up to more than its weeks show?

A drip is a row or two a week: a look at one week cannot find it, and the champion has learned it.
So all rows of the window are asked about, those of accepted weeks too, twice: models that learned
from the reference set and all *other* sources, and models that learned from the source's other
rows as well. A row whose label the first contradict and the second believe is *taught by its source
alone*. Hard rows and honest mistakes are not: no other row teaches them. Where the world has
changed, other sources teach that too.

Honest sources deliver some such rows, of what only they see. How many is told by the window's other
sources, among rows of the same label (direct standardisation), and the test is exact: given how
many there are in all, those of one source are binomial (Przyborowski and Wilenski, "Homogeneity of
results in testing samples from Poisson series", Biometrika 1940), here with a stated ratio that
honest sources may differ by. Bonferroni over the sources.

With one source there is nobody to compare with, and nobody is condemned. Of sources that lie
together, each teaches what the others say: there, reference rows and patterns have to tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import binom

from retraining.records import SourceWindow
from retraining.screening.opinions import spread
from retraining.screening.rows import SEED, Columns, Integers, Mask, Reals, Rows
from retraining.screening.surrogate import Surrogate, fit_surrogate

MAX_P_VALUE = 0.01  # chance that any honest source of a week is condemned
MAX_RATIO = 2.5  # honest sources may teach alone as many times what the others do
_FOLDS, _REPEATS = 3, 2
_CONTRADICTED = np.log(0.2)  # at most as much is the label's log-probability without the source
_TAUGHT = 1.25  # nats that the source's other rows add to it


@dataclass(frozen=True)
class Accumulation:
    """What the sources of a window add up to.

    Attributes:
        sources: Of each row of the window [n].
        taught: Rows that their source alone teaches [n].
        windows: By source.
    """

    sources: Integers
    taught: Mask
    windows: Mapping[int, SourceWindow]

    @classmethod
    def nothing(cls) -> Self:
        """That of a window without a row."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool), {})

    def taught_by(self, sources: Sequence[int]) -> Mask:
        """Rows that one of these sources teaches alone [n]."""
        return np.asarray(self.taught & np.isin(self.sources, sources))


def accumulation_of(
    window: Rows, reference: Rows, *, columns: Columns, n_classes: int
) -> Accumulation:
    """Ask about every row of the window [n] what its source alone teaches.

    Args:
        window: Rows of accepted weeks and of the week, or some of them, drawn whoever delivered
            them; at least one.
    """
    names = [int(name) for name in np.unique(window.sources)]
    own = np.arange(len(window)), window.labels
    random = np.random.RandomState(SEED)

    def fit(rows: Rows, seed: int) -> Surrogate:
        known = Rows.joined([rows, reference])
        return fit_surrogate(
            known.features,
            known.labels,
            n_classes=n_classes,
            is_image=columns.is_image,
            seed=seed,
        )

    with_source: Reals = np.zeros((len(window), n_classes))
    without: Reals = np.zeros((len(window), n_classes))
    # Means of several models: what one of them memorised by chance, the others did not.
    for repeat in range(_REPEATS):
        folds = spread(window.labels, _FOLDS, random)
        for fold in range(_FOLDS):
            asked = np.flatnonzero(folds == fold)
            model = fit(window.take(folds != fold), repeat * _FOLDS + fold)
            with_source[asked] += model.log_probabilities(window.features[asked]) / _REPEATS
        for number, name in enumerate(names):
            asked = np.flatnonzero(window.sources == name)
            model = fit(window.take(window.sources != name), 100 + repeat * len(names) + number)
            without[asked] += model.log_probabilities(window.features[asked]) / _REPEATS
    gap = np.round(with_source[own] - without[own], 6)
    taught = (gap >= _TAUGHT) & (np.round(without[own], 6) <= _CONTRADICTED)
    return Accumulation(
        sources=window.sources,
        taught=taught,
        windows={name: _counted(name, taught, window, len(names)) for name in names},
    )


def adds_up(window: SourceWindow) -> bool:
    """Whether an honest source would hardly ever teach as much alone."""
    return window.p_value <= window.max_p_value


def sentence_of(window: SourceWindow) -> str:
    """Why a source that adds up is condemned, and what to do."""
    return (
        f"Of its {window.n_rows:,} rows, accepted weeks included, {window.n_taught:,} teach what"
        " every other source and the reference set contradict; from what other sources deliver"
        f" {window.expected_taught:.1f} were expected. An honest source has as many with a chance"
        f" of {window.p_value:.1g}, allowed is {window.max_p_value:g}. These rows are taken out of"
        " the accepted weeks; ask its owner who can write to it."
    )


def _counted(name: int, taught: Mask, rows: Rows, n_sources: int) -> SourceWindow:
    own = rows.sources == name
    n_rows, n_taught = int(own.sum()), int((own & taught).sum())
    expected, p_value = 0.0, 1.0
    if n_sources > 1:
        expected, odds = _expected(own, taught, rows.labels)
        n_all = int(taught.sum())
        odds *= MAX_RATIO
        p_value = float(binom.sf(n_taught - 1, n_all, odds / (1 + odds))) * n_sources
    return SourceWindow(
        n_rows=n_rows,
        n_taught=n_taught,
        expected_taught=round(expected, 2),
        n_sources=n_sources,
        p_value=round(min(p_value, 1.0), 6),
        max_p_value=MAX_P_VALUE,
    )


def _expected(own: Mask, taught: Mask, labels: Integers) -> tuple[float, float]:
    """How many taught rows a source would have, if as many of each label were as elsewhere.

    Returns:
        The number, and for each one elsewhere how many are to be expected here.
    """
    n_labels = int(labels.max()) + 1
    here = np.bincount(labels[own], minlength=n_labels)
    there = np.bincount(labels[~own], minlength=n_labels)
    taught_there = np.bincount(labels[~own & taught], minlength=n_labels)
    n_there, n_taught = int(there.sum()), int(taught_there.sum())
    rates = np.where(there > 0, taught_there / np.maximum(there, 1), n_taught / n_there)
    expected = float(here @ rates)
    return expected, expected / n_taught if n_taught else float(own.sum()) / n_there
