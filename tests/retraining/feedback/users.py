"""Users for tests: honest ones, rings, and the items that they talk about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from retraining.feedback import ClosedBatch, Window, close_batch, feedback_table
from retraining.parsing import row_schema
from retraining.spec import PipelineSpec, parse_spec

WEEK = "2026-W07"  # Monday 9 February to Sunday 15 February
CLASSES = ("ham", "spam")
NOON = pd.Timestamp("2026-02-11T12:00:00Z")
OPPOSITE = {"ham": "spam", "spam": "ham"}


def feedback_spec(**policy: Any) -> PipelineSpec:
    """A pipeline of one number, whose feedback has `policy`."""
    digest = "sha256:" + "0" * 64
    return parse_spec(
        {
            "model": "small",
            "description": "For tests.",
            "owner": "tests@example.org",
            "label": {"column": "label", "classes": list(CLASSES)},
            "row_id": "row_id",
            "event_time": "asked_at",
            "features": [{"kind": "number", "name": "score", "min": -1, "max": 1}],
            "sources": [
                {
                    "name": "user_feedback",
                    "uri": "inbox/{week}",
                    "trust": "untrusted",
                    "key_id": "user_feedback",
                }
            ],
            "reference": {"uri": "reference.parquet", "digest": digest},
            "holdout": {"uri": "holdout.parquet", "digest": digest},
            "training": {
                "architecture": {"kind": "linear"},
                "epsilon_per_run": 3,
                "epsilon_per_block": 8,
                "delta": 1e-4,
                "expected_batch_rows": 64,
                "epochs": 5,
                "learning_rate": 0.05,
            },
            "gate": {"limits": {"accuracy": {"min": 0.5}}},
            "traffic": {
                "predictions": {"uri": "predictions/{day}"},
                "labels": {"uri": "labels/{day}"},
            },
            "feedback": {"uri": "feedback/{week}", "source": "user_feedback"} | policy,
        },
        origin="small.yaml",
    )


def champion(rows: pd.DataFrame) -> np.ndarray:
    """Says spam with probability (1 + score) / 2."""
    spam = (1 + rows["score"].to_numpy()) / 2
    return np.column_stack([1 - spam, spam])


@dataclass
class Production:
    """A week of traffic, and what users say of it.

    Attributes:
        items: Item to its true label and its score; the champion errs where they disagree.
        audited: Items whose truth became known.
        label_type: What pandas keeps labels as.
    """

    spec: PipelineSpec = field(default_factory=feedback_spec)
    items: dict[str, tuple[str, float]] = field(default_factory=dict)
    audited: set[str] = field(default_factory=set)
    lines: list[dict[str, Any]] = field(default_factory=list)
    faults: list[tuple[str, int, str]] = field(default_factory=list)
    label_type: Any = "str"

    def ask(
        self, name: str, n: int, *, truth: str, score: float, audited: bool = False
    ) -> list[str]:
        """Let the serving model be asked about `n` items."""
        names = [f"{name}{number}" for number in range(n)]
        self.items |= {item: (truth, score) for item in names}
        if audited:
            self.audited |= set(names)
        return names

    def vote(
        self,
        user: str,
        items: Sequence[str],
        says: str | Callable[[str], str] | None = None,
        *,
        at: pd.Timestamp = NOON,
        week: str = WEEK,
        **signals: Any,
    ) -> None:
        """Have `user` say something of every item; the truth if nothing else is asked for."""
        for item in items:
            label = says(item) if callable(says) else says or self.items[item][0]
            line = {"item": item, "user": user, "label": label, "time": at, "week": week}
            signals = {"account_age_days": 400.0, "verified": "true"} | signals
            self.lines.append(line | signals)

    def lie(self, item: str) -> str:
        """The other label."""
        return OPPOSITE[self.items[item][0]]

    def close(
        self,
        *,
        counted: pd.DataFrame | None = None,
        week: str = WEEK,
        lines: Sequence[dict[str, Any]] | None = None,
    ) -> ClosedBatch:
        """Close the week."""
        policy = self.spec.feedback
        assert policy is not None
        schema = row_schema(feedback_table(self.spec))
        said = pd.DataFrame(self.lines if lines is None else lines, columns=[*schema.names, "week"])
        said = said.assign(file=said["week"] + "/part", number=np.arange(1, len(said) + 1))
        said["time"] = pd.to_datetime(said["time"], utc=True)
        said["label"] = said["label"].astype(self.label_type)
        said["account_age_days"] = said["account_age_days"].astype(float)
        rows = pd.DataFrame(
            {
                "asked_at": NOON - pd.Timedelta(days=1),
                "score": [score for _, score in self.items.values()],
            },
            index=pd.Index(list(self.items), dtype=str),
        )
        audited = sorted(self.audited)
        return close_batch(
            said,
            faults=pd.DataFrame(self.faults, columns=["file", "number", "reason"]),
            items=rows,
            audited=pd.Series([self.items[i][0] for i in audited], index=audited, dtype=str),
            counted=pd.DataFrame({"item": [], "user": []}, dtype=str)
            if counted is None
            else counted,
            predict=champion,
            spec=self.spec,
            window=Window.of(week, wait_weeks=policy.wait_weeks),
        )
