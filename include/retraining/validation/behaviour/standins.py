"""Plain stand-ins: models of the challenger's architecture, trained in this process without noise.

They say what rows teach where one private model per question would cost too much, in time and in
budget. They live as long as the checks, and are stored nowhere.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from retraining.features import Preprocessing, fit_preprocessing, labels_of
from retraining.screening.rows import SEED, Reals
from retraining.spec import LinearArchitecture, PipelineSpec

_INVERSE_PENALTY = 0.1  # C of the logistic regression, as in screening's plain model
_PENALTY = 1e-3  # of a network's weights: about the smoothness that clipping and noise leave
_ITERATIONS = 30


@dataclass(frozen=True)
class StandIn:
    """A fitted plain model."""

    preprocessing: Preprocessing
    fitted: Any
    n_classes: int

    def predict(self, frame: pd.DataFrame) -> Reals:
        """Probability of each class of the pipeline file [n, k]; 0 for those it never saw."""
        found = self.fitted.predict_proba(self.preprocessing.encode(frame).astype(np.float64))
        table = np.zeros((len(frame), self.n_classes))
        table[:, self.fitted.classes_.astype(int)] = found
        return table


def fit_standin(
    rows: pd.DataFrame, *, reference: pd.DataFrame, spec: PipelineSpec, seed: int = 0
) -> StandIn | None:
    """Fit one on rows of the pipeline; None where they have one class only.

    The same for the same input on one thread.
    """
    labels = labels_of(rows, spec)
    if len(np.unique(labels)) < 2:
        return None
    preprocessing = fit_preprocessing(spec, reference)
    encoded = preprocessing.encode(rows).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may stop before it has converged: it need not
        fitted = _estimator(spec, len(rows), seed).fit(encoded, labels)
    return StandIn(preprocessing, fitted, len(spec.label.classes))


def _estimator(spec: PipelineSpec, n_rows: int, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    architecture = spec.training.architecture
    if isinstance(architecture, LinearArchitecture):
        return LogisticRegression(C=_INVERSE_PENALTY, max_iter=300, tol=1e-6)
    return MLPClassifier(
        architecture.hidden_units,
        activation=architecture.activation,
        alpha=_PENALTY * n_rows / 1000,
        batch_size=min(64, n_rows),
        learning_rate_init=2e-3,
        max_iter=_ITERATIONS,
        random_state=SEED + seed,
    )
