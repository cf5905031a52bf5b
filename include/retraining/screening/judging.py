"""Judge the rows of all batches together, and write down for each what speaks against it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from retraining.records import BatchId, Pattern
from retraining.reviews import CONFIRMED, Reviewed
from retraining.screening import suspicious
from retraining.screening.engine import Effort, Judgement, judge_rows
from retraining.screening.reasons import (
    CONDEMNED_USER,
    FAULT,
    Explainer,
    pattern_of,
    reason_of_pattern,
    reasons_of_held,
    sentence_of,
)
from retraining.screening.result import BatchRows
from retraining.screening.rows import (
    PART_ROWS,
    SEED,
    Integers,
    Mask,
    RowReader,
    Rows,
    rows_at,
)
from retraining.screening.stored import RowFile, StoredTable
from retraining.spec import PipelineSpec

Progress = Callable[[str], None]

_WAIT_ROWS = 100_000  # after which somebody who waits wants to hear something


@dataclass
class JudgedBatch:
    """One batch that could be read.

    Attributes:
        rows: Without a fault of value, m of them.
        reasons: Reason to the rows that have it [m].
        judged: Rows whose values were looked at [m]: those that nothing else stands against.
        released: Rows that a reviewer released [m].
        place: Where the judged rows stand among those of all batches.
    """

    delivered: BatchRows
    rows: RowFile
    reasons: dict[str, Mask]
    judged: Mask
    released: Mask
    place: slice = field(default_factory=lambda: slice(0, 0))

    @property
    def batch(self) -> BatchId:
        """Source and week."""
        return self.delivered.batch

    @property
    def quarantined(self) -> Mask:
        """Rows with at least one reason [m]."""
        nothing = np.zeros(len(self.rows), dtype=bool)
        return np.asarray(np.any([nothing, *self.reasons.values()], axis=0))

    def add(self, reason: str, found: Integers) -> None:
        """Note a reason for judged rows, by places among all batches; released rows are spared."""
        mine = np.zeros(len(self.rows), dtype=bool)
        mine[np.flatnonzero(self.judged)[self.own(found) - self.place.start]] = True
        self.reasons[reason] = mine & ~self.released

    def own(self, places: Integers) -> Integers:
        """Those of some places, among the judged rows of all batches, that are this batch's."""
        mine: Integers = places[(places >= self.place.start) & (places < self.place.stop)]
        return mine


@dataclass(frozen=True)
class Findings:
    """What was found in all batches and in the accepted history.

    Attributes:
        suspicious: Quarantined rows, with the columns of `suspicious.SCHEMA`, by evidence.
        patterns: Found patterns and, in the same order, a sentence about each.
        purged: Ids of accepted rows that carry a pattern, by their batch.
    """

    suspicious: pd.DataFrame
    patterns: tuple[Pattern, ...]
    sentences: tuple[str, ...]
    purged: dict[BatchId, frozenset[str]]


def readable_batch(
    delivered: BatchRows, claims: Mapping[str, Mask], reviewed: Reviewed, spec: PipelineSpec
) -> JudgedBatch:
    """A batch with the reasons that stand before anybody looks at its values."""
    rows = delivered.rows
    assert rows is not None  # noqa: S101 - for the type checker
    confirmed = reviewed.confirmed_rows(
        rows.values, batch=delivered.batch, n_rows=len(rows), spec=spec
    )
    reasons = {**claims, CONFIRMED: confirmed}
    ids = rows.column(spec.row_id).astype(str)
    return JudgedBatch(
        delivered=delivered,
        rows=rows,
        reasons=reasons,
        judged=~np.any(list(reasons.values()), axis=0),
        released=ids.isin(reviewed.released).to_numpy(dtype=bool),
    )


def judge_batches(
    batches: Sequence[JudgedBatch],
    *,
    reference: pd.DataFrame,
    history: Mapping[BatchId, RowFile],
    spec: PipelineSpec,
    progress: Progress,
) -> Findings:
    """Add to every batch the reasons that its rows' values give.

    The new rows are judged against history and reference set; then, where there is a history, the
    whole window against the reference set alone: a slow drip has taught the champion already.
    """
    reader = RowReader(spec)
    new = _new_rows(batches, reader)
    if len(new) == 0:
        told = [_told(item, None, spec) for item in batches]
        return Findings(suspicious.by_evidence(suspicious.joined(told)), (), (), {})
    vetted = reader.read(reference)
    old = StoredTable([(rows, reader.of(batch)) for batch, rows in history.items()])
    chosen = _bounded(len(old), spec.screening.max_history_rows)
    trusted = Rows.joined([rows_at(old, chosen), vetted]) if len(chosen) else vetted

    progress(f"judging {len(new):,} new rows against {len(trusted):,} trusted ones")
    judgement = _look(new, trusted, reader, spec, progress=progress)
    found = list(judgement.found())
    purged: dict[BatchId, frozenset[str]] = {}
    if len(old):
        progress(f"judging {len(old) + len(new):,} rows of the window against the reference set")
        kept = np.flatnonzero(~judgement.purged)
        window = StoredTable([*old.files, *_left(new, judgement.purged).files])
        drip = _look(window, vetted, reader, spec, only_sample=True)
        for finding, carriers in drip.found():
            found.append((finding, kept[carriers[carriers >= len(old)] - len(old)]))
        carried = np.concatenate([np.zeros(0, dtype=np.int64), *drip.carriers])
        purged = _ids_by_batch(history, np.unique(carried[carried < len(old)]), spec)

    sentences: dict[str, str] = {}
    patterns = []
    for number, (finding, carriers) in enumerate(found, start=1):
        reason = reason_of_pattern(number)
        pattern = pattern_of(finding, reader, spec)
        patterns.append(pattern)
        counts = {str(item.batch): len(item.own(carriers)) for item in batches}
        sentences[reason] = sentence_of(finding, pattern, counts, spec)
        for item in batches:
            item.add(reason, carriers)
    for name, places in reasons_of_held(judgement).items():
        for item in batches:
            item.add(name, places)
    for item in batches:
        item.add(CONDEMNED_USER, judgement.of_condemned)

    trusted_ids = [*_ids_at(history, chosen, spec), *reference[spec.row_id].astype(str)]
    explainer = Explainer(judgement, new, trusted_ids, sentences)
    told = [_told(item, explainer, spec) for item in batches]
    return Findings(
        suspicious=suspicious.by_evidence(suspicious.joined(told)),
        patterns=tuple(patterns),
        sentences=tuple(sentences.values()),
        purged=purged,
    )


def _new_rows(batches: Sequence[JudgedBatch], reader: RowReader) -> StoredTable:
    """The rows of all batches that nothing else stands against; each batch is told its place."""
    files, start = [], 0
    for item in batches:
        rows = item.rows.without(~item.judged)
        item.place = slice(start, start + len(rows))
        start += len(rows)
        files.append((rows, reader.of(item.batch)))
    return StoredTable(files)


def _left(table: StoredTable, purged: Mask) -> StoredTable:
    files, start = [], 0
    for rows, read in table.files:
        files.append((rows.without(purged[start : start + len(rows)]), read))
        start += len(rows)
    return StoredTable(files)


def _look(
    rows: StoredTable,
    trusted: Rows,
    reader: RowReader,
    spec: PipelineSpec,
    *,
    only_sample: bool = False,
    progress: Progress = lambda _: None,
) -> Judgement:
    policy = spec.screening

    def told(n_judged: int) -> None:
        if n_judged // _WAIT_ROWS > (n_judged - PART_ROWS) // _WAIT_ROWS and n_judged > PART_ROWS:
            progress(f"{n_judged:,} of {len(rows):,} rows judged")

    return judge_rows(
        rows,
        trusted,
        columns=reader.columns,
        n_classes=len(spec.label.classes),
        false_discovery_rate=policy.false_discovery_rate,
        effort=Effort(
            sample_rows=policy.max_fitted_rows, rounds=policy.max_rounds, only_sample=only_sample
        ),
        told=told,
    )


def _bounded(n_rows: int, most: int) -> Integers:
    drawn = np.random.RandomState(SEED).permutation(n_rows)[:most]
    return np.sort(drawn).astype(np.int64)


def _ids_at(history: Mapping[BatchId, RowFile], places: Integers, spec: PipelineSpec) -> list[str]:
    """Row ids of some rows of the history, by ascending places in all of it."""
    by_batch = _by_batch(history, places)
    return [
        str(name)
        for batch, mine in by_batch.items()
        for name in history[batch].column(spec.row_id).iloc[mine]
    ]


def _ids_by_batch(
    history: Mapping[BatchId, RowFile], places: Integers, spec: PipelineSpec
) -> dict[BatchId, frozenset[str]]:
    return {
        batch: frozenset(history[batch].column(spec.row_id).iloc[mine].astype(str))
        for batch, mine in _by_batch(history, places).items()
        if len(mine)
    }


def _by_batch(history: Mapping[BatchId, RowFile], places: Integers) -> dict[BatchId, Integers]:
    """Ascending places in the whole history, as places in each batch."""
    found, start = {}, 0
    for batch, rows in history.items():
        end = start + len(rows)
        found[batch] = places[(places >= start) & (places < end)] - start
        start = end
    return found


def _told(item: JudgedBatch, explainer: Explainer | None, spec: PipelineSpec) -> pd.DataFrame:
    """The quarantined rows of one batch: ids, scores and reasons, never a feature."""
    faults = item.delivered.faults
    assert faults is not None  # noqa: S101 - for the type checker
    chosen = np.flatnonzero(item.quarantined)
    reasons = [[name for name, rows in item.reasons.items() if rows[i]] for i in chosen]
    known = item.rows.frame([spec.row_id, spec.label.column]).iloc[chosen]
    frame = pd.DataFrame(
        {
            "row_id": known[spec.row_id].astype(str).to_numpy(),
            "label": known[spec.label.column].astype(str).to_numpy(),
            "reasons": ["; ".join(names) for names in reasons],
        }
    )
    if explainer is not None:
        places = np.full(len(item.rows), -1, dtype=np.int64)
        places[item.judged] = np.arange(item.place.start, item.place.stop)
        frame = frame.join(explainer.explain(places[chosen], reasons))
    else:
        frame["explanation"] = [Explainer.plain(names) for names in reasons]
    faulty = pd.DataFrame(
        {
            "row_id": faults["row_id"].to_numpy(),
            "reasons": ["; ".join(names) for names in faults["reasons"]],
            "explanation": FAULT,
        }
    )
    told = suspicious.joined([frame, faulty])
    return told.assign(source=item.batch.source, week=item.batch.week)
