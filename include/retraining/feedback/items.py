"""What the votes on an item come to, and which of them a week may apply."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.feedback.lines import Codes, Columns, Mask
from retraining.spec import FeedbackPolicy

Reals = npt.NDArray[np.float64]
Predict = Callable[[pd.DataFrame], Reals]

CONFIDENT = "contradicts_confident_champion"
OVER_CAP = "over_weekly_cap"
OVER_BATCH = "over_batch_limit"

_ROUNDING = 1e-9  # weights such as 0.1 do not add up exactly


@dataclass(frozen=True)
class Tally:
    """The votes on every item, one entry per position in `Columns.items`.

    Attributes:
        label: Position of the class with the most support.
        support: Its support.
        share: Of the support of all classes; 0 where there is none.
    """

    label: Codes
    support: Reals
    share: Reals

    @classmethod
    def of(
        cls,
        columns: Columns,
        lines: Mask,
        *,
        weights: Reals,
        trusted: Mask,
        n_classes: int,
        policy: FeedbackPolicy,
    ) -> "Tally":
        """Add up the weights of `lines`, item by item and class by class.

        Users without a record only add to those with one: their part of a class's support never
        exceeds `max_newcomer_share`, so that nothing moves however many accounts somebody opens.
        """
        n_items = len(columns.items)
        cell = columns.item * n_classes + columns.label

        def summed(chosen: Mask) -> Reals:
            sums = np.bincount(cell[chosen], weights=weights[chosen], minlength=n_items * n_classes)
            return sums.astype(np.float64).reshape(n_items, n_classes)

        known = trusted[columns.user]
        by_known, by_newcomers = summed(lines & known), summed(lines & ~known)
        share = policy.max_newcomer_share
        support = by_known + np.minimum(by_newcomers, by_known * share / (1 - share))
        total = support.sum(axis=1)
        label = support.argmax(axis=1)
        best = support[np.arange(n_items), label]
        of_all = np.divide(best, total, out=np.zeros(n_items), where=total > 0)
        return cls(label=label.astype(np.int64), support=best, share=of_all)

    def supported(self, policy: FeedbackPolicy) -> Mask:
        """Items with enough support for one class."""
        enough: Mask = self.support >= policy.min_support - _ROUNDING
        return enough

    def agreed(self, policy: FeedbackPolicy) -> Mask:
        """Items whose votes agree well enough."""
        enough: Mask = self.share >= policy.min_majority - _ROUNDING
        return enough


def choose(decided: pd.DataFrame, probabilities: Reals, *, policy: FeedbackPolicy) -> pd.DataFrame:
    """Hold what a week may not apply.

    Args:
        decided: Items with `item`, `label` (position of the class), `support` and `share`.
        probabilities: The champion's, [items, classes].

    Returns:
        The same with `predicted` (position), `probability` (of that class) and `held`: the reason
        for which it is held for review, or "".
    """
    predicted = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(decided)), predicted]
    contradicts = decided["label"].to_numpy() != predicted
    # Best supported first; then by hash, so that nobody comes first by the name of an item.
    by_hash = [hashlib.sha256(item.encode()).hexdigest() for item in decided["item"]]
    chosen = decided.assign(
        predicted=predicted, probability=own, contradicts=contradicts, tie=by_hash, held=""
    ).sort_values(["contradicts", "support", "tie"], ascending=[False, False, True])
    chosen.loc[chosen["contradicts"] & (chosen["probability"] >= policy.confident), "held"] = (
        CONFIDENT
    )
    changes = chosen[chosen["contradicts"] & (chosen["held"] == "")]
    over = changes.groupby("label", sort=False).cumcount() >= policy.max_changes_per_class
    chosen.loc[over[over].index, "held"] = OVER_CAP
    left = chosen.index[chosen["held"] == ""]
    chosen.loc[left[policy.max_items :], "held"] = OVER_BATCH
    return chosen.sort_index().drop(columns=["contradicts", "tie"])
