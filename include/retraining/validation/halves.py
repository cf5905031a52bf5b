"""The holdout in two halves: what chooses a threshold never judges with it.

A row's half follows from its id alone, so it stays in its half when the holdout is refreshed, and
nobody picks it by hand. What is searched for on one half (a region, a trigger) would look real on
the rows that suggested it; on the other half only what is there shows again.

The comparison of metrics tunes nothing, so it goes on to use both halves.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Halves:
    """Both halves of a holdout, in its order.

    Attributes:
        tuning: Chooses regions, thresholds and searches.
        judging: Judges what the other half chose.
    """

    tuning: pd.DataFrame
    judging: pd.DataFrame


def split_holdout(holdout: pd.DataFrame, *, row_id: str) -> Halves:
    """Split by the digest of each row's id; the halves differ in size by chance.

    Args:
        row_id: Name of the column that holds the ids.
    """
    judges = np.fromiter((_judges(str(name)) for name in holdout[row_id]), bool, len(holdout))
    return Halves(
        tuning=holdout[~judges].reset_index(drop=True),
        judging=holdout[judges].reset_index(drop=True),
    )


def _judges(name: str) -> bool:
    return bool(hashlib.sha256(b"half of the holdout\0" + name.encode()).digest()[0] & 1)
