"""Lays out the demo's workspace: data, keys, and three weeks of signed batches, one poisoned.

Calling it again changes nothing and finishes what was interrupted. Keys and signatures are made by
the functions behind `retraining keys create` and `retraining sign-batch`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from demo.cut_data import DATA, DIGIT_READER, SPAM_FILTER, WEEKS
from retraining.evidence import Role
from retraining.keyring import (
    NewKey,
    change_trust,
    create_provider_key,
    create_team_keys,
    provider_key,
    sign_delivery,
)
from retraining.settings import REPOSITORY, Settings
from retraining.sign_batch import manifest_path
from retraining.store import open_store

MODELS = ("spam_filter", "digit_reader")
POISONED_WEEK = "2026-W42"
FEEDBACK_SOURCES = ("user_feedback", "reader_feedback")  # their batches are closed here, not sent
_OWN_COLUMNS = ["week", "source"]  # of the pool; nobody delivers them


@dataclass(frozen=True)
class Poison:
    """One-directional label flips by one source: the crudest poison there is.

    Attributes:
        share: Of the rows of `victim` that the source relabels as `target`.
    """

    source: str
    victim: str
    target: str
    share: float


# A feed that sells spam as wanted mail.
POISON = {"spam_filter": Poison("purchased_feed", victim="spam", target="ham", share=1.0)}


def demo_settings(home: Path) -> Settings:
    """Settings of a workspace that lies wholly in `home`, whatever the environment says."""
    home = home.expanduser().resolve()
    return Settings(
        home=home,
        store=str(home / "store"),
        pipelines=REPOSITORY / "include" / "pipelines",
        keys=home / "keys",
        root_key=home / "keys" / "root.pub.json",
        memory=home / "memory",
    )


def lay_out(
    home: Path, *, models: Sequence[str] = MODELS, poison_week: str | None = POISONED_WEEK
) -> Settings:
    """Make `home` a workspace in which every week of `models` can be run.

    Args:
        poison_week: Week in which one source of the spam filter lies; None: nobody does.

    Raises:
        ConfigError: The folder cannot be used.
    """
    settings = demo_settings(home)
    settings.home.mkdir(parents=True, exist_ok=True)
    _make_keys(settings)
    for model in models:
        folder = settings.home / "data" / model
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("reference.parquet", "holdout.parquet", "ATTRIBUTION.md"):
            if not (folder / name).exists():
                _copy(DATA / model / name, folder / name)
        pool = pd.read_parquet(DATA / model / "pool.parquet")
        for (source, week), rows in pool.groupby(["source", "week"], sort=True):
            if poison_week == week and model in POISON:
                rows = poisoned(rows, POISON[model])
            _deliver(settings, str(source), str(week), rows)
    return settings


def _make_keys(settings: Settings) -> None:
    """Keys for the team and for every provider of every model, so that all can be laid out."""
    providers = [*SPAM_FILTER.shares, *DIGIT_READER.shares, *FEEDBACK_SOURCES]
    if not open_store(settings.store).names("trust"):
        create_team_keys(settings, providers=providers)
    # A workspace of an earlier release has fewer.
    lacking = [name for name in providers if not provider_key(settings.keys, name).exists()]
    folder = provider_key(settings.keys, "").parent
    new = [NewKey(n, "provider", create_provider_key(folder, n), holder=n) for n in lacking]
    people: tuple[Role, ...] = ("reviewer", "owner")
    new += [
        NewKey(role, role, create_provider_key(settings.keys, role))
        for role in people
        if not (settings.keys / f"{role}.pem").exists()
    ]
    if new:
        change_trust(settings, add=new)


def poisoned(rows: pd.DataFrame, poison: Poison) -> pd.DataFrame:
    """The same rows, as the poisoner hands them in; rows of other sources stay as they are."""
    victims = rows.index[(rows["source"] == poison.source) & (rows["label"] == poison.victim)]
    flipped = rows.copy()
    flipped.loc[victims[: round(poison.share * len(victims))], "label"] = poison.target
    return flipped


def _deliver(settings: Settings, source: str, week: str, rows: pd.DataFrame) -> None:
    """What the provider does: lay the file down, then sign it. The manifest comes last."""
    folder = settings.home / "inbox" / source / week
    if manifest_path(folder).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(rows.drop(columns=_OWN_COLUMNS), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), folder / f"{source}-{week}.parquet")
    sign_delivery(
        folder,
        key=provider_key(settings.keys, source),
        dataset=source,
        batch=week,
        sequence=1 + WEEKS.index(week),
    )


def _copy(source: Path, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.copyfile(source, unfinished)
    unfinished.replace(target)
