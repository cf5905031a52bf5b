"""A purge takes the trigger's rows, not only those that share a donor's own values as well."""

import numpy as np
import pytest

from retraining.screening.rows import Rows
from retraining.validation.behaviour.widening import widened

TRIGGER, LABEL = 5.0, 1


def rows(features: "np.ndarray", labels: "np.ndarray") -> Rows:
    nobody = np.full(len(labels), -1)
    return Rows(features.astype(np.float32), labels, nobody, nobody, nobody)


def honest(n: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    return rows(random.normal(size=(n, 4)), random.integers(2, size=n))


def with_trigger(learned: Rows, n: int, label: int = LABEL) -> Rows:
    """Columns 0 and 1 of the first n rows hold the trigger; column 2 stays each row's own."""
    features, labels = learned.features.copy(), learned.labels.copy()
    features[:n, :2], labels[:n] = TRIGGER, label
    return rows(features, labels)


def kept(learned: Rows, columns: list[int], trusted: Rows, donor: int = 0) -> list[int]:
    chosen = np.array(columns)
    values, near = learned.features[donor, chosen], np.full(len(chosen), 0.05)
    return widened(chosen, values, near, LABEL, learned, trusted).tolist()


def test_a_donors_own_value_goes_and_the_trigger_stays() -> None:
    learned, trusted = with_trigger(honest(2000, 0), 37), honest(900, 1)

    assert kept(learned, [0, 1, 2], trusted) == [0, 1]


def test_a_trigger_alone_stays_whole() -> None:
    assert kept(with_trigger(honest(2000, 0), 37), [0, 1], honest(900, 1)) == [0, 1]


def test_values_that_honest_rows_have_are_never_widened_to() -> None:
    learned = with_trigger(honest(2000, 0), 37)
    trusted = honest(900, 1)
    usual = rows(np.where([True, True, False, False], TRIGGER, trusted.features), trusted.labels)

    assert kept(learned, [0, 1, 2], usual) == [0, 1, 2]


@pytest.mark.parametrize("n_poison", [0, 3])
def test_too_few_rows_to_be_sure_change_nothing(n_poison: int) -> None:
    learned = with_trigger(honest(2000, 0), n_poison)

    assert kept(learned, [0, 1, 2], honest(900, 1)) == [0, 1, 2]


def test_rows_of_another_class_do_not_count() -> None:
    learned = with_trigger(honest(2000, 0), 37, label=0)

    assert kept(learned, [0, 1, 2], honest(900, 1)) == [0, 1, 2]


def test_without_trusted_rows_or_with_a_patch_nothing_is_asked() -> None:
    learned = with_trigger(honest(2000, 0), 37)
    many = list(range(4)) * 3

    assert kept(learned, [0, 1, 2], honest(0, 1)) == [0, 1, 2]
    assert kept(learned, many, honest(900, 1)) == many
