"""Regions: where does the challenger answer otherwise than the champion, and who is right there?

Shallow trees, fitted on the tuning half and the new rows, find the boxes in which the challenger
turns one class into another. On rows that chose nothing, each box is judged by their labels: where
the challenger is as good as the champion, as many of the rows on which they differ speak for one as
for the other (sign test; McNemar, Psychometrika 1947).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.tree import DecisionTreeClassifier

from retraining.records import NULL_LEVELS, BehaviourResult
from retraining.screening.rows import Integers, Matrix, Reals, Rows
from retraining.screening.shared_values import SharedValues
from retraining.screening.surrogate import Surrogate
from retraining.validation.behaviour.look import Look
from retraining.validation.behaviour.nulls import corrected
from retraining.validation.behaviour.tracing import (
    named,
    nothing_measured,
    trace,
)

MEASURE = "trusted rows that only the champion answers rightly"
_MAX_PAIRS, _BOXES_EACH = 3, 2  # pairs of classes looked at, and boxes of each
_MAX_LEAVES, _LEAST_LEAF, _LEAST_SHARE = 6, 20, 0.02  # of a tree; rows of a leaf, or their share
_LEAST_DIFFERENT = 5  # rows that fit a tree at all
_MIN_TRUSTED = 100


@dataclass(frozen=True)
class _Box:
    """Part of the rows in which one class became another.

    Attributes:
        before, after: Class for the champion, and for the challenger.
        low, high: Bounds of each column, low outside and high inside [d]; None: everywhere.
        worse, better: Trusted rows there that only the champion, only the challenger has right.
    """

    before: int
    after: int
    low: Reals | None
    high: Reals | None
    worse: int
    better: int

    @property
    def p_value(self) -> float:
        """Of so many rows against the challenger, were it as good as the champion."""
        return float(binom.sf(self.worse - 1, self.worse + self.better, 0.5)) if self.worse else 1.0


def regions(look: Look) -> BehaviourResult:
    """Find boxes in which the challenger surely is worse than the champion."""
    if look.champion is None:
        return nothing_measured(
            "regions", MEASURE, "there is no champion to compare the challenger with."
        )
    judges = Rows.joined([look.judging, look.reference])
    if len(judges) < _MIN_TRUSTED:
        return nothing_measured(
            "regions",
            MEASURE,
            f"{len(judges)} trusted rows to judge by, expected at least {_MIN_TRUSTED}. Pin a"
            " larger holdout.",
        )
    boxes = list(_boxes(look, look.champion, judges))
    null = "as many rows for the challenger as against it"
    if not boxes:
        return BehaviourResult(
            name="regions",
            measure=MEASURE,
            p_value=1.0,
            null=null,
            sentence=f"Challenger and champion differ on fewer than {_LEAST_DIFFERENT} of the rows"
            " that were looked at, so there is no region to judge.",
        )
    return _told(look, boxes, null)


def _told(look: Look, boxes: Sequence[_Box], null: str) -> BehaviourResult:
    """The box that speaks most against the challenger, as a result."""
    worst = min(boxes, key=lambda box: (box.p_value, box.low is None))
    before, after = look.class_name(worst.before), look.class_name(worst.after)
    n, p_value = worst.worse + worst.better, corrected(worst.p_value, len(boxes))
    told: dict[str, Any] = {
        "name": "regions",
        "measure": MEASURE,
        "statistic": float(worst.worse),
        "p_value": p_value,
        "null": null,
        "n_null": n,
        "null_quantiles": [float(max(binom.ppf(level, n, 0.5), 0)) for level in NULL_LEVELS],
        "from_class": before,
        "to_class": after,
    }
    where = ""
    if worst.low is not None and worst.high is not None and p_value <= look.case.false_alarm_rate:
        shared = _shared(look, worst.low, worst.high, worst.after)
        pattern = shared.delivered(look.reader, look.case.spec)
        told |= {"pattern": pattern, **trace(look, shared, look.case.new)}
        where = f", in a region of {named(pattern)}"
    return BehaviourResult(
        **told,
        sentence=f"Where the champion says {before} and the challenger {after}, {worst.worse}"
        f" trusted rows are {before} and {worst.better} are {after}{where}.",
    )


def _boxes(look: Look, champion: Surrogate, judges: Rows) -> Iterator[_Box]:
    """Everywhere, and the boxes richest in the change, for the most frequent changes of class."""
    rows = Rows.joined([look.tuning, look.new.rows])
    before, after = _answers(champion, rows), _answers(look.challenger, rows)
    judged_before, judged_after = _answers(champion, judges), _answers(look.challenger, judges)
    for old, new in _frequent_changes(before, after, look.n_classes):
        changed = (before == old) & (after == new)
        judged = (judged_before == old) & (judged_after == new)
        tree = DecisionTreeClassifier(
            max_leaf_nodes=_MAX_LEAVES,
            min_samples_leaf=max(_LEAST_LEAF, int(_LEAST_SHARE * len(rows))),
            random_state=0,
        ).fit(rows.features, changed)
        leaves, judged_leaves = tree.apply(rows.features), tree.apply(judges.features)
        share = {leaf: changed[leaves == leaf].mean() for leaf in np.unique(leaves)}
        richest = sorted(share, key=lambda leaf: (-share[leaf], leaf))[:_BOXES_EACH]
        for leaf in (None, *richest):
            inside = judged if leaf is None else judged & (judged_leaves == leaf)
            low, high = (None, None) if leaf is None else _bounds(tree, leaf, rows.features)
            yield _Box(
                before=old,
                after=new,
                low=low,
                high=high,
                worse=int((inside & (judges.labels == old)).sum()),
                better=int((inside & (judges.labels == new)).sum()),
            )


def _answers(model: Surrogate, rows: Rows) -> Integers:
    answers: Integers = model.log_probabilities(rows.features).argmax(axis=1)
    return answers


def _frequent_changes(before: Integers, after: Integers, n_classes: int) -> list[tuple[int, int]]:
    """Pairs of classes (champion, challenger) that differ often enough, most often first."""
    codes, counts = np.unique((before * n_classes + after)[before != after], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MAX_PAIRS]
    return [
        (int(codes[n]) // n_classes, int(codes[n]) % n_classes)
        for n in order
        if counts[n] >= _LEAST_DIFFERENT
    ]


def _bounds(tree: DecisionTreeClassifier, leaf: int, features: Matrix) -> tuple[Reals, Reals]:
    """The box of a leaf [d] and [d]; infinite where it has no bound."""
    low, high = np.full(features.shape[1], -np.inf), np.full(features.shape[1], np.inf)
    nodes = tree.tree_
    parent = {
        int(child): node
        for side in (nodes.children_left, nodes.children_right)
        for node, child in enumerate(side)
        if child >= 0
    }
    while leaf in parent:
        above = parent[leaf]
        column, threshold = int(nodes.feature[above]), float(nodes.threshold[above])
        if nodes.children_left[above] == leaf:
            high[column] = min(high[column], threshold)
        else:
            low[column] = max(low[column], threshold)
        leaf = above
    return low, high


def _shared(look: Look, low: Reals, high: Reals, label: int) -> SharedValues:
    """A box as middle and half width of the columns that it bounds."""
    columns = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
    if len(columns) == 0:
        columns = np.zeros(1, dtype=np.int64)
    features = np.concatenate([look.tuning.features, look.new.rows.features])
    # Where a side is open, the box ends at the furthest value that anybody has.
    least, most = features.min(axis=0).astype(float), features.max(axis=0).astype(float)
    low, high = np.maximum(low, least)[columns], np.minimum(high, most)[columns]
    return SharedValues(
        columns=columns, values=(low + high) / 2, tolerances=(high - low) / 2, label=label
    )
