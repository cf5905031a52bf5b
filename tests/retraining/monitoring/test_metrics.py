"""Metrics from labels and answers: the same numbers as at promotion, with intervals that hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retraining.monitoring.metrics import Confusion, Measured, measure
from retraining.validation.metrics import answers_of, weighted_metrics

ALL = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")


def measured(
    labels: np.ndarray, answers: np.ndarray, *, n_classes: int = 2, names: tuple[str, ...] = ALL
) -> dict[str, Measured]:
    confusion = Confusion.of(labels, answers, n_classes=n_classes, positive=1)
    return measure(confusion, names, min_rows=20, confidence=0.95)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(60, 400), st.floats(0.2, 0.8), st.floats(0, 1))
def test_the_numbers_are_those_of_validation(seed: int, n: int, spam: float, right: float) -> None:
    random = np.random.default_rng(seed)
    labels = (random.random(n) < spam).astype(np.int64)
    answers = np.where(random.random(n) < right, labels, 1 - labels)

    theirs = weighted_metrics(answers_of(labels, np.eye(2)[answers], positive=1), np.ones((1, n)))

    found = measured(labels, answers)
    for name in theirs.keys() & set(ALL):
        interval = found[name].interval
        if interval is not None:
            assert interval.value == pytest.approx(theirs[name][0], abs=1e-6)
            assert interval.low <= interval.value <= interval.high
    assert found["accuracy"].interval is not None


def test_with_more_classes_balanced_accuracy_is_the_mean_recall() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 5, 500)
    answers = np.where(random.random(500) < 0.7, labels, random.integers(0, 5, 500))

    found = measured(labels, answers, n_classes=5, names=("balanced_accuracy",))

    recalls = [(answers[labels == c] == c).mean() for c in range(5)]
    assert found["balanced_accuracy"].interval.value == pytest.approx(np.mean(recalls), abs=1e-6)


def test_few_rows_of_a_class_say_nothing_about_it() -> None:
    labels = np.array([0] * 200 + [1] * 9)

    found = measured(labels, np.zeros(209, dtype=np.int64))

    assert found["accuracy"].interval is not None
    assert found["recall"] == found["f1"] == Measured(None, 9)
    assert found["precision"] == Measured(None, 0)
    assert found["balanced_accuracy"] == Measured(None, 209)


def test_few_labels_say_nothing_at_all() -> None:
    labels = np.array([0, 1] * 9)

    assert all(value.interval is None for value in measured(labels, labels).values())


def test_no_labels_at_all_are_no_error() -> None:
    none = np.array([], dtype=np.int64)

    assert {name: value.n_rows for name, value in measured(none, none).items()} == dict.fromkeys(
        ALL, 0
    )


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "balanced_accuracy"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(name: str) -> None:
    random = np.random.default_rng(7)
    n, missed, tries = 200, 0, 300
    # Spam 30 %; 80 % of it is called so, and 10 % of the rest.
    truth = {
        "accuracy": 0.3 * 0.8 + 0.7 * 0.9,
        "precision": 0.24 / 0.31,
        "recall": 0.8,
        "f1": 2 * 0.24 / (0.3 + 0.31),
        "balanced_accuracy": 0.85,
    }
    for _ in range(tries):
        labels = (random.random(n) < 0.3).astype(np.int64)
        answers = (random.random(n) < np.where(labels == 1, 0.8, 0.1)).astype(np.int64)
        interval = measured(labels, answers, names=(name,))[name].interval
        missed += not interval.low <= truth[name] <= interval.high

    assert 0.01 <= missed / tries <= 0.09  # 0.05, and three standard errors of 300 tries
