"""Promises about neighbours: who is like whom."""

import numpy as np

from retraining.screening.neighbours import N_NEIGHBOURS, Neighbours
from retraining.screening.rows import Columns, Rows

_RANDOM = np.random.RandomState(0)


def _rows(features, labels=0):
    n = len(features)
    nobody = np.full(n, -1)
    labels = np.broadcast_to(np.asarray(labels, dtype=np.int64), n)
    return Rows(features.astype(np.float32), labels, nobody, nobody, nobody)


def _found(pool, columns):
    names = [f"f{number}" for number in range(columns)]
    index = Neighbours(pool, len(pool) // 2, Columns.of_table(names))
    return index.of(pool, np.arange(len(pool)))


def test_copies_that_differ_in_one_value_are_each_others_neighbours():
    features = _RANDOM.choice(5, p=[0.6, 0.2, 0.1, 0.07, 0.03], size=(400, 14))
    copies = np.arange(N_NEIGHBOURS + 1)
    features[copies] = features[0]
    features[copies, copies] = 4  # which is far from most
    near = _found(_rows(features), 14)
    assert np.isin(near[copies], copies).mean() >= 0.95


def test_neighbours_carry_the_same_label_and_no_row_is_its_own():
    features, labels = _RANDOM.normal(size=(200, 5)), np.arange(200) % 3
    near = _found(_rows(features, labels), 5)
    assert (labels[near] == labels[:, None]).all()
    assert (near != np.arange(200)[:, None]).all()


def test_a_class_with_hardly_a_row_has_no_neighbours():
    labels = np.where(np.arange(60) < N_NEIGHBOURS, 1, 0)
    near = _found(_rows(_RANDOM.normal(size=(60, 5)), labels), 5)
    assert (near[labels == 1] == -1).all()
    assert (near[labels == 0] >= 0).all()


def test_what_a_column_is_measured_in_changes_nothing():
    features = _RANDOM.normal(size=(150, 4))
    other = np.exp(features) * [1, 1000, 0.01, 7]
    assert (_found(_rows(features), 4) == _found(_rows(other), 4)).mean() > 0.99
