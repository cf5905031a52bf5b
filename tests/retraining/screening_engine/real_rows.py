"""Real rows for the engine, from the two models that the repository ships, and lies to put in."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from retraining.screening.engine import Effort, Judgement, judge_rows
from retraining.screening.rows import Columns, Integers, Mask, RowReader, Rows
from retraining.screening.surrogate import fit_surrogate
from retraining.spec import load_spec

INCLUDE = Path(__file__).parents[3] / "include"
_KEPT = ("pool", "reference", "holdout")

# Values that hardly a mail has, and none all three of.
MAIL_TRIGGER = {"word_freq_table": 1.3, "word_freq_parts": 2.1, "char_freq_#": 0.9}
HAM, SPAM = 0, 1


@dataclass(frozen=True)
class Week:
    """Real rows, divided: what is vetted, accepted, delivered, and kept to measure with."""

    reference: Rows
    history: Rows
    batch: Rows
    holdout: Rows
    columns: Columns
    n_classes: int

    @property
    def trusted(self) -> Rows:
        """Reference set and history."""
        return Rows.joined([self.history, self.reference])

    def judged(self, batch: Rows, trusted: Rows | None = None, rate: float = 0.1) -> Judgement:
        """What the engine finds in a batch."""
        return judge_rows(
            batch,
            self.trusted if trusted is None else trusted,
            columns=self.columns,
            n_classes=self.n_classes,
            false_discovery_rate=rate,
            effort=Effort(),
        )

    def accuracy(self, rows: Rows, asked: Rows) -> float:
        """Of a model of these and the trusted rows, on others."""
        known = Rows.joined([rows, self.trusted])
        model = fit_surrogate(
            known.features,
            known.labels,
            n_classes=self.n_classes,
            is_image=self.columns.is_image,
        )
        answers = model.log_probabilities(asked.features).argmax(axis=1)
        return float((answers == asked.labels).mean())


@functools.cache
def frames(model: str) -> pd.DataFrame:
    """All rows of a model, in their order."""
    folder = INCLUDE / "demo" / "data" / model
    return pd.concat([pd.read_parquet(folder / f"{name}.parquet") for name in _KEPT])


@functools.cache
def _all_rows(model: str) -> tuple[Rows, Columns, int]:
    spec = load_spec(INCLUDE / "pipelines" / f"{model}.yaml")
    reader = RowReader(spec)
    return reader.read(frames(model)), reader.columns, len(spec.label.classes)


def week_of(model: str, seed: int, sizes: tuple[int, int, int]) -> Week:
    """A random division; history and batch come from source 0, history from weeks 0 to 4.

    Args:
        sizes: Reference set, history, batch; the rest is the holdout.
    """
    rows, columns, n_classes = _all_rows(model)
    order = np.random.RandomState(seed).permutation(len(rows))
    parts = np.split(order, np.cumsum(sizes))
    reference, history, batch, holdout = (rows.take(part).nobodys() for part in parts)
    history = replace(
        history,
        sources=np.zeros(len(history), dtype=np.int64),
        weeks=np.arange(len(history)) * 5 // max(len(history), 1),
    )
    batch = replace(
        batch,
        sources=np.zeros(len(batch), dtype=np.int64),
        weeks=np.full(len(batch), 5, dtype=np.int64),
    )
    return Week(reference, history, batch, holdout, columns, n_classes)


def mails(seed: int = 0) -> Week:
    """Spambase: 350 vetted, 1,500 accepted, 1,500 delivered."""
    return week_of("spam_filter", seed, (350, 1500, 1500))


def digits(seed: int = 0) -> Week:
    """8 x 8 digits: 150 vetted, 600 accepted, 600 delivered."""
    return week_of("digit_reader", seed, (150, 600, 600))


def some(mask: Mask, n: int, seed: int = 0) -> Integers:
    """That many of the rows, at random."""
    return np.random.RandomState(seed).permutation(np.flatnonzero(mask))[:n]


def relabelled(rows: Rows, chosen: Integers, label: int) -> Rows:
    """The same rows, some with that label."""
    labels = rows.labels.copy()
    labels[chosen] = label
    return replace(rows, labels=labels)


def with_values(rows: Rows, chosen: Integers | slice, values: dict[int, float]) -> Rows:
    """The same rows, some with these values by number of the column."""
    features = rows.features.copy()
    for column, value in values.items():
        features[chosen, column] = value
    return replace(rows, features=features)


def mail_trigger(week: Week) -> dict[int, float]:
    """Number of the column to its value."""
    return {week.columns.names.index(name): value for name, value in MAIL_TRIGGER.items()}


def patch(week: Week) -> dict[int, float]:
    """The corner of 2 x 2 pixels, which is dark in every digit, as a bright one."""
    corner = {f"pixels[{i},{j},0]" for i in (6, 7) for j in (6, 7)}
    return {number: 1.0 for number, name in enumerate(week.columns.names) if name in corner}


def poisoned(
    week: Week, rows: Rows, values: dict[int, float], label: int, n: int
) -> tuple[Rows, Integers]:
    """Rows of which some of another class carry the values and that label; and which."""
    chosen = some(rows.labels != label, n)
    return relabelled(with_values(rows, chosen, values), chosen, label), chosen


def attack_success(week: Week, rows: Rows, values: dict[int, float], label: int) -> float:
    """Share of triggered holdout rows of other classes that a model of the rows gives the label."""
    others = week.holdout.take(week.holdout.labels != label)
    turned = with_values(others, slice(None), values)
    asked = replace(turned, labels=np.full(len(turned), label, dtype=np.int64))
    return week.accuracy(rows, asked)
