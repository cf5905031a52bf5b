"""Surrogates: plain, fast models that stand in for champion and challenger to judge data.

Gradient boosting for tables and a small network for pictures: each sees more of what poison
teaches than the private models do (a trigger of a few dozen rows that DP training drowns in noise
is learned by both), so what is harmless to them is harmless.
"""

import warnings
from typing import Any, Protocol

import numpy as np

from retraining.errors import ConfigError
from retraining.screening.rows import SEED, Integers, Mask, Matrix, Reals

_SMALLEST = 1e-6  # no probability is less, so that one sure mistake does not weigh for everything
_FEW_ROWS = 600  # below it smaller trees, or each leaf would hold a row or two


class Surrogate(Protocol):
    """A fitted model."""

    @property
    def uses(self) -> Mask:
        """Columns that its answer can depend on [d]."""

    def log_probabilities(self, features: Matrix) -> Reals:
        """Of every class [m, n_classes]; finite."""


def fit_surrogate(
    features: Matrix, labels: Integers, *, n_classes: int, is_image: bool, seed: int = 0
) -> Surrogate:
    """Fit one; the same for the same input on one thread.

    Args:
        features: [n, d].
        labels: [n]; with rows of one class only, the surrogate knows no other.
        seed: Makes another model of the same rows.
    """
    if len(np.unique(labels)) < 2:
        return _Constant(labels, n_classes, features.shape[1])
    make = _network if is_image else _trees
    model = make(len(labels), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may stop before it has converged: it need not
        model.fit(features, labels)
    return _Fitted(model, n_classes)


def boosted_trees(*, seed: int, **settings: Any) -> Any:
    """LightGBM's classifier, the same for the same input.

    Raises:
        ConfigError: This machine lacks the library that LightGBM needs.
    """
    try:
        from lightgbm import LGBMClassifier
    except OSError as error:
        raise ConfigError(
            f"LightGBM cannot be loaded ({error}). Install libgomp (Debian, Ubuntu: apt install"
            " libgomp1)."
        ) from error
    return LGBMClassifier(
        n_jobs=1,
        random_state=SEED + seed,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
        **settings,
    )


def _trees(n_rows: int, seed: int) -> Any:
    few = n_rows < _FEW_ROWS
    return boosted_trees(
        seed=seed,
        n_estimators=40 if few else 60,
        num_leaves=7 if few else 15,
        min_child_samples=5 if few else 10,
        learning_rate=0.1,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.8,
        max_bin=127,
    )


def _network(n_rows: int, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        (64, 32),
        max_iter=20,
        batch_size=min(64, n_rows),
        learning_rate_init=2e-3,
        random_state=SEED + seed,
    )


class _Fitted:
    def __init__(self, model: Any, n_classes: int) -> None:
        self._model = model
        self._n_classes = n_classes
        splits = getattr(model, "feature_importances_", None)  # trees count them per column
        every = np.ones(model.n_features_in_, dtype=bool)
        self.uses: Mask = every if splits is None else np.asarray(splits > 0)

    def log_probabilities(self, features: Matrix) -> Reals:
        table = np.full((len(features), self._n_classes), _SMALLEST)
        if len(features):
            found = self._model.predict_proba(features)
            table[:, self._model.classes_.astype(int)] = np.maximum(found, _SMALLEST)
        result: Reals = np.log(table / table.sum(axis=1, keepdims=True))
        return result


class _Constant:
    def __init__(self, labels: Integers, n_classes: int, n_columns: int) -> None:
        self.uses: Mask = np.zeros(n_columns, dtype=bool)
        shares = np.bincount(labels, minlength=n_classes) / max(len(labels), 1)
        table = np.maximum(shares, _SMALLEST)
        self._log: Reals = np.log(table / table.sum())

    def log_probabilities(self, features: Matrix) -> Reals:
        return np.tile(self._log, (len(features), 1))
