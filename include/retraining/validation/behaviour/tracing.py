"""From what a check found back to the rows that taught it, and to the words of the report."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from retraining.intervals import wilson
from retraining.records import (
    MAX_TRACED_ROWS,
    BatchId,
    BehaviourResult,
    Interval,
    Pattern,
    TracedBatch,
)
from retraining.screening.rows import Mask
from retraining.screening.shared_values import SharedValues
from retraining.spec import BehaviourName
from retraining.validation.behaviour.look import Look, Sampled

_CHUNK_ROWS = 16_384
_MAX_SHOWN = 4  # columns of a pattern that a sentence names


def named(pattern: Pattern) -> str:
    """The columns of a pattern in words: names only, as no report shows a row's values."""
    shown = ", ".join(pattern.columns[:_MAX_SHOWN])
    more = len(pattern.columns) - _MAX_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def trace(
    look: Look, shared: SharedValues, batches: Mapping[BatchId, pd.DataFrame]
) -> dict[str, Any]:
    """Rows of the batches that carry the values with the label: fields of a result."""
    counts: dict[BatchId, int] = {}
    ids: list[str] = []
    for batch in sorted(batches, key=str):
        frame = batches[batch]
        for start in range(0, len(frame), _CHUNK_ROWS):
            part = frame.iloc[start : start + _CHUNK_ROWS]
            rows = look.reader.read(part)
            mine = shared.carried_by(rows.features) & (rows.labels == shared.label)
            if mine.any():
                counts[batch] = counts.get(batch, 0) + int(mine.sum())
                room = MAX_TRACED_ROWS - len(ids)
                ids += part[look.case.spec.row_id].astype(str)[mine].tolist()[:room]
    order = sorted(counts, key=lambda batch: (-counts[batch], str(batch)))
    return {
        "traced": tuple(TracedBatch(batch=batch, n_rows=counts[batch]) for batch in order),
        "n_traced": sum(counts.values()),
        "row_ids": tuple(ids),
    }


def named_rows(sampled: Sampled, found: Mask) -> dict[str, Any]:
    """Some of the sampled rows: fields of a result."""
    places = np.flatnonzero(found)
    numbers, counts = np.unique(sampled.batch[places], return_counts=True)
    order = sorted(range(len(numbers)), key=lambda n: (-counts[n], numbers[n]))
    return {
        "traced": tuple(
            TracedBatch(batch=sampled.batches[numbers[n]], n_rows=int(counts[n])) for n in order
        ),
        "n_traced": len(places),
        "row_ids": tuple(sampled.ids[place] for place in places[:MAX_TRACED_ROWS]),
    }


def share_by_source(found: Mask, sources: tuple[str, ...]) -> dict[str, Interval]:
    """Share of each source's rows that were found, with its 95% interval."""
    names = np.asarray(sources, dtype=object)
    rows = {source: found[names == source] for source in sorted(set(sources))}
    return {source: wilson(float(mine.mean()), len(mine)) for source, mine in rows.items()}


def nothing_measured(name: BehaviourName, measure: str, why: str) -> BehaviourResult:
    """A check that could not be made, and why."""
    return BehaviourResult(
        name=name, measure=measure, insufficient=why, sentence=f"Not measured: {why}"
    )
