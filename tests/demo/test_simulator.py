"""Simulated production: what a pipeline file declares, and the same for the same seed."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from demo.cut_data import DATA
from demo.layout import lay_out
from demo.simulator import Crowd, Simulated, days_of, simulate_week
from retraining.errors import ConfigError
from retraining.settings import Settings
from retraining.spec import load_spec
from retraining.steps import open_step_runner
from retraining.weekly import run_week
from tests.fixtures.workspace import numpy_trainer

pytestmark = pytest.mark.slow  # a champion is trained

WEEK = "2026-W41"
RING = Crowd(n_liars=12, n_lies=20, victim="3", target="8")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The demo's workspace with a champion."""
    home = tmp_path_factory.mktemp("production") / "workspace"
    laid_out = lay_out(home, models=["digit_reader"])
    ready = laid_out.model_copy(update={"trainer_python": numpy_trainer(home)})
    steps = open_step_runner(ready, run_id="r", requested_by="test", log=lambda _line: None)
    assert run_week(steps, "digit_reader", "2026-W40").entry is not None
    return ready


@pytest.fixture(scope="module")
def simulated(settings: Settings) -> Simulated:
    return simulate_week(settings, "digit_reader", WEEK, RING)


def files(settings: Settings) -> dict[str, bytes]:
    folder = settings.home / "traffic"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def predictions(settings: Settings) -> pd.DataFrame:
    folder = settings.home / "traffic" / "digit_reader" / "predictions"
    parts = [pd.read_parquet(folder / str(day)) for day in days_of(WEEK)]
    return pd.concat(parts, ignore_index=True)


def lines(settings: Settings) -> list[dict[str, Any]]:
    folder = settings.home / "traffic" / "digit_reader" / "feedback" / WEEK
    [file] = folder.iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_day_has_rows_of_that_day_with_the_champions_answer(
    settings: Settings, simulated: Simulated
) -> None:
    spec = load_spec(settings.pipelines / "digit_reader.yaml")
    asked = predictions(settings)

    assert len(asked) == simulated.n_rows == 7 * RING.n_rows_a_day
    wanted = {*spec.columns, "predicted", "version"} - {"label"}
    assert set(asked.columns) == wanted
    assert asked["scan_id"].is_unique
    assert set(asked["version"]) == {1}
    folder = settings.home / "traffic" / "digit_reader" / "predictions"
    for day in days_of(WEEK):
        times = pd.read_parquet(folder / str(day))["received_at"]
        assert {time.date() for time in times} == {day}


def test_labels_are_true_and_late(settings: Settings, simulated: Simulated) -> None:
    asked = predictions(settings).set_index("scan_id")
    pool = pd.read_parquet(DATA / "digit_reader" / "pool.parquet")
    truths = pool.groupby("pixels")["label"].agg(set)
    folder = settings.home / "traffic" / "digit_reader" / "labels"
    known = 0
    for day in folder.iterdir():
        rows = pd.read_parquet(day)
        known += len(rows)
        for _, row in rows.iterrows():
            about = asked.loc[row["scan_id"]]
            assert row["label"] in truths[about["pixels"]]
            assert str(about["received_at"].date()) < day.name
    assert known == simulated.n_audited == round(RING.share_audited * simulated.n_rows)


def test_users_are_honest_but_for_a_few_mistakes_and_liars_never(
    settings: Settings, simulated: Simulated
) -> None:
    said = lines(settings)

    lies = [line for line in said if line["user"].startswith("fresh-")]
    assert len(lies) == simulated.n_lies == RING.n_liars * RING.n_lies
    assert {line["label"] for line in lies} == {"8"}
    assert max(line["account_age_days"] for line in lies) < 7
    assert len({line["item"] for line in lies}) == RING.n_lies  # all on the same items
    honest = [line for line in said if not line["user"].startswith("fresh-")]
    assert len(honest) == RING.n_users * RING.n_votes
    assert simulated.n_votes == len(said)
    assert {line["item"] for line in said} <= set(predictions(settings)["scan_id"])


def test_nobody_lies_unless_asked_to(settings: Settings, simulated: Simulated) -> None:
    assert simulate_week(settings, "digit_reader", WEEK, Crowd()).n_lies == 0
    simulate_week(settings, "digit_reader", WEEK, RING)


def test_the_same_seed_writes_the_same_files(settings: Settings, simulated: Simulated) -> None:
    before = files(settings)

    assert simulate_week(settings, "digit_reader", WEEK, RING) == simulated
    assert files(settings) == before
    simulate_week(settings, "digit_reader", WEEK, RING, seed=1)
    assert files(settings) != before
    simulate_week(settings, "digit_reader", WEEK, RING)


def test_without_a_champion_nothing_can_be_simulated(tmp_path: Path) -> None:
    fresh = lay_out(tmp_path / "workspace", models=["digit_reader"])

    with pytest.raises(ConfigError, match="no champion"):
        simulate_week(fresh, "digit_reader", WEEK, Crowd())
