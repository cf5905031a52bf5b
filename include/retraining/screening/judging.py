"""Judge the rows of all batches together, and write down for each what speaks against it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from retraining.records import BatchId, Pattern, SourceEvidence
from retraining.screening import suspicious
from retraining.screening.batches import JudgedBatch
from retraining.screening.case import Case
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
from retraining.screening.rows import Mask, Rows
from retraining.screening.sources import judge_sources
from retraining.screening.stored import StoredTable
from retraining.spec import PipelineSpec

Progress = Callable[[str], None]


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
        purged=case.ids_by_batch(purged[purged < len(old)]),
        sources={
            name: sources.evidence[number]
            for name, number in reader.names.get("source", {}).items()
            if number in sources.evidence
        },
    )


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
