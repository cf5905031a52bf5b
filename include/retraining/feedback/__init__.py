"""Feedback: a week of what users say, closed into one more untrusted batch.

Pure: lines, traffic and policy in, batch and reasons out. `window` says which weeks count, `lines`
gives every line exactly one fate, `users` weighs a vote by its user's record, `items` adds votes up
and holds what a week may not change; `result` is what comes of it.

Trust is rooted in audited items, whose truth became known otherwise: whoever opens many accounts
gains nothing until they have agreed with the truth for a while, and then only as much as the weekly
cap allows. What the batch does to a model is for screening and the gate to judge, as for any other.
"""

from collections import Counter

import numpy as np
import pandas as pd

from retraining.feedback.items import Predict, Tally, choose
from retraining.feedback.lines import (
    FILE,
    ITEM,
    LINE,
    USER,
    WEEK,
    Columns,
    Fates,
    Mask,
    feedback_table,
)
from retraining.feedback.result import ClosedBatch, hashed
from retraining.feedback.users import Records, repeated_votes, votes_over_limit
from retraining.feedback.window import Window, end_of, weeks_between
from retraining.spec import PipelineSpec

__all__ = [
    "ClosedBatch",
    "Window",
    "close_batch",
    "end_of",
    "feedback_table",
    "weeks_between",
]

_COUNTED_BEFORE, _AUDITED = "counted_before", "audited"
_NEXT_WEEK, _HELD = "next_week", "held_for_review"
_UNSUPPORTED, _DISAGREED = "too_little_support", "no_majority"
_APPLIED = "applied"
_WAITING = (_NEXT_WEEK, _UNSUPPORTED, _DISAGREED, _HELD)
# A line's clock may be off, and a file may be cut a little late; a week is neither.
_FUTURE_SLACK = pd.Timedelta(weeks=1)


def close_batch(
    lines: pd.DataFrame,
    *,
    faults: pd.DataFrame,
    items: pd.DataFrame,
    audited: "pd.Series[str]",
    counted: pd.DataFrame,
    predict: Predict,
    spec: PipelineSpec,
    window: Window,
) -> ClosedBatch:
    """Decide what a week of feedback comes to.

    Args:
        lines: Every line of the window that could be read, in the order of delivery: the columns
            of `feedback_table`, and the week, file and number of each.
        faults: The other lines: file, number and `reason`.
        items: Rows that the serving model was asked about in the window, by row id.
        audited: True labels that became known in the window, by row id.
        counted: `item` and `user` (hashed) of the votes that earlier batches counted.
        predict: The champion: rows to probabilities of the classes.
        spec: Whose `feedback` is the policy.
        window: Which weeks count.

    Returns:
        The same for the same input; whether it has enough items is for the caller to judge.
    """
    policy = spec.feedback
    assert policy is not None  # noqa: S101 - for the type checker
    classes = spec.label.classes
    columns, fates = Columns.of(lines, classes), Fates(len(lines))
    _settle_counted(fates, columns, counted)
    _settle_times(fates, lines, columns, window)
    fates.settle(~np.isin(columns.item, _positions(columns, items.index)), "unknown_item")
    duplicate, superseded = repeated_votes(columns, fates.open)
    fates.settle(duplicate, "duplicate_line")
    fates.settle(superseded, "superseded")
    fates.settle(columns.age < policy.min_account_age_days, "account_too_young")
    over = votes_over_limit(columns, fates.open, policy.max_votes_per_user)
    fates.settle(over, "over_votes_per_user")

    voters = fates.open
    truth = _truth(columns, audited, classes)
    on_audited = voters & (truth[columns.item] >= 0)
    records = Records.of(columns, on_audited, truth, policy)
    fates.settle(on_audited, _AUDITED)
    fates.settle(records.low[columns.user], "low_agreement")

    votes = fates.open
    tally = Tally.of(
        columns,
        votes,
        weights=records.weights(columns, policy),
        trusted=records.trusted,
        n_classes=len(classes),
        policy=policy,
    )
    fates.settle(~tally.supported(policy)[columns.item], _UNSUPPORTED)
    fates.settle(~tally.agreed(policy)[columns.item], _DISAGREED)
    chosen = _chosen(columns, fates.open, tally, items, predict, spec)
    held = chosen.loc[chosen["held"] != "", "position"].to_numpy(np.int64)
    fates.settle(np.isin(columns.item, held), _HELD)
    fates.settle(fates.open, _APPLIED)
    return _result(lines, faults, items, columns, fates, records, voters, chosen, spec)


def _settle_counted(fates: Fates, columns: Columns, counted: pd.DataFrame) -> None:
    closed = columns.items.get_indexer(pd.Index(counted["item"]))
    on_closed = np.isin(columns.item, closed[closed >= 0])
    # Few of all users voted on a closed item; only their names are hashed.
    users = np.unique(columns.user[on_closed])
    hashes = pd.Index([hashed(name) for name in columns.users[users]], dtype=object)
    found = hashes.get_indexer(pd.Index(counted["user"]))
    known = (closed >= 0) & (found >= 0)
    pairs = closed[known] * max(len(columns.users), 1) + users[found[known]]
    fates.settle(on_closed & np.isin(columns.pair, pairs), _COUNTED_BEFORE)
    fates.settle(on_closed, "item_closed")


def _settle_times(fates: Fates, lines: pd.DataFrame, columns: Columns, window: Window) -> None:
    def microseconds(moment: pd.Timestamp) -> int:
        return int(moment.value // 1000)

    delivered = lines[WEEK].astype("category")
    limits = [
        microseconds(pd.Timestamp(end_of(week)) + _FUTURE_SLACK)
        for week in delivered.cat.categories
    ]
    latest = np.array([*limits, 0], dtype=np.int64)[delivered.cat.codes]
    fates.settle(columns.time >= latest, "future")
    fates.settle(columns.time < microseconds(pd.Timestamp(window.start)), "ancient")
    fates.settle(columns.time >= microseconds(pd.Timestamp(window.end)), _NEXT_WEEK)


def _positions(
    columns: Columns, names: "pd.Index[str]"
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    found = columns.items.get_indexer(names)
    return found[found >= 0].astype(np.int64)


def _truth(
    columns: Columns, audited: "pd.Series[str]", classes: tuple[str, ...]
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    truth = np.full(len(columns.items), -1, dtype=np.int64)
    where = columns.items.get_indexer(audited.index)
    label = pd.Index(classes).get_indexer(pd.Index(audited))
    truth[where[where >= 0]] = label[where >= 0]
    return truth


def _chosen(
    columns: Columns,
    votes: Mask,
    tally: Tally,
    items: pd.DataFrame,
    predict: Predict,
    spec: PipelineSpec,
) -> pd.DataFrame:
    """The decided items, sorted by their names, and which of them are held."""
    assert spec.feedback is not None  # noqa: S101 - for the type checker
    positions = np.unique(columns.item[votes])
    decided = pd.DataFrame(
        {
            "item": columns.items[positions].astype(str),
            "position": positions,
            "label": tally.label[positions],
            "support": tally.support[positions],
            "share": tally.share[positions],
        }
    )
    decided = decided.sort_values("item", ignore_index=True)
    probabilities = np.empty((0, len(spec.label.classes)))
    if len(decided):
        probabilities = predict(items.loc[decided["item"]].reset_index(names=spec.row_id))
    return choose(decided, probabilities, policy=spec.feedback)


def _result(
    lines: pd.DataFrame,
    faults: pd.DataFrame,
    items: pd.DataFrame,
    columns: Columns,
    fates: Fates,
    records: Records,
    voters: Mask,
    chosen: pd.DataFrame,
    spec: PipelineSpec,
) -> ClosedBatch:
    classes = np.array(spec.label.classes, dtype=object)
    counts = fates.counts()
    counted_before, n_audited = counts.pop(_COUNTED_BEFORE, 0), counts.pop(_AUDITED, 0)
    n_votes = counts.pop(_APPLIED, 0)
    waiting = {name: counts.pop(name) for name in _WAITING if name in counts}
    set_aside = counts + Counter(map(str, faults["reason"]))
    users = np.unique(columns.user[voters])
    kinds = {
        "trusted": int(records.trusted[users].sum()),
        "low_agreement": int(records.low[users].sum()),
    }
    kinds["newcomer"] = len(users) - sum(kinds.values())
    applied = chosen[chosen["held"] == ""]
    changes = Counter(classes[applied.loc[applied["label"] != applied["predicted"], "label"]])
    rows = items.loc[applied["item"]].reset_index(names=spec.row_id)
    rows[spec.label.column] = classes[applied["label"]]
    votes, without_use = fates.among({_APPLIED}), fates.among(counts)
    aside = lines.loc[without_use, [FILE, LINE]].astype({FILE: str})
    aside["reason"] = fates.named(without_use)
    return ClosedBatch(
        n_lines=len(lines) + len(faults),
        counted_before=counted_before,
        set_aside={name: set_aside[name] for name in sorted(set_aside)},
        waiting=dict(sorted(waiting.items())),
        n_audited=n_audited,
        users={name: n for name, n in sorted(kinds.items()) if n},
        n_votes=n_votes,
        held=dict(sorted(Counter(chosen.loc[chosen["held"] != "", "held"]).items())),
        changes=dict(sorted(changes.items())),
        lines=pd.concat([aside, faults[aside.columns]], ignore_index=True),
        held_items=chosen[chosen["held"] != ""].assign(
            label=lambda held: classes[held["label"]],
            predicted=lambda held: classes[held["predicted"]],
        ),
        counted=pd.DataFrame(
            {
                "item": lines.loc[votes, ITEM].astype(str),
                "user": [hashed(name) for name in lines.loc[votes, USER]],
            }
        ),
        rows=rows.reindex(columns=list(spec.table.columns)),  # who asked is nobody's vote
    )
