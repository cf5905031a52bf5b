"""Promises of the split holdout: what tunes never judges, this week, next week, after a refresh."""

import pytest

from retraining.validation.halves import split_holdout
from tests.retraining.small_pipeline import small_rows


def test_each_row_is_in_one_half_and_both_are_about_as_large() -> None:
    rows = small_rows(1000)
    halves = split_holdout(rows, row_id="row_id")
    tuning, judging = set(halves.tuning["row_id"]), set(halves.judging["row_id"])
    assert tuning | judging == set(rows["row_id"])
    assert not tuning & judging
    assert 440 < len(tuning) < 560  # four standard deviations of a fair coin


def test_a_row_stays_in_its_half_whatever_the_holdout_around_it() -> None:
    rows = small_rows(400)
    before = split_holdout(rows, row_id="row_id")
    refreshed = rows.sample(frac=0.5, random_state=1)
    after = split_holdout(refreshed, row_id="row_id")
    assert len(after.tuning) and len(after.judging)
    assert set(after.tuning["row_id"]) <= set(before.tuning["row_id"])
    assert set(after.judging["row_id"]) <= set(before.judging["row_id"])


def test_the_half_follows_from_the_id_and_not_from_values_or_labels() -> None:
    rows = small_rows(400)
    changed = rows.assign(label="ham", size=0.0)
    halves = split_holdout(rows, row_id="row_id"), split_holdout(changed, row_id="row_id")
    assert list(halves[0].judging["row_id"]) == list(halves[1].judging["row_id"])


@pytest.mark.parametrize("as_text", [int, str])
def test_the_split_is_the_one_that_sha256sum_gives(as_text: type) -> None:
    """`printf 'half of the holdout\\0%s' 2 | sha256sum`: an odd first byte judges."""
    rows = small_rows(20).assign(row_id=[as_text(number) for number in range(20)])
    judging = split_holdout(rows, row_id="row_id").judging["row_id"]
    assert [int(name) for name in judging] == [1, 2, 8, 9, 10, 17]


def test_no_rows_make_two_empty_halves() -> None:
    halves = split_holdout(small_rows(0), row_id="row_id")
    assert (len(halves.tuning), len(halves.judging)) == (0, 0)
