"""The rows that judge: the vetted reference set and the accepted history, encoded once.

They are split into folds, so that a trusted row is scored by a model that never saw it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.errors import ConfigError
from retraining.features import labels_of
from retraining.screening.calibration import Integers, Mask
from retraining.spec import PipelineSpec

Matrix = npt.NDArray[np.float32]
Encode = Callable[[pd.DataFrame], Matrix]

N_FOLDS = 5
# Bounds time and memory in a long history. The reference set is kept whole.
MAX_TRUSTED_ROWS = 10_000
# Fixed and public: it picks history rows and folds. Screening hides nothing, and the same input has
# to give the same report. `RandomState`, because NumPy promises its stream for ever.
SEED = 20_260_101


@dataclass(frozen=True)
class TrustedRows:
    """Encoded trusted rows.

    Attributes:
        features: [n, d].
        labels: [n].
        folds: Which fold each row is in [n]; every class is spread over all folds.
        n_classes: Of the spec.
    """

    features: Matrix
    labels: Integers
    folds: Integers
    n_classes: int

    def out_of_fold(self) -> Iterator[tuple[Mask, Mask]]:
        """Per fold the rows to fit on and the rows to score [n]."""
        for fold in range(N_FOLDS):
            held_out = np.asarray(self.folds == fold)
            yield ~held_out, held_out


def trusted_rows(
    reference: pd.DataFrame,
    history: pd.DataFrame | None,
    *,
    spec: PipelineSpec,
    encode: Encode,
) -> TrustedRows:
    """Join reference and history, at most `MAX_TRUSTED_ROWS` of them, and split them into folds.

    Raises:
        ConfigError: The reference set has too few rows of a class to be checked against itself.
    """
    counts = np.bincount(labels_of(reference, spec), minlength=len(spec.label.classes))
    if (fewest := int(counts.min())) < N_FOLDS:
        name = spec.label.classes[int(counts.argmin())]
        raise ConfigError(
            f"The reference set of {spec.model} has {fewest} rows of class {name!r}; screening"
            f" needs at least {N_FOLDS} of each class. Pin a larger reference set."
        )
    random = np.random.RandomState(SEED)
    frame = reference
    if history is not None and len(history):
        room = max(MAX_TRUSTED_ROWS - len(reference), 0)
        kept = np.sort(random.permutation(len(history))[:room])
        frame = pd.concat([reference, history.iloc[kept]], ignore_index=True)
    labels = labels_of(frame, spec)
    folds = np.zeros(len(labels), dtype=np.int64)
    for label in range(len(spec.label.classes)):
        rows = np.flatnonzero(labels == label)
        folds[rows] = random.permutation(len(rows)) % N_FOLDS
    return TrustedRows(
        features=encode(frame), labels=labels, folds=folds, n_classes=len(spec.label.classes)
    )
