"""What the checks of behaviour are given: two models, and every row that can tell them apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.records import BatchId, Pattern
from retraining.spec import PipelineSpec


class Model(Protocol):
    """Anything that answers rows; nothing else of a model is looked at."""

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Probability of each class of the pipeline file [n, k]."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A challenger, and what it can be held against.

    Attributes:
        spec: The pinned one.
        challenger: The model that may be promoted.
        champion: The serving one; None before the first.
        new: Accepted rows of the batches that are new this week.
        history: What is left in the window of the batches accepted before.
        reference: Vetted rows; no model was trained on them.
        tuning: Half of the holdout; chooses regions, thresholds and searches.
        judging: The other half; judges what the first chose.
        confirmed: Patterns that reviewers confirmed as poison, and those that an earlier challenger
            of the run was refused for.
        confirmed_rows: Rows that reviewers confirmed as poison; None without any.
        false_alarm_rate: Of all checks together, that clean challengers may be refused at.
    """

    spec: PipelineSpec
    challenger: Model
    champion: Model | None
    new: Mapping[BatchId, pd.DataFrame]
    history: Mapping[BatchId, pd.DataFrame]
    reference: pd.DataFrame
    tuning: pd.DataFrame
    judging: pd.DataFrame
    confirmed: tuple[Pattern, ...] = ()
    confirmed_rows: pd.DataFrame | None = None
    false_alarm_rate: float = 0.02
