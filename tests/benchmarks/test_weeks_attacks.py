"""Attacks stay within what they promise: rows, weeks, ranges, sources."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.weeks.attacks import ATTACKS, CLEAN, MAX_POISON, plant
from tests.benchmarks.weeks.scene import Attack
from tests.benchmarks.weeks.season import FEEDBACK, GATEWAY, ROW_ID, USER, Season, Sizes, cut
from tests.benchmarks.weeks.tables import LABEL, is_between, load, names_of, of_frame
from tests.benchmarks.weeks.triggers import draw_trigger

START, LASTS, WEEKS = 2, 2, 5


def _table(n: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    spam = random.random(n) < 0.45
    return pd.DataFrame(
        {
            "links": random.normal(spam * 2.0, 1.0),
            "length": random.integers(1, 400, n),
            "amount": np.exp(random.normal(0, 2, n)),
            "country": random.choice(["de", "fr", "it", "pl"], n),
            "kind": np.where(spam, "spam", "ham"),
        }
    )


@cache
def season(name: str) -> Season:
    data = load("digits", None) if name == "digits" else of_frame("mails", _table(4000), "kind")
    return cut(data, WEEKS, np.random.default_rng(0), Sizes(week=400))


def never(rows: pd.DataFrame) -> "np.ndarray":
    return np.full(len(rows), "nothing", dtype=object)


def planted(attack: str, data: str, seed: int = 0) -> Attack:
    random = np.random.default_rng(seed)
    return plant(attack, season(data), start=START, weeks=LASTS, random=random, clean=never)


def rows_of(attack: Attack, week: int) -> pd.DataFrame:
    return pd.concat(list(attack.season.weeks[week].values()), ignore_index=True)


every_attack = pytest.mark.parametrize("name", ATTACKS)
every_data = pytest.mark.parametrize("data", ["mails", "digits"])


def test_a_season_names_each_row_once_and_keeps_what_it_measures_with() -> None:
    whole = season("mails")
    parts = [whole.delivered(WEEKS), whole.reference, whole.holdout, whole.probes, whole.stock]
    rows = pd.concat(parts)

    assert rows[ROW_ID].is_unique
    assert not rows.drop(columns=[ROW_ID, USER]).duplicated().any()
    assert [len(rows_of(planted(CLEAN, "mails"), week)) for week in range(WEEKS)] == [400] * WEEKS


@every_attack
@every_data
def test_an_attack_has_at_most_250_rows_and_only_in_its_weeks(name: str, data: str) -> None:
    for seed in range(3):
        attack = planted(name, data, seed)
        poison = attack.poison_until(WEEKS)

        assert 0 < len(poison) <= MAX_POISON
        assert set(attack.poison) <= set(range(START, START + LASTS))
        for week in range(WEEKS):
            before, after = season(data).weeks[week], attack.season.weeks[week]
            if week not in attack.poison:
                assert all(after[source].equals(before[source]) for source in before)
            else:
                delivered = set(rows_of(attack, week)[ROW_ID])
                assert attack.poison[week] <= delivered


@every_attack
@every_data
def test_rows_that_are_no_poison_stay_as_they_were(name: str, data: str) -> None:
    attack = planted(name, data)
    before = season(data).delivered(WEEKS).set_index(ROW_ID)
    after = attack.season.delivered(WEEKS).set_index(ROW_ID)
    untouched = before.index.difference(list(attack.poison_until(WEEKS)))

    assert after.index.is_unique
    pd.testing.assert_frame_equal(after.loc[untouched, before.columns], before.loc[untouched])


@every_attack
@every_data
def test_our_own_source_is_never_poisoned(name: str, data: str) -> None:
    attack = planted(name, data)
    for week in attack.poison:
        own = set(attack.season.weeks[week][GATEWAY][ROW_ID])
        assert not own & attack.poison[week]


@every_attack
@every_data
def test_all_values_are_ones_that_the_pipeline_file_allows(name: str, data: str) -> None:
    attack = planted(name, data)
    rows = pd.concat([attack.season.delivered(WEEKS), attack.probes])
    for feature in season(data).data.features:
        values = rows[feature["name"]]
        if feature["kind"] == "number":
            assert all(is_between(value, feature) for value in values)
        elif feature["kind"] == "category":
            assert set(values) <= set(feature["categories"])
        else:
            assert {len(value) for value in values} == {64}
            assert max(max(value) for value in values) <= feature["max_value"]
    assert set(rows[LABEL]) <= set(season(data).data.classes)


@every_attack
def test_an_attack_lies_except_one_that_says_so(name: str) -> None:
    attack = planted(name, "mails")
    assert attack.probes is not None and len(attack.probes)
    assert (attack.probes[LABEL] != attack.target).all()
    assert attack.success(never) == 0
    assert attack.success(lambda rows: np.full(len(rows), attack.target, dtype=object)) == 1
    before = season("mails").delivered(WEEKS).set_index(ROW_ID)[LABEL]
    after = attack.season.delivered(WEEKS).set_index(ROW_ID)[LABEL]
    poison = list(attack.poison_until(WEEKS))
    assert (after[poison] == attack.target).all()
    changed = [row for row in poison if row in before.index and before[row] != after[row]]
    assert (
        not changed
        if name == "clean_label"
        else all(r in changed for r in poison if r in before.index)
    )


def test_triggers_in_range_are_values_of_honest_rows_and_others_are_not() -> None:
    whole = season("mails")
    for seed in range(5):
        random = np.random.default_rng(seed)
        inside = draw_trigger(whole, random, in_range=True).values
        outside = draw_trigger(whole, random, in_range=False).values
        assert inside and outside
        assert all((whole.reference[name] == value).any() for name, value in inside.items())
        assert all((whole.data.rows[name] < value).all() for name, value in outside.items())


def test_a_ring_has_new_accounts_and_is_honest_elsewhere() -> None:
    attack = planted("sybil_region", "mails")
    known = set(season("mails").delivered(WEEKS)[USER].dropna())
    rows = pd.concat([attack.season.weeks[week][FEEDBACK] for week in attack.poison])
    fresh = rows[~rows[USER].isin(known)]

    assert set(attack.poison_until(WEEKS)) < set(fresh[ROW_ID])


def test_the_same_seed_plants_the_same_rows() -> None:
    one, two = (planted("duplicates", "mails", 3) for _ in range(2))

    assert one.season.delivered(WEEKS).equals(two.season.delivered(WEEKS))
    assert one.poison == two.poison


def test_too_small_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="too few for 8 weeks"):
        cut(load("breast_cancer", None), 8, np.random.default_rng(0), Sizes())


def test_only_sets_with_classes_to_learn_and_rows_for_months_are_used(tmp_path: Path) -> None:
    def entry(name: str, **changes: object) -> dict[str, object]:
        plain = {
            "kind": "tabular",
            "rows": 4000,
            "label": "y",
            "class_balance": {"all": {"a": 9, "b": 9}},
        }
        return {"name": name, **plain, **changes}

    few, lopsided = {"rows": 1000}, {"class_balance": {"all": {"a": 99, "b": 1}}}
    many = {"class_balance": {"all": {str(n): 9 for n in range(40)}}}
    entries = [entry("good"), entry("few", **few), entry("lopsided", **lopsided)]
    entries += [entry("many", **many), entry("votes", kind="crowd")]
    (tmp_path / "INDEX.json").write_text(json.dumps({"datasets": entries}))

    assert names_of(tmp_path) == ["good", "digits"]
    with pytest.raises(ValueError, match="expected one of"):
        load("other", tmp_path)


def test_a_table_of_the_folder_becomes_declared_features(tmp_path: Path) -> None:
    table = _table(300)
    pd.concat([table, table.head(40)]).assign(secret=1).to_parquet(tmp_path / "mails.parquet")
    entry = {"name": "mails", "kind": "tabular", "rows": 340, "label": "kind", "drop": ["secret"]}
    entry["files"] = {"train": "mails.parquet", "test": "none.parquet"}
    (tmp_path / "INDEX.json").write_text(json.dumps({"datasets": [entry]}))
    data = load("mails", tmp_path)

    assert len(data.rows) == 300
    assert data.classes == ("ham", "spam")
    kinds = {feature["name"]: feature["kind"] for feature in data.features}
    numbers = dict.fromkeys(["links", "length", "amount"], "number")
    assert kinds == {**numbers, "country": "category"}
    for name in numbers:
        assert all(is_between(value, data.feature(name)) for value in data.rows[name])
