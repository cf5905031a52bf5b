"""Purge: from the checks that refused a challenger back to the rows that taught it.

Removing poison means to train again without it; models that unlearn do not
(Pawelczyk et al., "Machine Unlearning Fails to Remove Data Poisoning Attacks", 2024).

What a check names is taken out: rows that carry its pattern, rows that it names, or the new rows of
a source. A pattern rarely holds all that an attacker wrote, so a source that most of these rows
come from, and more than its size lets expect, goes with all its new rows.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from retraining.intervals import wilson
from retraining.records import (
    BatchId,
    BehaviourResult,
    Interval,
    Pattern,
    TracedBatch,
    TracedRows,
)
from retraining.reviews.carriers import carriers
from retraining.spec import PipelineSpec

WHOLE_SOURCE = "source"  # the reason of rows that no check named themselves

_MOST = 0.5  # share of the traced new rows that a source needs to go whole
_CHANCE = 0.01  # that it has so many by its size alone

Mask = npt.NDArray[np.bool_]
ColumnOf = Callable[[str], npt.NDArray[Any]]


class Rows(Protocol):
    """Rows of one batch, or of a trusted set, by column."""

    def __len__(self) -> int: ...

    def values(self, name: str) -> npt.NDArray[Any]:
        """One column of all rows [n]."""
        ...


@dataclass(frozen=True)
class Purge:
    """What is taken out.

    Attributes:
        traced: One per refused check that could be traced.
        sources: Whose new rows go whole.
        rows: By batch, the ids of its rows and the check that named each (`source`: none did).
    """

    traced: tuple[TracedRows, ...]
    sources: tuple[str, ...]
    rows: dict[BatchId, dict[str, str]] = field(default_factory=dict)


def plan_purge(
    refused: Sequence[BehaviourResult],
    learned: Mapping[BatchId, Rows],
    *,
    new: Collection[BatchId],
    trusted: Sequence[Rows],
    spec: PipelineSpec,
) -> Purge:
    """Trace refused checks back to the rows that the challenger learned from.

    Args:
        refused: Results of the checks that the gate refused.
        learned: All rows that the challenger learned from.
        new: Those of these batches that no champion has learned from.
        trusted: The reference set and the holdout, which say how many honest rows share values.

    Raises:
        ConfigError: A pattern names a column that the pipeline file does not have.
    """
    traced: list[TracedRows] = []
    found = {batch: np.full(len(rows), "", dtype=object) for batch, rows in learned.items()}
    for result in refused:
        masks = _named_by(result, learned, new, spec)
        by_batch = {batch: int(mask.sum()) for batch, mask in masks.items() if mask.any()}
        if not by_batch:
            continue
        for batch, mask in masks.items():
            found[batch][mask & (found[batch] == "")] = result.name
        order = sorted(by_batch, key=lambda batch: (-by_batch[batch], str(batch)))
        traced.append(
            TracedRows(
                check=result.name,
                pattern=result.pattern,
                by_batch=tuple(TracedBatch(batch=b, n_rows=by_batch[b]) for b in order),
                n_users=len(set(_users(masks, learned, spec))),
                precision=_precision(result.pattern, masks, trusted, spec),
            )
        )
    sources = tuple(_whole_sources(found, new))
    for batch in found:
        if batch in new and batch.source in sources:
            found[batch][found[batch] == ""] = WHOLE_SOURCE
    return Purge(tuple(traced), sources, dict(_ids(found, learned, spec.row_id)))


def _named_by(
    result: BehaviourResult,
    learned: Mapping[BatchId, Rows],
    new: Collection[BatchId],
    spec: PipelineSpec,
) -> dict[BatchId, Mask]:
    """Rows of each batch that one check names."""
    if result.name == "sources":  # it measures what a source's new rows do, not which of them
        harmful = {part.batch.source for part in result.traced}
        return {
            batch: np.full(len(rows), batch in new and batch.source in harmful)
            for batch, rows in learned.items()
        }
    batches = {part.batch for part in result.traced}
    names = set(result.row_ids)
    masks = {}
    for batch, rows in learned.items():
        mask = np.zeros(len(rows), dtype=bool)
        if result.pattern is not None:
            mask |= carriers(result.pattern, rows.values, spec=spec)
        if batch in batches and names:
            mask |= np.isin(rows.values(spec.row_id).astype(str), sorted(names))
        masks[batch] = mask
    return masks


def _users(
    masks: Mapping[BatchId, Mask], learned: Mapping[BatchId, Rows], spec: PipelineSpec
) -> Iterator[str]:
    if spec.user is None:
        return
    for batch, mask in masks.items():
        if mask.any():
            yield from (str(name) for name in learned[batch].values(spec.user)[mask] if name)


def _precision(
    pattern: Pattern | None,
    masks: Mapping[BatchId, Mask],
    trusted: Sequence[Rows],
    spec: PipelineSpec,
) -> Interval | None:
    """Share of the carriers that honest rows do not explain, from their share in trusted rows."""
    if pattern is None:
        return None
    n_trusted = sum(map(len, trusted))
    alike = sum(int(carriers(pattern, rows.values, spec=spec).sum()) for rows in trusted)
    honest = wilson(alike / n_trusted if n_trusted else 0.0, n_trusted)
    n_rows = sum(len(mask) for mask in masks.values())
    n_found = sum(int(mask.sum()) for mask in masks.values())

    def rest(rate: float) -> float:
        return round(max(1 - rate * n_rows / n_found, 0.0), 6)

    return Interval(value=rest(honest.value), low=rest(honest.high), high=rest(honest.low))


def _whole_sources(
    found: Mapping[BatchId, npt.NDArray[Any]], new: Collection[BatchId]
) -> Iterator[str]:
    """Sources that most traced new rows come from, by more than their size explains."""
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for batch in found:
        if batch in new:
            sizes[batch.source] = sizes.get(batch.source, 0) + len(found[batch])
            n_found = int((found[batch] != "").sum())
            counts[batch.source] = counts.get(batch.source, 0) + n_found
    n_rows, n_found = sum(sizes.values()), sum(counts.values())
    for source in sorted(sizes):
        share = sizes[source] / n_rows if n_rows else 0.0
        by_chance = binom.sf(counts[source] - 1, n_found, share)
        if counts[source] and counts[source] >= _MOST * n_found and by_chance <= _CHANCE:
            yield source


def _ids(
    found: Mapping[BatchId, npt.NDArray[Any]], learned: Mapping[BatchId, Rows], row_id: str
) -> Iterator[tuple[BatchId, dict[str, str]]]:
    for batch, reasons in found.items():
        places = np.flatnonzero(reasons != "")
        if len(places):
            names = learned[batch].values(row_id).astype(str)[places]
            yield batch, dict(zip(map(str, names), map(str, reasons[places]), strict=True))
