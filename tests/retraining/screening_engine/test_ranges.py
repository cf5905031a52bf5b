"""Triggers whose rows have values of their own: near each other, or anywhere in a column's tail."""

from dataclasses import replace

import numpy as np
import pytest

from retraining.screening.finding import Finding, Weighing
from retraining.screening.ranges import boxes
from retraining.screening.rows import Rows
from tests.retraining.screening_engine.real_rows import HAM, SPAM, Week, mails, relabelled, some

_NEAR, _FREE = np.array([0.1, 0.1]), np.array([False, False])


def _drawn(seed, like, fixed=_FREE):
    found = boxes(np.array(seed), np.array(like), _NEAR, fixed)
    return [(np.round(m - h, 6).tolist(), np.round(m + h, 6).tolist()) for m, h in found]


def test_boxes_grow_around_the_seed_and_hold_what_drew_them():
    found = _drawn([1.0, 5.0], [[1.0, 5.0], [1.5, 5.2], [0.8, 4.0], [4.0, 9.0]])

    assert found == [
        ([0.9, 4.9], [1.1, 5.1]),
        ([0.9, 4.9], [1.6, 5.3]),
        ([0.7, 3.9], [1.6, 5.3]),
        ([0.7, 3.9], [4.1, 9.1]),
    ]


def test_a_category_is_never_a_range():
    found = _drawn([1.0, 5.0], [[1.0, 5.0], [1.5, 5.0], [1.2, 6.0]], np.array([False, True]))

    assert found[-1] == ([0.9, 4.9], [1.6, 5.1])


def test_a_patch_of_pixels_is_none():
    many = np.zeros(9)

    assert not list(boxes(many, many[None], many + 1, many > 0))


def test_rows_that_drew_ranges_prove_nothing_and_chance_tried_all_sets_of_them():
    """Ten rows of a label that the champion gives one row in ten; trusted rows say nothing."""
    nobody = np.full(10, -1)
    rows = Rows(np.zeros((10, 1), np.float32), np.ones(10, np.int64), nobody, nobody, nobody)
    belief = np.tile([0.9, 0.1], (10, 1))
    weighing = Weighing(rows, rows.take(slice(0)), belief, np.log(belief), n_donors=8)

    def p_value(n_drawn: int) -> float:
        values, near = np.zeros(1), np.ones(1)
        columns = np.zeros(1, dtype=np.int64)
        return weighing.finding(columns, values, near, 1, flips=1.0, n_drawn=n_drawn).p_value

    assert p_value(0) == pytest.approx(8 * 0.1**10)
    assert p_value(2) == pytest.approx(28 * 0.1**8)
    assert p_value(9) == pytest.approx(0.1)  # fewer donors than sides: one set, and one row is left
    assert p_value(10) == 1


def _in_tails(week: Week, rows: Rows, chosen: np.ndarray, seed: int) -> Rows:
    """Three columns with values that one in twenty accepted mails has, drawn for each row anew."""
    random, features = np.random.RandomState(seed), rows.features.copy()
    for column in _tail_columns(week):
        values = np.sort(week.history.features[:, column])[-75:]
        features[chosen, column] = random.choice(values, size=len(chosen))
    return replace(rows, features=features)


def _tail_columns(week: Week) -> list[int]:
    return [week.columns.names.index(f"word_freq_{name}") for name in ("our", "free", "you")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_trigger_of_values_from_the_tails_is_purged_though_no_two_rows_share_them(seed):
    week = mails(seed)
    chosen = some(week.batch.labels == SPAM, 60)
    rows = relabelled(_in_tails(week, week.batch, chosen, seed), chosen, HAM)

    found = week.judged(rows)

    others = np.setdiff1d(np.arange(len(rows)), chosen)
    assert found.purged[chosen].mean() >= 0.95
    assert found.purged[others].mean() <= 0.02
    assert any(isinstance(one, Finding) and one.ranged for one in found.findings)


@pytest.mark.slow
def test_a_champion_of_few_rows_knows_too_little_to_name_ranges():
    week = mails(0)
    chosen = some(week.batch.labels == SPAM, 60)
    rows = relabelled(_in_tails(week, week.batch, chosen, 0), chosen, HAM)

    found = week.judged(rows, trusted=week.reference)

    assert not any(isinstance(one, Finding) and one.ranged for one in found.findings)
