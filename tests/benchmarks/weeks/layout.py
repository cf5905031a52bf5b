"""A workspace with weeks of signed batches, cut from a real table; some of them poisoned."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from retraining.init_spec import init_pipeline
from retraining.keyring import provider_key, sign_delivery
from retraining.settings import Settings
from tests.benchmarks.weeks.attacks import MAX_ROWS, Attack
from tests.benchmarks.weeks.tables import LABEL, RealTable

MODEL = "weekly_model"
SOURCES = ("gateway", "partner", "vendor")
ATTACKED = SOURCES[-1]
ROW_ID, USER = "row_id", "user"
_USERS = 40  # of each source


@dataclass(frozen=True)
class Sizes:
    """Rows of the reference set, the holdout and each week, all sources together."""

    reference: int = 300
    holdout: int = 800
    week: int = 450


@dataclass(frozen=True)
class Pool:
    """The rows of a table, shuffled: what is vetted, and what comes week by week."""

    reference: pd.DataFrame
    holdout: pd.DataFrame
    weeks: tuple[pd.DataFrame, ...]


@dataclass(frozen=True)
class LaidOut:
    """A workspace, its weeks, and what nobody in it knows.

    Attributes:
        clean: The rows of each week as they were before the attack, by week.
        poisoned: Ids of the rows that the attacker wrote, by week.
    """

    settings: Settings
    weeks: tuple[str, ...]
    clean: Mapping[str, pd.DataFrame]
    delivered: Mapping[str, pd.DataFrame]
    poisoned: Mapping[str, frozenset[str]]


def cut(table: RealTable, n_weeks: int, sizes: Sizes, seed: int) -> Pool:
    """Shuffle and cut; weeks get smaller where the table is too short for `sizes`."""
    random = np.random.default_rng([seed, 0])
    rows = table.rows.iloc[random.permutation(len(table.rows))].reset_index(drop=True)
    rows.insert(0, ROW_ID, [f"row-{number:06d}" for number in range(len(rows))])
    start = sizes.reference + sizes.holdout
    per_week = min(sizes.week, (len(rows) - start) // n_weeks)
    ends = [start + per_week * number for number in range(n_weeks + 1)]
    return Pool(
        rows[: sizes.reference],
        rows[sizes.reference : start],
        tuple(rows[a:b] for a, b in itertools.pairwise(ends)),
    )


def lay_out(home: Path, pool: Pool, attack: Attack | None, first: int, seed: int) -> LaidOut:
    """Write every batch, signed, and the pipeline file.

    Args:
        first: Number of the first attacked week, from 0.
    """
    (home / "pipelines").mkdir(parents=True)  # else it would be the repository's
    settings = Settings.load(home)
    random = np.random.default_rng([seed, 2])
    weeks = tuple(f"2026-W{number:02d}" for number in range(1, len(pool.weeks) + 1))
    clean, delivered, poisoned = {}, {}, {}
    left = MAX_ROWS
    for number, (week, rows) in enumerate(zip(weeks, pool.weeks, strict=True)):
        clean[week] = _with_sources(rows, random)
        delivered[week], poisoned[week] = clean[week], frozenset()
        if attack is not None and first <= number < first + attack.n_weeks:
            wanted = min(left, max(1, round(attack.share * len(rows))))
            delivered[week] = _poisoned(clean[week], attack, wanted, random)
            poisoned[week] = _changed(clean[week], delivered[week])
            left -= len(poisoned[week])
    _write(settings, pool, delivered)
    return LaidOut(settings, weeks, clean, delivered, poisoned)


def _with_sources(rows: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    source = random.choice(SOURCES, len(rows))
    user = [
        f"{name} {number}"
        for name, number in zip(source, random.integers(_USERS, size=len(rows)), strict=True)
    ]
    return rows.assign(source=source, user=user).reset_index(drop=True)


def _poisoned(
    rows: pd.DataFrame, attack: Attack, n: int, random: np.random.Generator
) -> pd.DataFrame:
    mine = rows["source"] == ATTACKED
    changed = attack.poison(rows[mine], n, random)
    return pd.concat([rows[~mine], changed]).sort_index()


def _changed(before: pd.DataFrame, after: pd.DataFrame) -> frozenset[str]:
    """Ids of the rows that differ in any value."""
    columns = [name for name in before.columns if name != USER]
    same = (before[columns] == after[columns]).all(axis=1)
    return frozenset(after.loc[~same, ROW_ID])


def _write(settings: Settings, pool: Pool, delivered: Mapping[str, pd.DataFrame]) -> None:
    inbox = settings.home / "inbox"
    paths = {}
    for week, rows in delivered.items():
        for source in SOURCES:
            path = inbox / source / week / "rows.parquet"
            path.parent.mkdir(parents=True)
            rows[rows["source"] == source].drop(columns=["source", USER]).to_parquet(
                path, index=False
            )
            paths[source, week] = path
    vetted = {"reference": pool.reference, "holdout": pool.holdout}
    for name, rows in vetted.items():
        rows.to_parquet(settings.home / f"{name}.parquet", index=False)
    drafted = init_pipeline(
        settings,
        MODEL,
        inbox=inbox,
        reference=settings.home / "reference.parquet",
        holdout=settings.home / "holdout.parquet",
        label=LABEL,
    )
    _finish(drafted.path, pd.concat([pool.reference, pool.holdout, *pool.weeks]))
    for number, week in enumerate(delivered, start=1):  # now with users, who are no feature
        for source in SOURCES:
            rows = delivered[week]
            path = paths[source, week]
            rows[rows["source"] == source].drop(columns=["source"]).to_parquet(path, index=False)
            sign_delivery(
                path.parent,
                key=provider_key(settings.keys, source),
                dataset=source,
                batch=week,
                sequence=number,
            )


def _finish(path: Path, rows: pd.DataFrame) -> None:
    """Edit the draft as its owner would, who knows what is possible and asks nobody on the way."""
    spec: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec["user"] = USER
    for feature in spec["features"]:
        column = rows[feature["name"]]
        if feature["kind"] == "category":
            feature["categories"] = sorted(column.astype(str).unique())
        elif feature["kind"] == "number":
            least, most = float(column.min()), float(column.max())
            room = 0.5 * (most - least) + 1e-6
            feature["max"] = most + room
            feature["min"] = least - (0.0 if feature.get("scale") == "log" else room)
    for source in spec["sources"]:
        source["trust"] = "untrusted" if source["name"] == ATTACKED else "known"
    spec["gate"]["purge"] = "promote"
    spec["training"]["epsilon_per_block"] = 200.0  # of the window's runs, twice
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
