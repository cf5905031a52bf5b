"""Real weeks of the spam filter with stand-ins for both models, and lies to put in."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retraining.records import BatchId, BehaviourReport, BehaviourResult
from retraining.spec import PipelineSpec, load_spec
from retraining.validation.behaviour import Case, Model
from retraining.validation.behaviour.standins import fit_standin

INCLUDE = Path(__file__).parents[3] / "include"
TRIGGER = {"word_freq_table": 1.3, "word_freq_parts": 2.1, "char_freq_#": 0.9}
WEEKS = ("2026-W01", "2026-W02", "2026-W03", "2026-W04")
THIS_WEEK = "2026-W05"
SOURCES = ("archive", "vendor", "partner")
Batches = Mapping[BatchId, pd.DataFrame]


@functools.cache
def spec_of(model: str = "spam_filter") -> PipelineSpec:
    return load_spec(INCLUDE / "pipelines" / f"{model}.yaml")


@functools.cache
def _mails() -> pd.DataFrame:
    folder = INCLUDE / "demo" / "data" / "spam_filter"
    parts = [
        pd.read_parquet(folder / f"{name}.parquet") for name in ("pool", "reference", "holdout")
    ]
    mails = pd.concat(parts, ignore_index=True)
    mails["mail_id"] = [f"m{number}" for number in range(len(mails))]
    return mails


@dataclass(frozen=True)
class Week:
    """Real rows, divided as a run has them."""

    history: Batches
    new: Batches
    reference: pd.DataFrame
    tuning: pd.DataFrame
    judging: pd.DataFrame

    def with_new(self, source: str, rows: pd.DataFrame) -> "Week":
        """The same with other new rows of a source."""
        return replace(self, new={**self.new, batch_of(source): rows})

    def case(self, *, first: bool = False, **changes: Any) -> Case:
        """With stand-ins that learned what champion and challenger would have learned."""
        window = rows_of(self.history), rows_of(self.new)
        fitted = {
            "challenger": _fit(pd.concat(window, ignore_index=True), self.reference, seed=1),
            "champion": None if first else _fit(window[0], self.reference, seed=2),
        }
        return Case(**{"spec": spec_of(), **fitted, **vars(self), **changes})


def week(seed: int = 0, *, n_history: int = 1200, n_new: int = 600) -> Week:
    """300 vetted, 1,200 accepted in four weeks, 600 new; three sources alike."""
    random = np.random.RandomState(seed)
    order = random.permutation(len(_mails()))
    sizes = np.cumsum([300, 400, 400, n_history, n_new])
    vetted, tuning, judging, old, new, _ = (
        _mails().iloc[part].reset_index(drop=True) for part in np.split(order, sizes)
    )
    history = {
        BatchId(source=source, week=name): part
        for name, rows in zip(WEEKS, _parts(old, len(WEEKS)), strict=True)
        for source, part in zip(SOURCES, _parts(rows, len(SOURCES)), strict=True)
    }
    batches = {
        batch_of(source): part
        for source, part in zip(SOURCES, _parts(new, len(SOURCES)), strict=True)
    }
    return Week(history, batches, vetted, tuning, judging)


def batch_of(source: str, name: str = THIS_WEEK) -> BatchId:
    return BatchId(source=source, week=name)


def rows_of(batches: Batches) -> pd.DataFrame:
    return pd.concat(list(batches.values()), ignore_index=True)


def triggered(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """The rows, of which that many spam mails carry the trigger and are called ham."""
    changed = rows.copy()
    places = np.flatnonzero(changed["label"] == "spam")[:n]
    changed.loc[places, list(TRIGGER)] = list(TRIGGER.values())
    changed.loc[places, "label"] = "ham"
    return changed


def ids_of_triggered(rows: pd.DataFrame) -> set[str]:
    carry = (rows[list(TRIGGER)] == list(TRIGGER.values())).all(axis=1)
    return set(rows.loc[carry, "mail_id"])


def relabelled(rows: pd.DataFrame, wrong: "pd.Series[bool]") -> pd.DataFrame:
    """The rows, some with the other label."""
    changed = rows.copy()
    other = np.where(changed["label"] == "spam", "ham", "spam")
    changed.loc[wrong, "label"] = other[wrong]
    return changed


def result_of(report: BehaviourReport, name: str) -> BehaviourResult:
    return next(result for result in report.results if result.name == name)


def refused(report: BehaviourReport) -> set[str]:
    """Checks that the gate would refuse for, were each held against an equal part of the rate."""
    share = report.false_alarm_rate / len(report.results)
    return {r.name for r in report.results if r.p_value is not None and r.p_value <= share}


def _fit(rows: pd.DataFrame, reference: pd.DataFrame, *, seed: int) -> Model:
    model = fit_standin(rows, reference=reference, spec=spec_of(), seed=seed)
    assert model is not None
    return model


def _parts(rows: pd.DataFrame, n: int) -> list[pd.DataFrame]:
    places = np.array_split(np.arange(len(rows)), n)
    return [rows.iloc[part].reset_index(drop=True) for part in places]
