"""Runs of attacked weeks are done once, resumed after a kill, and summed up without flattery."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.weeks.__main__ import BEGIN, DOCS, END, main, run_all
from tests.benchmarks.weeks.attacks import ATTACKS, CLEAN
from tests.benchmarks.weeks.figures import PIPELINE, Figures, ends_clean, first_seen
from tests.benchmarks.weeks.order import in_balanced_order
from tests.benchmarks.weeks.records import (
    RUNS,
    PeerResult,
    RunKey,
    RunResult,
    WeekResult,
    add_run,
    read_runs,
    sole_owner,
)
from tests.benchmarks.weeks.running import Plan, prepare, run_attack
from tests.benchmarks.weeks.season import Sizes
from tests.benchmarks.weeks.statistics import Middle, Share
from tests.benchmarks.weeks.summary import markdown, shown
from tests.benchmarks.weeks.tables import DataSet, load

START = 2


def week(number: int, **changes: Any) -> WeekResult:
    found = WeekResult(
        week=number,
        clean=number < START,
        verdict="PROMOTE",
        promoted=True,
        n_clean=100,
        n_clean_kept=99,
        failed=[["behaviour: window", "REJECT", "p = 0.001"]],
        success=0.1,
        accuracy=0.9,
        seconds={"screening": 3.0, "validation": 1.0, "gate": 0.0, "training": 4.0},
        training_seconds=[2.0],
    )
    if number >= START:
        found = replace(found, n_poison=20, n_poison_trained=20)
    return replace(found, **changes)


def result(attack: str = "flips", seed: int = 0, *weeks: WeekResult, **changes: Any) -> RunResult:
    found = RunResult(
        dataset="mails",
        attack=attack,
        seed=seed,
        code="sha256:0",
        n_weeks=4,
        rows_a_week=400,
        start=START,
        stop=4,
        n_poison=20,
        weeks=list(weeks) or [week(number) for number in range(4)],
        peers={
            "no_defence": PeerResult(success=[0.9, 0.2], accuracy=0.95),
            "dp_alone": PeerResult(success=[0.15], accuracy=0.9),
        },
        clean_success=[0.1, 0.12],
        plain_success=0.05,
        clean_accuracy=[0.91, 0.93],
        plain_accuracy=0.96,
    )
    return replace(found, **changes)


# --- runs are done once ---------------------------------------------------------------------


def do(key: RunKey, _data: DataSet, _plan: Plan, home: Path) -> RunResult:
    assert list(home.iterdir()) == []
    (home / "workspace").mkdir()
    return result(key.attack, key.seed, dataset=key.dataset)


KEYS = [RunKey("digits", attack, 0) for attack in ("flips", "clean_label", "clean")]


def test_a_finished_run_is_not_done_again_and_an_unfinished_one_starts_anew(tmp_path: Path) -> None:
    asked: list[RunKey] = []

    def killed(key: RunKey, data: DataSet, plan: Plan, home: Path) -> RunResult:
        asked.append(key)
        if len(asked) == 2:
            (home / "half a workspace").mkdir()
            raise KeyboardInterrupt
        return do(key, data, plan, home)

    with pytest.raises(KeyboardInterrupt):
        run_all(KEYS, tmp_path, tmp_path / "out", Plan(), run=killed)
    assert [run.key for run in read_runs(tmp_path / "out")] == KEYS[:1]

    run_all(KEYS, tmp_path, tmp_path / "out", Plan(), run=killed)

    assert asked == [KEYS[0], KEYS[1], KEYS[1], KEYS[2]]
    assert [run.key for run in read_runs(tmp_path / "out")] == KEYS
    assert not (tmp_path / "out" / "work").exists()


def test_a_line_that_was_cut_off_is_no_run(tmp_path: Path) -> None:
    add_run(tmp_path, result(seed=0))
    with (tmp_path / RUNS).open("a") as file:
        file.write(result(seed=1).to_line()[:-20])

    assert [run.seed for run in read_runs(tmp_path)] == [0]
    add_run(tmp_path, result(seed=2))
    assert [run.seed for run in read_runs(tmp_path)] == [0, 2]
    assert read_runs(tmp_path)[0] == result(seed=0)


def test_a_run_that_breaks_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    def breaks(key: RunKey, data: DataSet, plan: Plan, home: Path) -> RunResult:
        if key.attack == "clean_label":
            raise RuntimeError("no trainer")
        return do(key, data, plan, home)

    run_all(KEYS, tmp_path, tmp_path / "out", Plan(), run=breaks)
    runs = read_runs(tmp_path / "out")

    assert [bool(run.broke) for run in runs] == [False, True, False]
    assert "no trainer" in runs[1].broke
    assert Figures.of(runs).n_broken == 1
    assert "1 runs broke and are in no figure" in markdown(runs)


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    with sole_owner(tmp_path), pytest.raises(BlockingIOError), sole_owner(tmp_path):
        pass


def test_any_stretch_of_the_order_has_all_attacks_and_data_sets() -> None:
    datasets, attacks = list("abcdefgh"), [*ATTACKS, CLEAN]
    keys = in_balanced_order(datasets, attacks, range(2))

    assert len(set(keys)) == len(keys) == 2 * 8 * 9
    assert keys == in_balanced_order(datasets, attacks, range(2))
    assert {key.attack for key in keys[:9]} == set(attacks)
    assert {key.dataset for key in keys[:9]} == set(datasets)
    counts = [sum(key.dataset == name for key in keys[:36]) for name in datasets]
    assert max(counts) - min(counts) <= 1


# --- what is counted ------------------------------------------------------------------------


def test_intervals_are_exact() -> None:
    assert Share(0, 200).interval == pytest.approx((0.0, 0.01827), abs=1e-4)
    assert Share(4, 200).interval == pytest.approx((0.00548, 0.05041), abs=1e-4)
    assert Share(3, 3).interval[1] == 1.0
    assert Share(0, 0).interval == (0.0, 1.0) and str(Share(0, 0)) == "-"
    assert Middle.of([1.0, 2.0, 9.0]).value == 2.0
    assert Middle.of([2.0] * 9).interval == (2.0, 2.0)


def test_a_promoted_model_that_obeys_counts_as_poisoned_and_a_refused_one_does_not() -> None:
    obeys = {"success": 0.22}  # 0.11 is natural
    before = result("flips", 0, week(0), week(1, **obeys), week(2), week(3))
    promoted = result("flips", 1, week(0), week(1), week(2, **obeys), week(3))
    refused = result(
        "flips", 2, week(0), week(1), week(2, promoted=False, verdict="REJECT", **obeys), week(3)
    )

    found = Figures.of([before, promoted, refused]).poisoned(PIPELINE)
    assert (found.k, found.n) == (1, 3)


def test_a_model_that_obeys_without_having_learned_it_is_told_apart() -> None:
    noise = result("flips", 0, week(2, success=0.4, n_poison_trained=0), start=0)
    taught = result("flips", 1, week(2, success=0.4, n_poison_trained=1), start=0)
    clean = result("flips", 2, week(2, n_poison_trained=3), start=0)

    later = result("flips", 3, *noise.weeks, week(3, n_poison_trained=3), start=0)

    found = Figures.of([noise, taught, clean, later])
    assert found.poisoned(PIPELINE).k == 3
    assert (found.poisoned_by_chance().k, found.poisoned_by_chance().n) == (2, 3)


def test_what_private_noise_alone_does_to_the_figure_is_counted_beside_it() -> None:
    """Each clean model against the mean of the others, as each promoted one against their mean."""
    noisy = result(seed=1, clean_success=[0.1, 0.1, 0.1, 0.5])
    obeys = result("flips", 2, week(0), week(1), week(2, success=0.9), week(3, promoted=False))
    found = Figures.of([noisy, obeys, result("flips", 3, clean_success=[0.4]), result(CLEAN, 4)])

    control, promoted = found.clean_models_poisoned(), found.models_poisoned()
    assert (control.k, control.n) == (1, 4 + 2)
    assert (promoted.k, promoted.n) == (1, 2 + 1 + 2)


def test_a_peer_is_held_against_a_clean_model_of_its_kind() -> None:
    figures = Figures.of([result()])

    assert figures.poisoned("no_defence").k == 1
    assert figures.poisoned("dp_alone").k == 0
    assert figures.accuracy_lost("no_defence").value == pytest.approx(0.01)
    assert figures.accuracy_lost(PIPELINE).value == pytest.approx(0.02)
    assert figures.success("no_defence").value == pytest.approx(0.85)


def test_an_attack_is_noticed_when_a_week_is_refused_or_most_of_it_is_kept_out() -> None:
    kept_out = [week(0), week(1), week(2), week(3, n_poison=40, n_poison_trained=20)]
    refused = [week(0), week(1, promoted=False), week(2, promoted=False), week(3)]

    assert first_seen(result()) is None
    assert first_seen(result("flips", 0, *kept_out)) == 2
    assert first_seen(result("flips", 0, *refused)) == 1
    assert first_seen(result("flips", 0, week(0), week(1), week(2, saved=True), week(3))) == 1


def test_a_run_ends_clean_only_when_something_clean_was_promoted_since() -> None:
    def held(number: int, **changes: Any) -> WeekResult:
        return week(number, promoted=False, verdict="HOLD", **changes)

    assert ends_clean(result())
    assert not ends_clean(result("flips", 0, week(0), week(1), held(2), held(3)))
    assert not ends_clean(result("flips", 0, week(0), week(1), week(2), week(3, success=0.17)))
    assert ends_clean(result("flips", 0, week(0), week(1), week(2, success=0.9), week(3)))


def test_clean_weeks_are_those_before_anything_is_poisoned() -> None:
    runs = [
        result("flips", 0, week(0), week(1, promoted=False), week(2, promoted=False), week(3)),
        result(CLEAN, 0, *(week(n, clean=True, n_poison=0) for n in range(4))),
    ]
    figures = Figures.of(runs)

    assert (figures.clean_refused().k, figures.clean_refused().n) == (1, 6)
    assert (figures.refused_saved().k, figures.refused_saved().n) == (0, 2)
    assert len(figures.attacked) == 1
    assert figures.clean_rows_lost(clean=True).value == pytest.approx(0.01)


def test_judging_is_held_against_training_without_the_trainers_start() -> None:
    purged = {"purge 1": 1.0, "validation 2": 1.0, "training 2": 4.0}
    again = week(1, saved=True, training_seconds=[2.0, 1.0])
    again.seconds |= purged
    figures = Figures.of([result(CLEAN, 0, week(0), again)])

    assert figures.judging_per_training().value == pytest.approx(2.0)
    assert figures.judging_per_training(whole=True).value == pytest.approx((1 + 6 / 8) / 2)


# --- the command ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "make bench-weeks DATA_DIR=<folder>"),
        (["--data", "x"], "--out <folder>"),
        (["--data", "x", "--out", "OUT"], "holds no INDEX.json"),
        (["--data", "x", "--out", "OUT", "--datasets", "y"], "holds no INDEX.json"),
    ],
)
def test_one_line_says_what_is_missing(arguments: list[str], says: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path / one) if one in ("x", "OUT") else one for one in arguments]
    with pytest.raises(SystemExit, match=says) as stopped:
        main(arguments)

    assert "\n" not in str(stopped.value)


def test_the_table_stands_between_the_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "INDEX.json").write_text(json.dumps({"datasets": []}))
    docs, out = tmp_path / "gate.md", tmp_path / "out"
    docs.write_text(f"# Before\n\n{BEGIN}\nan old table\n{END}\n\nAfter.\n")
    for seed in range(3):
        out.mkdir(exist_ok=True)
        add_run(out, result(seed=seed))
    arguments = ["--data", str(tmp_path), "--out", str(out), "--seeds", "0", "--table"]
    main([*arguments, "--docs", str(docs)])

    text = docs.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n") and text.endswith(f"{END}\n\nAfter.\n")
    assert "an old table" not in text and "3 attack runs" in text
    assert "| clean weeks refused | ≤ 3% | 0 of 6: 0.0% (0.0 to 45.9) |" in text
    assert "| no defence | 3 of 3: 100.0% (29.2 to 100.0) |" in text

    docs.write_text("no markers")
    with pytest.raises(SystemExit, match="needs one line"):
        main([*arguments, "--docs", str(docs)])


def test_the_docs_have_the_markers() -> None:
    text = DOCS.read_text(encoding="utf-8")

    assert text.count(BEGIN) == text.count(END) == 1


def test_tables_of_no_run_and_of_all_can_be_drawn() -> None:
    assert shown([]) is not None
    assert "| flips | 1 |" in markdown([result()])


# --- the real thing, small ------------------------------------------------------------------

SMALL = Plan(
    sizes=Sizes(week=120, reference=80, holdout=120, probes=50, stock=30),
    lead=(1, 1),
    lasts=(1, 1),
    after=0,
    clean_weeks=1,
    n_clean_models=1,
)


def test_the_same_run_is_the_same_season() -> None:
    data = load("breast_cancer", None)
    one, two = (prepare(RunKey("breast_cancer", "duplicates", 4), data, SMALL) for _ in range(2))

    assert one.poison == two.poison
    assert one.season.delivered(2).equals(two.season.delivered(2))


@pytest.mark.slow
@pytest.mark.trainer
@pytest.mark.parametrize("attack", [CLEAN, "duplicates"])
def test_a_small_run_goes_through_the_real_steps_and_the_real_trainer(
    attack: str, tmp_path: Path
) -> None:
    if not SMALL.trainer.exists():
        pytest.skip("no trainer here: make setup")
    found = run_attack(
        RunKey("breast_cancer", attack, 0), load("breast_cancer", None), SMALL, tmp_path
    )

    assert RunResult.from_line(found.to_line()).to_line() == found.to_line()
    assert [one.week for one in found.weeks] == list(range(found.n_weeks))
    for one in found.weeks:
        assert {"pin", "screening", "gate"} <= set(one.seconds)
        assert one.verdict in ("PROMOTE", "HOLD", "REJECT")
        assert 0 <= one.n_clean_kept <= one.n_clean == 120
        assert len(one.training_seconds) >= ("training" in one.seconds and one.promoted)
    assert len(found.clean_accuracy) == 1
    if attack == CLEAN:
        assert found.n_poison == 0 and found.clean_success == []
        assert "dp_alone" not in found.peers
    else:
        assert found.weeks[-1].n_poison == found.n_poison > 0
        assert len(found.peers["no_defence"].success) == 1
        assert set(found.peers) == {"no_defence", "dp_alone", "isolation_forest", "accuracy_gate"}
