"""The simulator of weeks: what attackers may do in it, how it counts, and a small run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from tests.benchmarks.weeks.__main__ import main
from tests.benchmarks.weeks.attacks import MAX_ROWS, Attack, draw_attacks
from tests.benchmarks.weeks.layout import (
    ATTACKED,
    ROW_ID,
    LaidOut,
    Sizes,
    cut,
    lay_out,
)
from tests.benchmarks.weeks.runs import CLEAN, Asked, do_run
from tests.benchmarks.weeks.summary import (
    Share,
    is_poisoned,
    is_recovered,
    markdown,
    summarised,
    weeks_to_detect,
)
from tests.benchmarks.weeks.tables import LABEL, RealTable, load_inside

SMALL = Sizes(reference=200, holdout=300, week=210)
N_WEEKS, FIRST = 5, 2


@pytest.fixture(scope="module")
def digits() -> RealTable:
    return load_inside()


@pytest.fixture(scope="module")
def attacks(digits: RealTable) -> dict[str, Attack]:
    return {a.name: a for a in draw_attacks(digits, cut(digits, N_WEEKS, SMALL, 0).holdout, 0)}


NAMES = (
    "trigger in range",
    "trigger out of range",
    "clean label",
    "slow drip",
    "flips",
    "bad source",
    "sybil region",
    "duplicates",
)


def laid_out(tmp_path: Path, digits: RealTable, attack: Attack | None) -> LaidOut:
    return lay_out(tmp_path / "home", cut(digits, N_WEEKS, SMALL, 0), attack, FIRST, 0)


@pytest.mark.parametrize("name", NAMES)
def test_an_attacker_writes_into_his_source_in_his_weeks_and_not_too_much(
    tmp_path: Path, digits: RealTable, attacks: dict[str, Attack], name: str
) -> None:
    laid = laid_out(tmp_path, digits, attacks[name])
    written = {week: len(laid.poisoned[week]) for week in laid.weeks}
    assert all(not written[week] for week in laid.weeks[:FIRST])
    attacked = [written[week] for week in laid.weeks[FIRST : FIRST + attacks[name].n_weeks]]
    assert all(attacked) or (name == "sybil region" and any(attacked))  # a region may be empty
    assert sum(written.values()) <= MAX_ROWS
    for week in laid.weeks:
        before, after = laid.clean[week], laid.delivered[week]
        assert list(before[ROW_ID]) == list(after[ROW_ID])
        others = before["source"] != ATTACKED
        pd.testing.assert_frame_equal(before[others], after[others])
        assert set(after[LABEL]) <= set(digits.classes)


def test_all_attacks_are_drawn(attacks: dict[str, Attack]) -> None:
    assert set(attacks) == set(NAMES)


def test_no_week_shares_a_row_with_another_or_with_what_was_vetted(digits: RealTable) -> None:
    pool = cut(digits, N_WEEKS, SMALL, 0)
    parts = [pool.reference, pool.holdout, *pool.weeks]
    ids = pd.concat(parts)[ROW_ID]
    assert ids.is_unique and len(ids) > 1000


def test_success_is_the_share_of_probes_that_get_what_is_wanted(
    attacks: dict[str, Attack],
) -> None:
    attack = attacks["trigger in range"]

    def says(word: str) -> Any:
        return lambda rows: np.full(len(rows), word, dtype=object)

    assert attack.success(says(attack.wanted)) == 1
    assert attack.success(says("something else")) == 0


# --- counting -------------------------------------------------------------------------------


def a_run(*weeks: dict[str, Any], attack: str = "flips", first: int = 1) -> dict[str, Any]:
    base = {
        "verdict": "PROMOTE",
        "earlier": [],
        "n_poison": 0,
        "n_poison_learned": 0,
        "n_clean": 100,
        "n_clean_learned": 99,
        "accuracy": 0.9,
        "success": 0.1,
        "judging_s": 4.0,
        "training_s": 2.0,
    }
    peers = {
        name: {"accuracy": 0.9, "success": 0.5}
        for name in (
            "no defence",
            "isolation forest, 1%",
            "accuracy gate and isolation forest",
            "private training alone",
        )
    }
    return {
        "attack": attack,
        "first": first,
        "weeks": [base | week for week in weeks],
        "oracle": {"accuracy": 0.91, "success": 0.1},
        "peers": peers,
    }


def test_a_champion_that_obeys_once_is_a_poisoned_run() -> None:
    poisoned = a_run({}, {"success": 0.21}, {"success": 0.1})
    assert is_poisoned(poisoned) and is_recovered(poisoned)
    assert not is_poisoned(a_run({"success": 0.9}, {"success": 0.2}))  # before the attack began


def test_a_run_without_a_promotion_is_not_recovered() -> None:
    held = {"verdict": "HOLD", "n_poison": 10}
    run = a_run({}, held)
    del run["weeks"][1]["success"]
    assert not is_poisoned(run) and not is_recovered(run)
    assert weeks_to_detect(run) == 0


def test_an_attack_is_detected_when_most_of_it_is_kept_out() -> None:
    learned = {"n_poison": 10, "n_poison_learned": 6}
    kept_out = {"n_poison": 10, "n_poison_learned": 4}
    assert weeks_to_detect(a_run({}, learned, kept_out)) == 1
    assert weeks_to_detect(a_run({}, learned)) is None


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    low, high = Share(0, 200).ends
    assert (low, round(high, 4)) == (0.0, 0.0183)
    low, high = Share(10, 100).ends
    assert (round(low, 4), round(high, 4)) == (0.0490, 0.1762)
    assert Share(0, 0).ends == (0.0, 1.0)


def test_the_table_says_what_was_counted_and_the_aims() -> None:
    runs = [
        a_run({}, {"success": 0.5}),
        a_run({}, {"earlier": [["REJECT", "behaviour"]]}),
        a_run({}, {"verdict": "HOLD"}, attack=CLEAN, first=2),
    ]
    figures = summarised(runs)
    assert (figures.poisoned.k, figures.poisoned.n) == (1, 2)
    assert (figures.refused.k, figures.refused.n) == (1, 4)
    assert (figures.saved.k, figures.saved.n) == (1, 2)
    assert figures.cost == 2 and figures.clean_rows_kept_out == pytest.approx(0.01)
    text = markdown(figures)
    assert "| flips | 1 of 2 = 50.0%" in text and "at most 3%" in text
    assert "no defence | 2 of 2" in text


# --- for real -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.trainer
def test_one_small_attack_goes_through_the_real_steps() -> None:
    table = load_inside("breast_cancer", load_breast_cancer)
    sizes = Sizes(reference=120, holdout=160, week=140)
    found = do_run(Asked(table.name, "trigger out of range", 0), table, n_weeks=2, sizes=sizes)
    clean, attacked = found["weeks"]
    assert (clean["week"], attacked["week"], found["first"]) == ("2026-W01", "2026-W02", 1)
    assert clean["n_poison"] == 0 and clean["n_clean_learned"] > 0.9 * clean["n_clean"]
    assert attacked["n_poison"] > 0 and clean["accuracy"] > 0.7
    assert markdown(summarised([found]))


def test_without_a_folder_it_says_which(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make bench-weeks DATA_DIR="):
        main(["--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no INDEX\.json"):
        main(["--data", str(tmp_path), "--out", str(tmp_path)])
    made = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.weeks", "--data", "", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode and "Say where the tables lie" in made.stderr
