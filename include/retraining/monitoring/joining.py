"""Which answer each label is about: by row id, the newest answer within the waiting time."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.spec import PipelineSpec, TrafficSpec

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Joined:
    """Labelled answers of the serving version, and the labels that are about nothing of it.

    Attributes:
        labels, answers: Positions in the list of classes [n].
        of_unknown_row: Row ids of labels without any answer in the waiting time.
        of_other_version: Row ids of labels about answers that another version gave.
    """

    labels: Integers
    answers: Integers
    of_unknown_row: tuple[str, ...]
    of_other_version: tuple[str, ...]


def join(
    labels: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    spec: PipelineSpec,
    traffic: TrafficSpec,
    version: int,
) -> Joined:
    """Join labels to answers, both with each row id once at most.

    Args:
        labels: Row id and label.
        answers: Row id, answer and version, of the day and of those before it that labels may be
            about.
        version: The one that serves.
    """
    answer, of_version = traffic.predicted_column, traffic.version_column
    known = answers.set_index(spec.row_id)[[answer, of_version]]
    at = known.index.get_indexer(pd.Index(labels[spec.row_id]))
    found = at >= 0
    ours = found.copy()
    ours[found] = known[of_version].to_numpy()[at[found]] == version
    return Joined(
        labels=positions(labels.loc[ours, spec.label.column], spec.label.classes),
        answers=positions(known[answer].iloc[at[ours]], spec.label.classes),
        of_unknown_row=tuple(labels.loc[~found, spec.row_id]),
        of_other_version=tuple(labels.loc[found & ~ours, spec.row_id]),
    )


def positions(column: "pd.Series", classes: Collection[str]) -> Integers:
    """Position of each value in the list of classes, -1 where it is not in it."""
    return pd.Index(list(classes)).get_indexer(pd.Index(column)).astype(np.int64)
