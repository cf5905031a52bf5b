"""Promises about pockets: whose company speaks against a row, and whose does not."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from retraining.screening.judge import Answers
from retraining.screening.pockets import (
    STRIKING,
    Tally,
    honest_share,
    lies_nearby,
    usual_share,
)
from retraining.screening.rows import Rows
from tests.retraining.screening_engine.real_rows import HAM, SPAM, mails, relabelled

_NOTHING_USUAL = np.full(2, STRIKING)


def _company(users, sources, labels, striking, usual=_NOTHING_USUAL, like=0.0):
    """By row, all of them odd; a striking one has a p-value as few trusted rows do."""
    n = len(striking)
    users, sources, labels = (np.broadcast_to(np.array(x), n) for x in (users, sources, labels))
    nothing = np.zeros((n, 1))
    tally = Tally(n_classes=2)
    tally.add(Rows(nothing.astype(np.float32), labels, sources, np.full(n, -1), users))
    odd = Answers(
        places=np.arange(n),
        scores=nothing,
        evidence=np.zeros(n),
        near=np.zeros((n, 1), dtype=np.int64),
        labels=labels,
        sources=sources,
        users=users,
        order=np.zeros(n, dtype=np.float32),
    )
    p_values = np.where(striking, STRIKING, 0.5)
    return tally.company(odd, p_values, like=np.full(n, like), usual=np.asarray(usual))


def _some(n, n_striking):
    return np.arange(n) < n_striking


def _of_one_user(n, n_striking, **other):
    """Of the rows of one user; three others send twenty rows each, one of them striking."""
    users = np.concatenate([np.zeros(n, dtype=np.int64), np.repeat([1, 2, 3], 20)])
    honest = np.tile(_some(20, 1), 3)
    found = _company(users, -1, 0, np.concatenate([_some(n, n_striking), honest]), **other)
    assert other or (found[n:] == 1).all()
    return found[:n]


def test_all_rows_of_a_user_who_sends_many_odd_ones_need_less_evidence():
    assert (_of_one_user(20, 10) < 0.2).all()


def test_the_more_of_a_users_rows_are_odd_the_less_evidence_the_others_need():
    least = [_of_one_user(30, n).min() for n in range(0, 31, 3)]
    assert least == sorted(least, reverse=True)
    assert least[0] == 1
    assert 0 < least[-1] < 0.03


@pytest.mark.parametrize(("n", "n_striking"), [(1, 1), (20, 1), (20, 3)])
def test_few_odd_rows_are_no_pocket(n, n_striking):
    assert (_of_one_user(n, n_striking) == 1).all()


def test_where_every_user_sends_as_many_odd_rows_none_is_a_pocket():
    users = np.repeat(np.arange(10), 20)
    assert (_company(users, -1, 0, np.arange(200) % 4 == 0) == 1).all()


def test_rows_of_nobody_known_have_no_company():
    assert (_company(-1, -1, 0, _some(40, 30)) == 1).all()


def test_a_row_is_no_company_to_itself():
    # Just enough to be a pocket: seen from a striking row one less is left.
    found = _of_one_user(20, 6)
    assert (found[:6] > found[6:].max()).all()


def test_a_class_that_is_odd_in_one_source_alone_needs_less_evidence_there():
    sources = np.repeat([0, 1, 2], 100)
    labels = np.tile([0, 1], 150)
    striking = (sources == 1) & (labels == 1) & (np.arange(300) % 4 == 1)
    found = _company(-1, sources, labels, striking)
    pocket = (sources == 1) & (labels == 1)
    assert (found[pocket] < 0.3).all()
    assert (found[~pocket] == 1).all()


def test_a_class_that_is_as_odd_in_every_source_is_no_pocket():
    sources = np.repeat([0, 1, 2], 100)
    assert (_company(-1, sources, 0, np.arange(300) % 3 == 0) == 1).all()


def test_a_class_whose_trusted_rows_are_as_odd_is_no_pocket():
    sources = np.repeat([0, 1, 2], 100)
    striking = (sources == 1) & (np.arange(300) % 3 == 0)
    assert (_company(-1, sources, 0, striking) < 1).any()
    assert (_company(-1, sources, 0, striking, usual=[0.4, 0.05]) == 1).all()


def _nearby(n_batch, n_trusted, *, of_batch=50, of_trusted=50):
    """Of one row with so many neighbours of either kind; pools of one class."""
    near = [*range(n_batch), *range(of_batch, of_batch + n_trusted)]
    near += [-1] * (10 - len(near))
    pool = np.zeros(of_batch + of_trusted, dtype=np.int64)
    return lies_nearby(np.array([near]), np.zeros(1, dtype=np.int64), pool, of_batch)[0]


def test_rows_that_lie_among_more_of_the_batch_than_trusted_rows_explain_need_less_evidence():
    assert _nearby(10, 0) > 0.1
    assert _nearby(10, 0) > _nearby(9, 1)
    assert _nearby(7, 3) <= 0
    assert _nearby(2, 8) <= 0


def test_the_worst_company_of_a_row_counts():
    alone = _of_one_user(20, 10)
    assert (_of_one_user(20, 10, like=0.8) < alone).all()
    assert (_of_one_user(20, 10, like=0.06) == alone).all()
    assert (_company(-1, -1, 0, _some(20, 0), like=-0.5) == 1).all()


def test_few_trusted_rows_cannot_say_that_a_place_is_crowded():
    assert _nearby(10, 0, of_batch=950) <= 0.05
    assert _nearby(0, 0) == 0


def test_a_class_that_few_trusted_rows_speak_of_may_be_odder_than_they_say():
    p_values, labels = np.full(40, 0.04), np.repeat([0, 1], [4, 36])
    p_values[1::2] = 0.9
    few, many = usual_share(p_values, labels, 2)
    assert 0.3 < many < 0.5  # half of 36 were, and 20 are given in advance
    assert STRIKING < few < many
    nobody = usual_share(np.ones(5), np.zeros(5, dtype=np.int64), 2)
    assert (nobody >= STRIKING).all()


@pytest.mark.slow
def test_more_of_a_ring_is_held_when_its_users_are_known():
    week = mails(1)
    rows = week.batch
    hams = np.flatnonzero(rows.labels == HAM)
    near = NearestNeighbors(n_neighbors=len(rows) // 12).fit(np.log1p(rows.features[hams]))
    of_ring = hams[near.kneighbors(np.log1p(rows.features[hams[[20]]]), return_distance=False)[0]]
    lies = of_ring[::2]  # they hide behind as many truthful rows
    told = relabelled(rows, lies, SPAM)
    users = np.arange(len(rows)) // 25
    users[of_ring] = users.max() + 1 + np.arange(len(of_ring)) % 6
    alone = week.judged(replace(told, users=np.full(len(rows), -1)))
    known = week.judged(replace(told, users=users))
    held = [np.isin(lies, f.odd.places[f.held]).mean() for f in (alone, known)]
    assert held[1] > held[0] + 0.3
    rest = np.setdiff1d(np.arange(len(rows)), lies)
    assert np.isin(rest, known.odd.places[known.held]).mean() <= 0.02


def test_no_row_is_held_for_its_company_alone():
    assert honest_share(np.array([0.0, 0.5, 1.0])) == pytest.approx([1.0, 0.5, 0.1])
