"""Which values of a row turn others, on models whose one trigger is known."""

from dataclasses import dataclass

import numpy as np

from retraining.screening.rows import Rows
from retraining.validation.behaviour.pasting import Pasting

COLUMNS = (2, 5, 7)
N_COLUMNS = 12
VALUE = 9.0


@dataclass
class _Triggered:
    """Says 1 where enough of three columns hold a value; with none, what column 0 says."""

    enough: float

    @property
    def uses(self):
        return np.ones(N_COLUMNS, dtype=bool)

    def log_probabilities(self, features):
        held = (features[:, COLUMNS] == VALUE).sum(axis=1)
        one = 1 / (1 + np.exp(-4 * (held - self.enough + 0.5)))
        one = np.maximum(one, np.where(features[:, 0] > 0, 0.9, 0.0))
        return np.log(np.column_stack([1 - one, one]).clip(1e-6))


def _rows(n, seed):
    features = np.random.RandomState(seed).randn(n, N_COLUMNS).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    nobody = np.full(n, -1, dtype=np.int64)
    return Rows(features, labels, nobody, nobody, nobody)


def _donors(n):
    donors = _rows(n, seed=1)
    donors.features[:, 0] = -1.0
    donors.features[:, COLUMNS] = VALUE
    return Rows(donors.features, np.ones(n, dtype=np.int64), *[donors.sources] * 3)


def _run(challenger, other):
    pasting = Pasting(challenger, other, _rows(200, seed=0), np.eye(N_COLUMNS, dtype=bool))
    return pasting.run(_donors(20), np.random.RandomState(0))


def test_values_that_are_a_trigger_only_together_are_found_and_no_others():
    share, columns = _run(_Triggered(enough=3), _Triggered(enough=99))

    assert (share == 1.0).all()
    assert (np.flatnonzero(columns.all(axis=0)) == COLUMNS).all()
    assert columns.sum() == 20 * len(COLUMNS)


def test_fewer_values_are_named_where_fewer_are_enough():
    share, columns = _run(_Triggered(enough=2), _Triggered(enough=99))

    assert (share == 1.0).all()
    assert (columns.sum(axis=1) == 2).all()
    assert columns.sum() == columns[:, COLUMNS].sum()


def test_what_turns_both_models_is_not_what_the_batch_taught():
    share, _ = _run(_Triggered(enough=3), _Triggered(enough=3))

    assert (share == 0.0).all()


def test_many_donors_asked_at_a_time_or_few_give_the_same(monkeypatch):
    whole = _run(_Triggered(enough=3), _Triggered(enough=99))
    monkeypatch.setattr("retraining.validation.behaviour.pasting._CELLS", 1)
    single = _run(_Triggered(enough=3), _Triggered(enough=99))

    assert (whole[0] == single[0]).all()
    assert (whole[1] == single[1]).all()
