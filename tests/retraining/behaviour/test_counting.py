"""The exact test that p-values of transplants come from."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from retraining.records import NULL_LEVELS
from retraining.validation.behaviour.counting import Count, strata_of
from retraining.validation.behaviour.nulls import corrected


def _rows(*counts):
    """Rows of one stratum, from how many are asked and count, asked only, count only, neither."""
    asked = np.repeat([True, True, False, False], counts)
    counted = np.repeat([True, False, True, False], counts)
    return counted, asked


def test_one_stratum_is_fishers_exact_test():
    counted, asked = _rows(9, 31, 2, 58)

    count = Count.of(counted, asked, ~asked, np.zeros(100, dtype=np.int64))

    expected = fisher_exact([[9, 31], [2, 58]], alternative="greater").pvalue
    assert count.p_value == pytest.approx(expected)


def test_many_strata_are_what_shuffling_inside_each_gives():
    random = np.random.RandomState(0)
    strata = np.repeat([0, 1, 2], [40, 30, 50])
    asked = random.rand(120) < np.array([0.2, 0.5, 0.7])[strata]
    counted = random.rand(120) < np.array([0.1, 0.3, 0.2])[strata] + 0.2 * asked

    count = Count.of(counted, asked, ~asked, strata)

    shuffled = asked.copy()
    as_many = 0
    for _ in range(4000):
        for stratum in range(3):
            rows = np.flatnonzero(strata == stratum)
            shuffled[rows] = asked[random.permutation(rows)]
        as_many += (counted & shuffled).sum() >= count.found
    assert count.p_value == pytest.approx(as_many / 4000, abs=0.02)
    assert count.chances.sum() == pytest.approx(1)


def test_a_source_of_harder_rows_is_held_against_rows_as_hard():
    # Hard rows turn hosts one time in four whoever delivers them; the source has most of them.
    strata = np.repeat([0, 1], [400, 600])
    random = np.random.RandomState(1)
    asked = random.rand(1000) < np.array([0.6, 0.1])[strata]
    counted = (strata == 0) & (np.arange(1000) % 4 == 0)

    crude = Count.of(counted, asked, ~asked, np.zeros(1000, dtype=np.int64))
    fair = Count.of(counted, asked, ~asked, strata)

    assert crude.p_value < 1e-6
    assert fair.p_value > 0.05


def test_rows_that_nobody_is_held_against_do_not_matter():
    counted, asked = _rows(9, 31, 2, 58)
    aside = np.ones(50, dtype=bool)
    strata = np.zeros(150, dtype=np.int64)

    count = Count.of(
        np.append(counted, aside), np.append(asked, ~aside), np.append(~asked, ~aside), strata
    )

    alone = Count.of(counted, asked, ~asked, strata[:100])
    assert count.p_value == alone.p_value


def test_nothing_found_is_no_evidence_and_the_null_is_in_order():
    counted, asked = _rows(0, 40, 5, 55)

    count = Count.of(counted, asked, ~asked, np.zeros(100, dtype=np.int64))

    assert count.p_value == 1.0
    assert len(count.quantiles) == len(NULL_LEVELS)
    assert list(count.quantiles) == sorted(count.quantiles)


def test_strata_hold_one_label_each_and_order_it_by_likelihood():
    random = np.random.RandomState(2)
    labels = random.randint(2, size=3000)
    likelihood = random.randn(3000)

    strata = strata_of(labels, likelihood)

    for stratum in np.unique(strata):
        assert len(np.unique(labels[strata == stratum])) == 1
    for label in (0, 1):
        mine = labels == label
        order = np.argsort(likelihood[mine])
        assert (np.diff(strata[mine][order]) >= 0).all()
        assert len(np.unique(strata[mine])) == 5


def test_the_oddest_of_several_looks_is_corrected_for_their_number():
    assert corrected(0.0123456789, 4) == 0.04938
    assert corrected(0.5, 4) == 1.0
