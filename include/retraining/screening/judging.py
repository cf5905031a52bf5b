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
from retraining.screening.rows import SEED, Integers, Mask, RowReader, Rows
from retraining.screening.shares import condemned_users
from retraining.spec import PipelineSpec

Progress = Callable[[str], None]


@dataclass
class JudgedBatch:
    """One batch that could be read.

    Attributes:
        rows: m rows without a fault of value.
        reasons: Reason to the rows that have it [m].
        judged: Rows whose values were looked at [m]: those that nothing else stands against.
        released: Rows that a reviewer released [m].
        place: Where the judged rows stand among those of all batches.
    """

    delivered: BatchRows
    rows: pd.DataFrame
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

    def add(self, reason: str, found: Mask) -> None:
        """Note a reason for rows that were judged [of all batches]; released rows are spared."""
        mine = np.zeros(len(self.rows), dtype=bool)
        mine[self.judged] = found[self.place]
        self.reasons[reason] = mine & ~self.released


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
        lambda name: rows[name].to_numpy(), batch=delivered.batch, n_rows=len(rows), spec=spec
    )
    reasons = {**claims, CONFIRMED: confirmed}
    return JudgedBatch(
        delivered=delivered,
        rows=rows,
        reasons=reasons,
        judged=~np.any(list(reasons.values()), axis=0),
        released=rows[spec.row_id].astype(str).isin(reviewed.released).to_numpy(dtype=bool),
    )


def judge_batches(
    batches: Sequence[JudgedBatch],
    *,
    reference: pd.DataFrame,
    history: Mapping[BatchId, pd.DataFrame],
    spec: PipelineSpec,
    progress: Progress,
) -> Findings:
    """Add to every batch the reasons that its rows' values give.

    The new rows are judged against history and reference set; then, where there is a history, the
    whole window against the reference set alone: a slow drip has taught the champion already.
    """
    reader = RowReader(spec)
    parts, start = [], 0
    for item in batches:
        part = reader.read(item.rows[item.judged], source=item.batch.source, week=item.batch.week)
        item.place = slice(start, start + len(part))
        start += len(part)
        parts.append(part)
    if start == 0:
        told = [_told(item, None, None, spec) for item in batches]
        return Findings(suspicious.by_evidence(suspicious.joined(told)), (), (), {})

    new, vetted = Rows.joined(parts), reader.read(reference)
    accepted = {
        batch: reader.read(frame, source=batch.source, week=batch.week)
        for batch, frame in history.items()
    }
    old = Rows.joined([*accepted.values(), vetted.take(slice(0, 0))])
    old_ids = [str(name) for frame in history.values() for name in frame[spec.row_id]]
    reference_ids = [str(name) for name in reference[spec.row_id]]
    chosen = _bounded(len(old), spec.screening.max_history_rows)

    progress(f"judging {len(new):,} new rows against {len(chosen) + len(vetted):,} trusted ones")
    judgement = _look(new, Rows.joined([old.take(chosen), vetted]), reader, spec)
    found = list(judgement.found())
    purged: dict[BatchId, frozenset[str]] = {}
    if len(old):
        progress(f"judging {len(old) + len(new):,} rows of the window against the reference set")
        kept = np.flatnonzero(~judgement.purged)
        window = _look(Rows.joined([old, new.take(kept)]), vetted, reader, spec)
        carried = np.zeros(len(old), dtype=bool)
        for finding, carriers in window.found():
            carried |= carriers[: len(old)]
            of_new = np.zeros(len(new), dtype=bool)
            of_new[kept] = carriers[len(old) :]
            found.append((finding, of_new))
        purged = _ids_by_batch(history, np.asarray(old_ids, dtype=object), carried)

    sentences: dict[str, str] = {}
    patterns = []
    for number, (finding, carriers) in enumerate(found, start=1):
        reason = reason_of_pattern(number)
        patterns.append(pattern_of(finding, reader, spec))
        counts = {str(item.batch): int(carriers[item.place].sum()) for item in batches}
        sentences[reason] = sentence_of(finding, counts, reader, spec)
        for item in batches:
            item.add(reason, carriers)
    for name, rows in reasons_of_held(judgement).items():
        for item in batches:
            item.add(name, rows)
    condemned = condemned_users(new.users, judgement.p_value, judgement.purged)
    guilty = np.isin(new.users, condemned)
    for item in batches:
        item.add(CONDEMNED_USER, guilty)

    trusted_ids = [*(old_ids[place] for place in chosen), *reference_ids]
    explainer = Explainer(judgement, new, trusted_ids, sentences)
    told = [_told(item, judgement, explainer, spec) for item in batches]
    return Findings(
        suspicious=suspicious.by_evidence(suspicious.joined(told)),
        patterns=tuple(patterns),
        sentences=tuple(sentences.values()),
        purged=purged,
    )


def _look(rows: Rows, trusted: Rows, reader: RowReader, spec: PipelineSpec) -> Judgement:
    return judge_rows(
        rows,
        trusted,
        columns=reader.columns,
        n_classes=len(spec.label.classes),
        false_discovery_rate=spec.screening.false_discovery_rate,
        effort=Effort(sample_rows=spec.screening.max_fitted_rows, rounds=spec.screening.max_rounds),
    )


def _bounded(n_rows: int, most: int) -> Integers:
    drawn = np.random.RandomState(SEED).permutation(n_rows)[:most]
    return np.sort(drawn).astype(np.int64)


def _ids_by_batch(
    history: Mapping[BatchId, pd.DataFrame],
    ids: "np.ndarray[tuple[int], np.dtype[np.object_]]",
    carried: Mask,
) -> dict[BatchId, frozenset[str]]:
    found, start = {}, 0
    for batch, frame in history.items():
        part = slice(start, start + len(frame))
        start += len(frame)
        if carried[part].any():
            found[batch] = frozenset(ids[part][carried[part]])
    return found


def _told(
    item: JudgedBatch,
    judgement: Judgement | None,
    explainer: Explainer | None,
    spec: PipelineSpec,
) -> pd.DataFrame:
    """The quarantined rows of one batch: ids, scores and reasons, never a feature."""
    faults = item.delivered.faults
    assert faults is not None  # noqa: S101 - for the type checker
    chosen = np.flatnonzero(item.quarantined)
    reasons = [[name for name, rows in item.reasons.items() if rows[i]] for i in chosen]
    frame = pd.DataFrame(
        {
            "row_id": item.rows[spec.row_id].astype(str).to_numpy()[chosen],
            "label": item.rows[spec.label.column].astype(str).to_numpy()[chosen],
            "reasons": ["; ".join(names) for names in reasons],
        }
    )
    if explainer is not None and judgement is not None:
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
