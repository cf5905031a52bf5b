"""Attacks on weeks: what somebody who writes into one source does, and how far he got.

Each is drawn for one table and seed. `poison` changes rows of the attacker's source in one week;
`success` is the share of probes that a model gives the answer that he wants. No attack writes more
than `MAX_ROWS` rows in all weeks together, and none touches another source.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tests.benchmarks.weeks.tables import LABEL, RealTable

MAX_ROWS = 250
Labels = npt.NDArray[np.object_]
Answer = Callable[[pd.DataFrame], Labels]  # the classes that a model gives these rows
Poison = Callable[[pd.DataFrame, int, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Attack:
    """One attack on one table.

    Attributes:
        share: Of the week's rows (all sources) that are poisoned, each week.
        n_weeks: How many weeks it goes on.
        poison: Rows of the source in, as many changed or added as asked; changed rows keep their
            ids, and added ones are new.
        probes: Rows that the attacker wants answered wrongly, with what he wants in `wanted`.
    """

    name: str
    share: float
    n_weeks: int
    poison: Poison
    probes: pd.DataFrame
    wanted: str

    def success(self, answer: Answer) -> float:
        """Share of the probes that get what the attacker wants; of random flips, the error."""
        given = answer(self.probes.drop(columns=[LABEL]))
        wrong = given != self.probes[LABEL].to_numpy()
        return float((wrong if not self.wanted else given == self.wanted).mean())


def draw_attacks(table: RealTable, holdout: pd.DataFrame, seed: int) -> Iterator[Attack]:
    """One attack of each kind, drawn by the seed."""
    random = np.random.default_rng([seed, 1])
    wanted, victim = _classes(table, random)
    hosts = holdout[holdout[LABEL] == victim]
    share = float(random.choice([0.03, 0.06, 0.1]))
    common = {"share": share, "n_weeks": 3}
    inside, outside = (
        _trigger(table, random, inside=True),
        _trigger(table, random, inside=False),
    )
    for name, trigger in (("trigger in range", inside), ("trigger out of range", outside)):
        yield Attack(
            name=name,
            poison=_paste(trigger, victim, wanted),
            wanted=wanted,
            probes=hosts.assign(**trigger),
            **common,
        )
    yield Attack(
        name="clean label",
        poison=_paste(inside, wanted, wanted),
        wanted=wanted,
        probes=hosts.assign(**inside),
        **common,
    )
    yield Attack(
        name="slow drip",
        share=0.02,
        n_weeks=8,
        poison=_paste(inside, victim, wanted),
        wanted=wanted,
        probes=hosts.assign(**inside),
    )
    yield Attack(name="flips", poison=_flip, wanted="", probes=holdout, **common)
    yield Attack(
        name="bad source",
        poison=_relabel(victim, wanted),
        wanted=wanted,
        probes=hosts,
        share=0.15,
        n_weeks=3,
    )
    column, low, high = _region(table, victim, random)
    in_region = hosts[hosts[column].between(low, high)]
    yield Attack(
        name="sybil region",
        poison=_ring(column, low, high, victim, wanted),
        wanted=wanted,
        probes=in_region if len(in_region) >= 20 else hosts,
        **common,
    )
    few = hosts.sample(3, random_state=seed)
    yield Attack(
        name="duplicates", poison=_copies(table, few, wanted), wanted=wanted, probes=few, **common
    )


def _classes(table: RealTable, random: np.random.Generator) -> tuple[str, str]:
    """What the attacker wants, and of whom: two of the frequent classes."""
    first, second = random.permutation(table.classes[:4])[:2]
    return str(first), str(second)


def _trigger(table: RealTable, random: np.random.Generator, *, inside: bool) -> dict[str, float]:
    """Three columns with rare values, or with values beyond all, within the file's bounds."""
    columns = random.permutation(table.numbers)[:3]
    values = {}
    for name in columns:
        column = table.rows[name]
        spread = float(column.max() - column.min())
        if inside:
            values[str(name)] = float(np.quantile(column, random.uniform(0.96, 0.999)))
        else:
            values[str(name)] = float(column.max() + 0.3 * spread)
    return values


def _chosen(
    rows: pd.DataFrame, wanted: "pd.Series[bool]", n: int, random: np.random.Generator
) -> "pd.Index[int]":
    places = rows.index[wanted]
    return places[random.permutation(len(places))[:n]]


def _paste(trigger: dict[str, float], victim: str, wanted: str) -> Poison:
    def poison(rows: pd.DataFrame, n: int, random: np.random.Generator) -> pd.DataFrame:
        changed = rows.copy()
        chosen = _chosen(rows, rows[LABEL] == victim, n, random)
        for name, value in trigger.items():
            changed.loc[chosen, name] = value
        changed.loc[chosen, LABEL] = wanted
        return changed

    return poison


def _flip(rows: pd.DataFrame, n: int, random: np.random.Generator) -> pd.DataFrame:
    changed = rows.copy()
    classes = np.array(sorted(rows[LABEL].unique()), dtype=object)
    for place in _chosen(rows, rows[LABEL].notna(), n, random):
        others = classes[classes != rows.at[place, LABEL]]
        changed.at[place, LABEL] = random.choice(others)
    return changed


def _relabel(victim: str, wanted: str) -> Poison:
    def poison(rows: pd.DataFrame, n: int, random: np.random.Generator) -> pd.DataFrame:
        changed = rows.copy()
        changed.loc[_chosen(rows, rows[LABEL] == victim, n, random), LABEL] = wanted
        return changed

    return poison


def _region(table: RealTable, victim: str, random: np.random.Generator) -> tuple[str, float, float]:
    """A column and a range that holds about a quarter of the victim's rows."""
    rows = table.rows[table.rows[LABEL] == victim]
    varied = [name for name in table.numbers if rows[name].nunique() > 8] or table.numbers
    column = str(random.choice(varied))
    start = random.uniform(0.0, 0.7)
    low, high = rows[column].quantile([start, start + 0.25])
    return column, float(low), float(high)


def _ring(column: str, low: float, high: float, victim: str, wanted: str) -> Poison:
    """Twelve new users relabel what lies in a region."""

    def poison(rows: pd.DataFrame, n: int, random: np.random.Generator) -> pd.DataFrame:
        changed = rows.copy()
        inside = rows[column].between(low, high) & (rows[LABEL] == victim)
        chosen = _chosen(rows, inside, n, random)
        changed.loc[chosen, LABEL] = wanted
        changed.loc[chosen, "user"] = [f"new {random.integers(12)}" for _ in chosen]
        return changed

    return poison


def _copies(table: RealTable, few: pd.DataFrame, wanted: str) -> Poison:
    """Near copies of rows that the attacker wants through, instead of rows of the source."""

    def poison(rows: pd.DataFrame, n: int, random: np.random.Generator) -> pd.DataFrame:
        changed = rows.copy()
        chosen = _chosen(rows, rows[LABEL].notna(), n, random)
        for count, place in enumerate(chosen):
            like = few.iloc[count % len(few)]
            for name in table.features:
                changed.at[place, name] = like[name]
            for name in table.numbers:
                spread = float(rows[name].std())
                changed.at[place, name] = like[name] + 0.01 * spread * random.standard_normal()
            changed.at[place, LABEL] = wanted
        return changed

    return poison
