"""Production, simulated: what a model is asked, what users say of it, what turns out later.

Rows are drawn from the demo's own data under new ids, the champion answers them, and users vote on
some of the answers. They are honest and now and then wrong; a ring of fresh accounts can be told to
call one class another. The truth of some rows becomes known days later, as it does when somebody
audits. Everything lies where the pipeline file says; the same seed writes the same files.

    python -m demo.simulator spam_filter --week 2026-W42 --liars 40
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from demo.cut_data import DATA
from demo.layout import demo_settings
from retraining.chains import registry_chain
from retraining.errors import ConfigError, RetrainingError
from retraining.evidence import public_key_of
from retraining.models import Model, load_model
from retraining.registry import Registry
from retraining.settings import Settings
from retraining.spec import DailyFiles, FeedbackPolicy, PipelineSpec, TrafficSpec, load_spec
from retraining.store import open_store
from retraining.trust_history import TrustHistory


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Who uses the model, and how.

    Attributes:
        n_rows_a_day: Rows that the model is asked about.
        n_users: Honest accounts, each months old.
        n_votes: Of one honest user in a week.
        share_voted_on: Of the rows, those that users talk about: all wrong answers, and others.
        mistakes: Share of honest votes that are wrong.
        share_audited: Of the rows, those whose truth becomes known, within five days.
        n_liars: Accounts of the ring, each opened that week.
        n_lies: Of one liar: `victim` called `target`.
    """

    n_rows_a_day: int = 150
    n_users: int = 60
    n_votes: int = 24
    share_voted_on: float = 0.25
    mistakes: float = 0.03
    share_audited: float = 0.5
    n_liars: int = 0
    n_lies: int = 30
    victim: str = ""
    target: str = ""


@dataclass(frozen=True)
class Simulated:
    """What was written.

    Attributes:
        n_wrong: Answers of the model that were wrong.
    """

    n_rows: int
    n_wrong: int
    n_audited: int
    n_votes: int
    n_lies: int
    version: int


_AUDIT_DAYS = 5
_DAY = timedelta(days=1)

Random = np.random.Generator


@dataclass(frozen=True)
class _Scene:
    """The parts of the pipeline file that production is about, known to be there."""

    settings: Settings
    spec: PipelineSpec
    traffic: TrafficSpec
    feedback: FeedbackPolicy
    event_time: str


def simulate_week(
    settings: Settings, model: str, week: str, crowd: Crowd, *, seed: int = 0
) -> Simulated:
    """Write a week of traffic, of late labels and of feedback, answered by today's champion.

    Raises:
        ConfigError: The pipeline file names no traffic or feedback, or nothing serves yet.
    """
    scene = _scene(settings, model)
    # A stream each: which rows are audited shall not hang on what the model got wrong.
    of_rows, of_votes, of_audits = np.random.default_rng(
        [seed, int(week[:4]), int(week[6:])]
    ).spawn(3)
    champion, version = _champion(scene)
    asked = _answered(scene, champion, _rows_of(scene, week, crowd, of_rows))
    votes = _votes(scene, asked, crowd, of_votes)
    _write_traffic(scene, asked, version)
    n_audited = _write_labels(scene, asked, crowd, of_audits)
    _write_feedback(scene, week, votes.drop(columns="lie"))
    return Simulated(
        n_rows=len(asked),
        n_wrong=int((asked["predicted"] != asked["truth"]).sum()),
        n_audited=n_audited,
        n_votes=len(votes),
        n_lies=int(votes["lie"].sum()),
        version=version,
    )


def days_of(week: str) -> list[date]:
    """Monday to Sunday."""
    monday = date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
    return [monday + number * _DAY for number in range(7)]


def _scene(settings: Settings, model: str) -> _Scene:
    spec = load_spec(settings.pipelines / f"{model}.yaml")
    if spec.traffic is None or spec.feedback is None or spec.event_time is None:
        raise ConfigError(f"{model}: expected traffic, feedback and event_time in its file.")
    return _Scene(settings, spec, spec.traffic, spec.feedback, spec.event_time)


def _champion(scene: _Scene) -> tuple[Model, int]:
    store = open_store(scene.settings.store, must_exist=True)
    trust = TrustHistory.load(store, public_key_of(scene.settings.root_key, "root"))
    model = scene.spec.model
    registry = Registry(model, tuple(registry_chain(store, trust, model).load()))
    if registry.champion is None:
        raise ConfigError(f"{model} has no champion that could answer; promote one first.")
    return load_model(store, registry.champion), registry.version


# --- what happens ---------------------------------------------------------------------------


def _rows_of(scene: _Scene, week: str, crowd: Crowd, random: Random) -> pd.DataFrame:
    """A week of rows under new ids, with their true label as `truth` and their day."""
    spec, days = scene.spec, days_of(week)
    pool = pd.read_parquet(DATA / spec.model / "pool.parquet")
    rows = pool.sample(crowd.n_rows_a_day * len(days), replace=True, random_state=random)
    rows = rows.reset_index(drop=True).rename(columns={spec.label.column: "truth"})
    rows["day"] = [day for day in days for _ in range(crowd.n_rows_a_day)]
    midnight = pd.to_datetime(rows["day"]).dt.tz_localize("UTC")
    rows[scene.event_time] = (midnight + _seconds(_DAY, len(rows), random)).astype(
        "datetime64[ms, UTC]"
    )
    rows[spec.row_id] = [f"asked-{week}-{number:05d}" for number in range(len(rows))]
    return rows.drop(columns=["week", "source"])


def _answered(scene: _Scene, champion: Model, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the champion's answer as `predicted`."""
    best = champion.predict(rows).argmax(axis=1)
    return rows.assign(predicted=np.array(champion.classes, dtype=object)[best])


def _votes(scene: _Scene, asked: pd.DataFrame, crowd: Crowd, random: Random) -> pd.DataFrame:
    """One line per vote: item, user, label, time, signals, and whether it is a liar's."""
    wrong = asked.index[asked["predicted"] != asked["truth"]]
    right = asked.index.difference(wrong)
    n_right = min(max(round(crowd.share_voted_on * len(asked)) - len(wrong), 0), len(right))
    talked_about = np.concatenate([wrong, random.choice(right, n_right, replace=False)])
    classes = np.array(scene.spec.label.classes, dtype=object)
    parts = []
    for user in range(crowd.n_users):
        items = random.choice(talked_about, min(crowd.n_votes, len(talked_about)), replace=False)
        label = asked.loc[items, "truth"].to_numpy(dtype=object)
        mistaken = random.random(len(items)) < crowd.mistakes
        label[mistaken] = random.choice(classes, int(mistaken.sum()))
        age = int(random.integers(60, 900))
        parts.append(_lines(scene, asked.loc[items], f"user-{user:03d}", label, age, random))
    return pd.concat([*parts, *_lies(scene, asked, crowd, random)], ignore_index=True)


def _lies(
    scene: _Scene, asked: pd.DataFrame, crowd: Crowd, random: Random
) -> Iterator[pd.DataFrame]:
    """All liars on the same few items, because many votes on one look like a majority."""
    victims = asked[asked["truth"] == crowd.victim]
    items = victims.sample(min(crowd.n_lies, len(victims)), random_state=random)
    label = np.full(len(items), crowd.target, dtype=object)
    for liar in range(crowd.n_liars):
        age = int(random.integers(0, 4))
        yield _lines(scene, items, f"fresh-{liar:03d}", label, age, random).assign(lie=True)


def _lines(
    scene: _Scene,
    items: pd.DataFrame,
    user: str,
    label: npt.NDArray[Any],
    age_days: int,
    random: Random,
) -> pd.DataFrame:
    """Votes within a day of the answer, so that a few of Sunday's fall into the next week."""
    return pd.DataFrame(
        {
            "item": items[scene.spec.row_id].to_numpy(),
            "user": user,
            "label": label,
            "time": (items[scene.event_time] + _seconds(_DAY, len(items), random)).to_numpy(),
            "account_age_days": age_days,
            "verified": age_days > 365,
            "lie": False,
        }
    )


def _seconds(below: timedelta, n: int, random: Random) -> pd.TimedeltaIndex:
    return pd.to_timedelta(random.integers(1, int(below.total_seconds()), n), unit="s")


# --- how it is written ----------------------------------------------------------------------


def _write_traffic(scene: _Scene, asked: pd.DataFrame, version: int) -> None:
    columns = [name for name in scene.spec.columns if name != scene.spec.label.column]
    for day, rows in asked.groupby("day", sort=True):
        answered = rows[columns].copy()
        answered[scene.traffic.predicted_column] = rows["predicted"]
        answered[scene.traffic.version_column] = version
        _write_parquet(scene, scene.traffic.predictions, day, answered)


def _write_labels(scene: _Scene, asked: pd.DataFrame, crowd: Crowd, random: Random) -> int:
    """The truth of some rows, each one to five days after it was asked about."""
    audited = asked.sample(round(crowd.share_audited * len(asked)), random_state=random)
    delay = random.integers(1, _AUDIT_DAYS + 1, len(audited))
    arrives = [day + int(n) * _DAY for day, n in zip(audited["day"], delay, strict=True)]
    known = audited[[scene.spec.row_id, "truth"]].rename(columns={"truth": scene.spec.label.column})
    for day, rows in known.groupby(pd.Series(arrives, index=known.index), sort=True):
        _write_parquet(scene, scene.traffic.labels, day, rows)
    return len(audited)


def _write_feedback(scene: _Scene, week: str, votes: pd.DataFrame) -> None:
    """One file of JSON lines, in the order in which they were said."""
    votes = votes.sort_values(["time", "user", "item"], kind="stable")
    times = pd.to_datetime(votes["time"], utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = votes.assign(time=times).to_json(orient="records", lines=True)
    folder = _folder(scene, scene.feedback.uri.replace("{week}", week))
    (folder / f"feedback-{week}.jsonl").write_text(lines, encoding="utf-8")


def _write_parquet(scene: _Scene, files: DailyFiles, day: Any, rows: pd.DataFrame) -> None:
    """A file of its own per simulated week: labels of two weeks may arrive on one day."""
    folder = _folder(scene, files.uri.replace("{day}", str(day)))
    name = f"{rows[scene.spec.row_id].iloc[0].rpartition('-')[0]}.parquet"
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata()
    pq.write_table(table, folder / name)


def _folder(scene: _Scene, uri: str) -> Path:
    folder = Path(scene.settings.resolve(uri))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- by hand --------------------------------------------------------------------------------


def main(
    model: Annotated[str, typer.Argument(help="spam_filter or digit_reader")],
    week: Annotated[str, typer.Option(help="ISO week, such as 2026-W42.")],
    home: Annotated[Path, typer.Option(help="The demo's workspace.")] = Path("workspace"),
    liars: Annotated[int, typer.Option(min=0, help="Accounts of a ring.")] = 0,
    victim: Annotated[str, typer.Option(help="The class that the ring attacks.")] = "spam",
    target: Annotated[str, typer.Option(help="What the ring calls it.")] = "ham",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a week of traffic, late labels and feedback into the demo's workspace."""
    crowd = Crowd(n_liars=liars, victim=victim, target=target)
    try:
        done = simulate_week(demo_settings(home), model, week, crowd, seed=seed)
    except RetrainingError as error:
        sys.exit(f"simulator: {error}")
    print(
        f"{done.n_rows} rows answered by version {done.version}, {done.n_wrong} of them wrong;"
        f" {done.n_audited} audited; {done.n_votes} votes, {done.n_lies} of them lies."
    )


if __name__ == "__main__":
    typer.run(main)
