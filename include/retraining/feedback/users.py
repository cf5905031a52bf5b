"""What a user's vote weighs: by his record on items whose truth became known.

The record is the plain share of his votes on audited items that agree with their label. Nothing is
smoothed: `min_audited_votes` does what smoothing would, and everybody can check a share by hand.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retraining.feedback.lines import Codes, Columns, Mask
from retraining.spec import FeedbackPolicy


@dataclass(frozen=True)
class Records:
    """Users by their records, one entry per position in `Columns.users`.

    Attributes:
        trusted: Enough votes on audited items, and they agree well.
        low: Enough of them, and they do not.
    """

    trusted: Mask
    low: Mask

    @classmethod
    def of(cls, columns: Columns, audited: Mask, truth: Codes, policy: FeedbackPolicy) -> "Records":
        """Compare votes with the truth.

        Args:
            audited: Which lines are votes on audited items.
            truth: Of each item, the position of its class; -1 where nobody knows it.
        """
        n_users = len(columns.users)
        users = columns.user[audited]
        right = columns.label[audited] == truth[columns.item[audited]]
        n_audited = np.bincount(users, minlength=n_users)
        n_right = np.bincount(users[right], minlength=n_users)
        known = n_audited >= policy.min_audited_votes
        agrees = n_right >= policy.min_agreement * n_audited - 1e-9
        return cls(trusted=known & agrees, low=known & ~agrees)

    def weights(self, columns: Columns, policy: FeedbackPolicy) -> npt.NDArray[np.float64]:
        """What each line weighs, if it counts at all."""
        weights = np.where(self.trusted[columns.user], 1.0, policy.newcomer_weight)
        weights[self.low[columns.user]] = 0.0
        return np.where(columns.unverified, weights * policy.unverified_weight, weights)


def votes_over_limit(columns: Columns, lines: Mask, limit: int) -> Mask:
    """Of `lines`, those that come after the first `limit` of their user, by time."""
    positions = np.flatnonzero(lines)
    order = positions[np.lexsort((positions, columns.time[positions], columns.user[positions]))]
    users = columns.user[order]
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else users
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    over = np.zeros(len(lines), dtype=bool)
    over[order[rank >= limit]] = True
    return over


def repeated_votes(columns: Columns, lines: Mask) -> tuple[Mask, Mask]:
    """Of `lines`, those whose user says something newer of the same item.

    Returns:
        Lines that say the same as the newest one, time and all; and all others that it replaces.
        Of two at the same time, the one that was delivered later is the newer.
    """
    positions = np.flatnonzero(lines)
    pair = columns.pair[positions]
    sorting = np.lexsort((positions, columns.time[positions], pair))
    order, pair = positions[sorting], pair[sorting]
    duplicate, superseded = (np.zeros(len(lines), dtype=bool) for _ in range(2))
    if not len(order):
        return duplicate, superseded
    last = np.r_[pair[1:] != pair[:-1], True]
    ends = np.flatnonzero(last)
    newest = order[np.repeat(ends, np.diff(np.r_[-1, ends]))]
    same = (columns.time[order] == columns.time[newest]) & (
        columns.label[order] == columns.label[newest]
    )
    duplicate[order[~last & same]] = True
    superseded[order[~last & ~same]] = True
    return duplicate, superseded
