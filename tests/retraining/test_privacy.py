"""Epsilon: what is published, what must hold for any run, and what the ledger adds up."""

import logging
import subprocess
import sys

import dp_accounting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retraining.digests import Digest
from retraining.errors import ConfigError
from retraining.privacy import (
    MAX_NOISE_MULTIPLIER,
    MIN_NOISE_MULTIPLIER,
    calibrate_noise,
    epsilon_by_block,
    epsilon_spent,
    refuse_if_over,
)
from retraining.records import DpSgdRun, LedgerCharge
from tests.retraining.small_pipeline import small_spec

DELTA = 1e-5
JANUARY, FEBRUARY, MARCH = (Digest.of(name) for name in (b"january", b"february", b"march"))


def a_run(*, noise: float = 1.0, probability: float = 256 / 20_000, steps: int = 782) -> DpSgdRun:
    return DpSgdRun(
        noise_multiplier=noise,
        l2_clip_norm=1,
        sampling_probability=probability,
        steps=steps,
        n_rows=20_000,
        expected_batch_rows=256,
    )


def a_charge(*blocks: Digest, run: DpSgdRun | None = None) -> LedgerCharge:
    return LedgerCharge(
        model="small",
        sequence=1,
        previous=None,
        request=Digest.of(b"request"),
        attempt=1,
        blocks=blocks,
        run=run or a_run(),
        trust_list=Digest.of(b"trust list"),
        trust_version=1,
    )


RUNS = st.builds(
    a_run,
    noise=st.floats(0.6, 5),
    probability=st.floats(0.001, 1),
    steps=st.integers(1, 2000),
)


# --- one run --------------------------------------------------------------------------------


def test_epsilon_is_what_was_measured_for_ten_epochs_of_batches_of_256_in_20000_rows() -> None:
    assert epsilon_spent([a_run()], delta=DELTA) == pytest.approx(2.42, abs=0.005)


def test_full_batches_spend_what_the_gaussian_mechanism_spends() -> None:
    # Canonne, Kamath & Steinke 2020 (arXiv:2004.00010), proposition 12, for 100 full batches.
    orders = np.linspace(1.05, 60, 20_000)
    renyi = 100 * orders / (2 * 8.0**2)
    by_order = renyi + np.log1p(-1 / orders) - np.log(DELTA * orders) / (orders - 1)

    found = epsilon_spent([a_run(noise=8.0, probability=1, steps=100)], delta=DELTA)

    assert found == pytest.approx(by_order.min(), rel=1e-3)


def test_another_accountant_finds_a_little_less_never_more() -> None:
    run = a_run(noise=1.5, probability=0.05, steps=200)
    step = dp_accounting.PoissonSampledDpEvent(0.05, dp_accounting.GaussianDpEvent(1.5))
    tight = dp_accounting.pld.PLDAccountant().compose(step, 200).get_epsilon(DELTA)

    assert tight < epsilon_spent([run], delta=DELTA) < 1.2 * tight


def test_nothing_spends_nothing() -> None:
    assert epsilon_spent([], delta=DELTA) == 0


@settings(max_examples=10, deadline=None)
@given(RUNS, RUNS)
def test_every_further_run_on_the_same_rows_costs(first: DpSgdRun, second: DpSgdRun) -> None:
    alone = [epsilon_spent([run], delta=DELTA) for run in (first, second)]

    both = epsilon_spent([first, second], delta=DELTA)

    assert both > max(alone)
    assert both == pytest.approx(epsilon_spent([second, first], delta=DELTA))


@settings(max_examples=10, deadline=None)
@given(RUNS)
def test_a_repeated_run_costs_less_than_twice_as_much(run: DpSgdRun) -> None:
    once = epsilon_spent([run], delta=DELTA)

    assert once < epsilon_spent([run, run], delta=DELTA) < 2 * once


def test_one_run_of_1000_steps_spends_what_ten_of_100_spend() -> None:
    ten = [a_run(steps=100)] * 10

    assert epsilon_spent(ten, delta=DELTA) == pytest.approx(
        epsilon_spent([a_run(steps=1000)], delta=DELTA)
    )


@pytest.mark.parametrize("change", [{"noise": 0.9}, {"steps": 900}, {"probability": 0.02}])
def test_less_noise_more_steps_and_larger_samples_each_cost_more(change: dict[str, float]) -> None:
    assert epsilon_spent([a_run(**change)], delta=DELTA) > epsilon_spent([a_run()], delta=DELTA)


# --- calibration ----------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    epsilon=st.floats(0.2, 20),
    delta=st.sampled_from([1e-4, 1e-5, 1e-6]),
    probability=st.one_of(st.just(1.0), st.floats(0.002, 1)),
    steps=st.integers(1, 2000),
)
def test_calibrated_noise_spends_the_budget_and_never_more(
    epsilon: float, delta: float, probability: float, steps: int
) -> None:
    noise = calibrate_noise(
        epsilon=epsilon, delta=delta, sampling_probability=probability, steps=steps
    )
    spent = epsilon_spent([a_run(noise=noise, probability=probability, steps=steps)], delta=delta)

    assert spent <= epsilon
    if noise > MIN_NOISE_MULTIPLIER:
        assert spent > 0.99 * epsilon


def test_an_epsilon_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(ConfigError, match="Allow more epsilon"):
        calibrate_noise(epsilon=1e-3, delta=1e-9, sampling_probability=1, steps=100_000)


@pytest.mark.parametrize(
    ("epsilon", "probability", "steps"), [(1e6, 1.0, 1), (0.5, 1.0, 10_000), (3.0, 1.0, 1)]
)
def test_extreme_budgets_stay_within_the_noise_in_use(
    epsilon: float, probability: float, steps: int
) -> None:
    noise = calibrate_noise(
        epsilon=epsilon, delta=1e-5, sampling_probability=probability, steps=steps
    )

    assert MIN_NOISE_MULTIPLIER <= noise <= MAX_NOISE_MULTIPLIER
    spent = epsilon_spent([a_run(noise=noise, probability=probability, steps=steps)], delta=1e-5)
    assert spent <= epsilon


def test_orders_that_do_not_converge_do_not_flood_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        logging.getLogger("absl").propagate = True
        calibrate_noise(epsilon=2.9, delta=1e-5, sampling_probability=0.5, steps=37)

    assert not caplog.records


def test_importing_the_module_does_not_load_scipy() -> None:
    code = "import sys, retraining.privacy; sys.exit('scipy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- ledger ---------------------------------------------------------------------------------


def test_the_ledger_adds_up_every_charge_that_touches_a_block() -> None:
    charges = [
        a_charge(JANUARY),
        a_charge(JANUARY, FEBRUARY),
        a_charge(JANUARY, FEBRUARY, MARCH, run=a_run(noise=2)),
    ]

    spent = epsilon_by_block(charges, delta=DELTA)

    assert spent == {
        JANUARY: epsilon_spent([a_run(), a_run(), a_run(noise=2)], delta=DELTA),
        FEBRUARY: epsilon_spent([a_run(), a_run(noise=2)], delta=DELTA),
        MARCH: epsilon_spent([a_run(noise=2)], delta=DELTA),
    }
    assert epsilon_by_block(charges, delta=DELTA, blocks=[MARCH]) == {MARCH: spent[MARCH]}
    assert epsilon_by_block([], delta=DELTA) == {}


def test_a_block_that_is_named_twice_in_one_charge_is_read_once() -> None:
    twice = epsilon_by_block([a_charge(JANUARY, JANUARY)], delta=DELTA)

    assert twice == epsilon_by_block([a_charge(JANUARY)], delta=DELTA)


def test_a_run_starts_while_every_block_keeps_within_its_budget() -> None:
    policy = small_spec(delta=DELTA, epsilon_per_run=3, epsilon_per_block=4).training

    assert refuse_if_over([], run=a_run(), blocks=[JANUARY], policy=policy) is None
    assert refuse_if_over([a_charge(JANUARY)], run=a_run(), blocks=[JANUARY], policy=policy) is None


def test_a_run_that_would_exceed_the_budget_of_one_block_is_refused_and_names_it() -> None:
    policy = small_spec(delta=DELTA, epsilon_per_run=3, epsilon_per_block=4).training
    charges = [a_charge(JANUARY), a_charge(FEBRUARY), a_charge(JANUARY, FEBRUARY)]
    charges += [a_charge(JANUARY)]
    would = epsilon_spent([a_run()] * 4, delta=DELTA)

    refusal = refuse_if_over(charges, run=a_run(), blocks=[MARCH, FEBRUARY, JANUARY], policy=policy)

    assert refusal is not None
    assert refusal.code == "budget_exceeded"
    assert "2 of 3 weekly batches" in refusal.sentence
    assert JANUARY in refusal.sentence
    assert f"epsilon {would:.3f}" in refusal.sentence
    assert "allows 4." in refusal.sentence


def test_a_run_that_exceeds_its_own_budget_is_refused() -> None:
    policy = small_spec(delta=DELTA, epsilon_per_run=2.4, epsilon_per_block=50).training

    refusal = refuse_if_over([], run=a_run(), blocks=[JANUARY], policy=policy)

    assert refusal is not None
    assert "epsilon_per_run allows 2.4" in refusal.sentence


def test_a_ledger_of_ten_years_is_read_quickly_enough_to_ask_before_every_run() -> None:
    weeks = [Digest.of(b"%d" % week) for week in range(520)]
    charges = [
        a_charge(*weeks[max(0, week - 7) : week + 1], run=a_run(noise=1 + week / 1000))
        for week in range(520)
    ]

    spent = epsilon_by_block(charges, delta=DELTA, blocks=weeks[-8:])

    # Only steps that touch the blocks asked for are computed: 15 of 520.
    assert list(spent) == sorted(weeks[-8:])
