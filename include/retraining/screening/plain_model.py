"""A plain model of some rows: logistic regression, solved to its optimum.

It judges labels, and stands in for the challenger where one model of its own per question would
cost too much. On spambase and digits, with 200 to 2,350 trusted rows, it found as many flips as a
random forest or gradient boosting (within a point, or more) in a tenth of their time or less.
Newton's method solves it to its optimum, so that no processor's rounding shows in a score.
"""

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from retraining.screening.rows import Integers, Matrix, Reals

_INVERSE_PENALTY = 0.1  # C; 0.03 to 0.3 differ by less than a point on spambase and digits
# Newton's method inverts a matrix of (features x classes) squared: 8 MB at a thousand.
_MAX_NEWTON_WEIGHTS = 1000


def fit_plain_model(
    features: Matrix,
    labels: Integers,
    *,
    n_classes: int,
    row_weights: Reals | None = None,
) -> Any:
    """Fit scikit-learn's model; the same for the same input on one thread.

    Args:
        features: [n, d].
        labels: [n], of two classes or more.
        n_classes: Of the spec; how large the problem is.
        row_weights: How many rows each stands for [n].
    """
    return LogisticRegression(
        C=_INVERSE_PENALTY,
        solver="newton-cholesky"
        if features.shape[1] * n_classes <= _MAX_NEWTON_WEIGHTS
        else "lbfgs",
        tol=1e-6,
        max_iter=300,
    ).fit(features.astype(np.float64), labels, sample_weight=row_weights)
