"""Judge the rows of all batches together, and write down for each what speaks against it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from retraining.records import BatchId, Pattern, SourceEvidence
from retraining.reviews import CONFIRMED, Reviewed
from retraining.screening import suspicious
from retraining.screening.engine import Effort, Judgement, answers_of_shard, judge_rows
from retraining.screening.judge import Answers
from retraining.screening.reasons import (
    CONDEMNED_USER,
    FAULT,
    Explainer,
    reason_of_pattern,
    reasons_of_held,
    sentence_of,
)
from retraining.screening.result import BatchRows
from retraining.screening.rows import (
    Integers,
    Mask,
    RowReader,
    Rows,
    drawn,
    rows_at,
)
from retraining.screening.sources import judge_sources
from retraining.screening.stored import RowFile, StoredTable
from retraining.spec import PipelineSpec

Progress = Callable[[str], None]


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
        purged: Ids of accepted rows that carry a pattern, or that a condemned source alone teaches,
            by their batch.
        sources: What all new rows of each source show together.
    """

    suspicious: pd.DataFrame
    patterns: tuple[Pattern, ...]
    sentences: tuple[str, ...]
    purged: dict[BatchId, frozenset[str]]
    sources: Mapping[str, SourceEvidence]


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


@dataclass(frozen=True)
class Case:
    """The rows of a week, and what they are judged against.

    Attributes:
        new: Rows that nothing else stands against, of all batches.
        history: Accepted rows of earlier weeks, by batch.
        chosen: Places of those rows of the history that new ones are judged against.
        vetted: The reference set.
        vetted_ids: Its row ids.
        vouched: Batches that count for no source: a reviewer vouched for them.
    """

    new: StoredTable
    history: Mapping[BatchId, RowFile]
    chosen: Integers
    vetted: Rows
    vetted_ids: Sequence[str]
    vouched: Collection[BatchId]
    reader: RowReader
    spec: PipelineSpec

    @classmethod
    def of(
        cls,
        batches: Sequence[JudgedBatch],
        *,
        reference: pd.DataFrame,
        history: Mapping[BatchId, RowFile],
        vouched: Collection[BatchId],
        spec: PipelineSpec,
    ) -> Self:
        """The case of all batches; each is told its place in it."""
        reader = RowReader(spec)
        return cls(
            new=_new_rows(batches, reader, vouched),
            history=history,
            chosen=drawn(sum(map(len, history.values())), spec.screening.max_history_rows),
            vetted=reader.read(reference),
            vetted_ids=[str(name) for name in reference[spec.row_id]],
            vouched=vouched,
            reader=reader,
            spec=spec,
        )

    @property
    def old(self) -> StoredTable:
        """All accepted rows."""
        return StoredTable(
            [
                (rows, self.reader.of(batch, nobodys=batch in self.vouched))
                for batch, rows in self.history.items()
            ]
        )

    @property
    def trusted(self) -> Rows:
        """What new rows are judged against."""
        parts = [rows_at(self.old, self.chosen)] if len(self.chosen) else []
        return Rows.joined([*parts, self.vetted])

    @property
    def trusted_ids(self) -> list[str]:
        """Row ids of the trusted rows, in their order."""
        return [*_ids_at(self.history, self.chosen, self.spec), *self.vetted_ids]

    def effort(self, *, only_sample: bool = False) -> Effort:
        """How much may be looked at."""
        policy = self.spec.screening
        return Effort(policy.max_fitted_rows, policy.max_rounds, only_sample)


def judge_shard(case: Case, shard: int) -> dict[int, Answers]:
    """What the judge of a case says about one of the pipeline file's shards of new rows."""
    if len(case.new) == 0:
        return {}
    return answers_of_shard(
        case.new,
        case.trusted,
        columns=case.reader.columns,
        n_classes=len(case.spec.label.classes),
        effort=case.effort(),
        shard=shard,
        n_shards=case.spec.screening.shards,
    )


def judge_batches(
    batches: Sequence[JudgedBatch],
    case: Case,
    *,
    answered: Mapping[int, Answers],
    progress: Progress,
) -> Findings:
    """Add to every batch the reasons that its rows' values give.

    The new rows are judged against history and reference set; then, where there is a history, the
    whole window against the reference set alone: a slow drip has taught the champion already.

    Args:
        case: Of these batches.
        answered: What `judge_shard` found elsewhere.
    """
    new, spec, reader = case.new, case.spec, case.reader
    if len(new) == 0:
        told = [_told(item, None, spec) for item in batches]
        return Findings(suspicious.by_evidence(suspicious.joined(told)), (), (), {}, {})
    trusted, old = case.trusted, case.old
    progress(f"judging {len(new):,} new rows against {len(trusted):,} trusted ones")
    judgement = _look(case, new, trusted, case.effort(), answered, progress)
    found = list(judgement.found())
    carried = [np.zeros(0, dtype=np.int64)]
    window = None
    if len(old):
        progress(f"judging {len(old) + len(new):,} rows of the window against the reference set")
        gone = judgement.purged
        kept = np.flatnonzero(~gone)
        window = StoredTable([*old.files, *_left(new, gone).files])
        drip = _look(case, window, case.vetted, case.effort(only_sample=True), {}, progress)
        for finding, carriers in drip.found():
            found.append((finding, kept[carriers[carriers >= len(old)] - len(old)]))
        carried += drip.carriers
    progress("judging the sources")
    sources = judge_sources(
        judgement.judge.sample,
        trusted.take(slice(len(case.chosen))),
        case.vetted,
        window,
        columns=reader.columns,
        n_classes=len(spec.label.classes),
        spared=reader.names.get("source", {}).get(spec.feedback.source) if spec.feedback else None,
    )
    purged = np.unique(np.concatenate([*carried, sources.taught]))

    sentences: dict[str, str] = {}
    patterns = []
    for number, (finding, carriers) in enumerate(found, start=1):
        reason = reason_of_pattern(number)
        pattern = finding.delivered(reader, spec)
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

    explainer = Explainer(judgement, new, case.trusted_ids, sentences)
    told = [_told(item, explainer, spec) for item in batches]
    return Findings(
        suspicious=suspicious.by_evidence(suspicious.joined(told)),
        patterns=tuple(patterns),
        sentences=tuple(sentences.values()),
        purged=_ids_by_batch(case.history, purged[purged < len(old)], spec),
        sources={
            name: sources.evidence[number]
            for name, number in reader.names.get("source", {}).items()
            if number in sources.evidence
        },
    )


def _new_rows(
    batches: Sequence[JudgedBatch], reader: RowReader, vouched: Collection[BatchId]
) -> StoredTable:
    """The rows of all batches that nothing else stands against; each batch is told its place."""
    files, start = [], 0
    for item in batches:
        rows = item.rows.without(~item.judged)
        item.place = slice(start, start + len(rows))
        start += len(rows)
        files.append((rows, reader.of(item.batch, nobodys=item.batch in vouched)))
    return StoredTable(files)


def _left(table: StoredTable, purged: Mask) -> StoredTable:
    files, start = [], 0
    for rows, read in table.files:
        files.append((rows.without(purged[start : start + len(rows)]), read))
        start += len(rows)
    return StoredTable(files)


def _look(
    case: Case,
    rows: StoredTable,
    trusted: Rows,
    effort: Effort,
    answered: Mapping[int, Answers],
    progress: Progress,
) -> Judgement:
    return judge_rows(
        rows,
        trusted,
        columns=case.reader.columns,
        n_classes=len(case.spec.label.classes),
        false_discovery_rate=case.spec.screening.false_discovery_rate,
        effort=effort,
        answered=answered,
        told=lambda n_judged: progress(f"{n_judged:,} of {len(rows):,} rows judged"),
    )


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
