"""Can a classifier tell a source's new rows from trusted ones?

The classifier two-sample test (Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR
2017), on features and label together, so that a known row with another label counts too. Boosted
trees are cross-fitted: each row is scored by trees that did not see it. The interval of the area
under the curve is that of DeLong, DeLong and Clarke-Pearson (Biometrics 1988).

Two honest weeks differ, so the answer is put on record and condemns nobody.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, rankdata

from retraining.records import Interval, SourceDifference
from retraining.screening.opinions import spread
from retraining.screening.rows import SEED, Columns, Mask, Matrix, Reals, Rows
from retraining.screening.surrogate import boosted_trees

MIN_ROWS = 50  # of either sample: fewer give an interval as wide as the scale
_MOST_ROWS = 1000  # of either: an area of 0.54 is told from 0.5
_FOLDS = 3
_CONFIDENCE = 0.95
_NAMED = 3  # columns; a fourth seldom helps whoever looks
_DIGITS = 4


def difference_of(
    new: Rows, own_history: Rows, trusted: Rows, *, columns: Columns
) -> SourceDifference | None:
    """Compare a source's new rows with its accepted ones, or with all trusted rows.

    Args:
        new: Of one source.
        own_history: Its accepted rows; where they are too few, `trusted` stands in for them.
        trusted: Accepted rows of all sources and reference rows.

    Returns:
        None when either sample has fewer than `MIN_ROWS`.
    """
    is_own = len(own_history) >= MIN_ROWS
    known = own_history if is_own else trusted
    if min(len(new), len(known)) < MIN_ROWS:
        return None
    random = np.random.RandomState(SEED)
    new, known = _drawn(new, random), _drawn(known, random)
    both = Rows.joined([new, known])
    table = np.column_stack([both.features, both.labels]).astype(np.float32)
    is_new = np.arange(len(both)) < len(new)
    scores, weight = _cross_fitted(table, is_new, random)
    auc = area_under_curve(scores[is_new], scores[~is_new])
    return SourceDifference(
        own_history=is_own,
        n_new=len(new),
        n_trusted=len(known),
        auc=auc,
        told_by=_heaviest(weight, [*columns.names, "label"]) if auc.low > 0.5 else (),
    )


def area_under_curve(positives: Reals, negatives: Reals) -> Interval:
    """Chance that a positive [m] scores above a negative [n], with its 95% interval, in 0 to 1.

    Args:
        positives: Two or more; as `negatives`.
    """
    m, n = len(positives), len(negatives)
    ranks = rankdata(np.concatenate([positives, negatives]))
    # Of each row the share of the others that it beats: from ranks, as in Sun and Xu (2014).
    beaten = (ranks[:m] - rankdata(positives)) / n
    lost = 1 - (ranks[m:] - rankdata(negatives)) / m
    area = float(beaten.mean())
    error = float(np.sqrt(beaten.var(ddof=1) / m + lost.var(ddof=1) / n))
    reach = float(norm.ppf((1 + _CONFIDENCE) / 2)) * error
    return Interval(
        value=round(area, _DIGITS),
        low=round(max(area - reach, 0.0), _DIGITS),
        high=round(min(area + reach, 1.0), _DIGITS),
    )


def _drawn(rows: Rows, random: np.random.RandomState) -> Rows:
    return rows.take(np.sort(random.permutation(len(rows))[:_MOST_ROWS]))


def _cross_fitted(
    table: Matrix, is_new: Mask, random: np.random.RandomState
) -> tuple[Reals, Reals]:
    """How new each row looks to trees that did not see it [n], and how much columns tell [d]."""
    folds = spread(is_new.astype(np.int64), _FOLDS, random)
    scores = np.empty(len(table))
    weight = np.zeros(table.shape[1])
    for fold in range(_FOLDS):
        model = boosted_trees(
            seed=fold,
            n_estimators=40,
            num_leaves=7,
            min_child_samples=10,
            importance_type="gain",  # counts of splits favour columns with many values
        ).fit(table[folds != fold], is_new[folds != fold].astype(np.int64))
        raw = model.predict(table[folds == fold], raw_score=True)
        # Ranks: what one fold's trees are sure of, another's may only suspect.
        scores[folds == fold] = rankdata(np.round(raw, 6)) / len(raw)
        weight += model.feature_importances_
    return scores, weight


def _heaviest(weight: Reals, names: Sequence[str]) -> tuple[str, ...]:
    order = np.argsort(-weight.round(3), kind="stable")[:_NAMED]
    return tuple(names[number] for number in order if weight[number])
