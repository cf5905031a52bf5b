"""Epsilon from what runs did, and the ledger that adds them up.

The claim is record-level (epsilon, delta)-DP, add-or-remove-one, of the trained weights.
`dp_accounting` is imported where it is used: it takes two seconds, most of them SciPy's.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from retraining.errors import ConfigError
from retraining.records import DpSgdRun, LedgerCharge, Refusal
from retraining.spec import TrainingPolicy

# The only noise multipliers in use: below, a step hides nothing; above, nothing is learnt.
MIN_NOISE_MULTIPLIER = 0.05
MAX_NOISE_MULTIPLIER = 1000.0

_Orders = tuple[float, ...]  # of the Renyi divergence; epsilon is a minimum over them
_FEW_ORDERS = (
    1.5,
    *(half / 2 for half in range(4, 20)),
    *map(float, range(10, 64, 3)),
    128.0,
    512.0,
)
_CLOSE = 0.99  # share of epsilon that calibrated noise spends at least


def epsilon_spent(runs: Sequence[DpSgdRun], *, delta: float) -> float:
    """Return the epsilon of (epsilon, delta)-DP of several DP-SGD runs on the same rows.

    Recomputed from what the runs did; a number that the trainer prints is never used.

    Args:
        runs: Noise multiplier, steps and sampling probability of each run. No run: 0.
        delta: Probability that the bound fails; keep it below 1 / rows.

    Returns:
        Record-level epsilon, add-or-remove-one, without unit. The bound is by Renyi DP; that by
        privacy loss distributions is 7 to 14% lower.

    Sources: the mechanism is Abadi et al. 2016 (arXiv:1607.00133), the accountant Mironov, Talwar
    & Zhang 2019 (arXiv:1908.10530). The bound assumes Poisson sampling: shuffled batches can spend
    more, see Chua et al., "How Private are DP-SGD Implementations?" (ICML 2024).
    """
    orders = _all_orders()
    renyi = np.zeros(len(orders))
    for run in runs:
        one_step = _renyi_of_one_step(run.sampling_probability, run.noise_multiplier, orders)
        renyi += run.steps * one_step
    return _epsilon(orders, renyi, delta)


def calibrate_noise(
    *, epsilon: float, delta: float, sampling_probability: float, steps: int
) -> float:
    """Return the smallest noise multiplier with which a run spends at most `epsilon`.

    Args:
        epsilon: What the run may spend, above 0.
        delta: Probability that the bound fails; keep it below 1 / rows.
        sampling_probability: Of each row in each step; 1 is full batches.
        steps: Number of noisy steps.

    Returns:
        Standard deviation of the noise over the clip norm, rounded up to four digits after the
        point: `epsilon_spent` of it is at most `epsilon`, and less by a fraction of a percent
        (more only where the result is MIN_NOISE_MULTIPLIER).

    Raises:
        ConfigError: Even the largest noise spends more, so nothing could be learnt.
    """

    def spent(noise: float, orders: _Orders) -> float:
        one_step = _renyi_of_one_step(sampling_probability, noise, orders)
        return _epsilon(orders, steps * one_step, delta)

    def smallest(orders: _Orders) -> float | None:
        return _smallest_noise(lambda noise: spent(noise, orders) <= epsilon)

    # Most of the time goes into orders that hardly ever matter. Leaving orders out can only ask
    # for more noise; where it asks for visibly more, the search is done again with all of them.
    noise = smallest(_FEW_ORDERS)
    if noise is None or spent(noise, _all_orders()) < _CLOSE * epsilon:
        noise = smallest(_all_orders())
    if noise is None:
        raise ConfigError(
            f"epsilon {epsilon:g} with delta {delta:g} over {steps} steps needs a noise multiplier"
            f" above {MAX_NOISE_MULTIPLIER:g}. Allow more epsilon or fewer epochs."
        )
    return noise


def epsilon_by_block(
    charges: Sequence[LedgerCharge], *, delta: float, blocks: Collection[str] | None = None
) -> dict[str, float]:
    """Return what all charged runs together have spent on the rows of each block.

    A charge counts whether its run finished or not: a run that was killed has read the rows.

    Args:
        charges: The whole ledger.
        delta: As for `epsilon_spent`; one for all runs.
        blocks: Blocks of interest; by default all that were ever charged.
    """
    return _compose([(charge.blocks, charge.run) for charge in charges], delta, blocks)


def refuse_if_over(
    charges: Sequence[LedgerCharge],
    *,
    run: DpSgdRun,
    blocks: Sequence[str],
    policy: TrainingPolicy,
) -> Refusal | None:
    """Return why `run` may not start on `blocks` after all `charges` so far; None when it may.

    Asked before the run is charged, so a refused run spends nothing.
    """
    alone = epsilon_spent([run], delta=policy.delta)
    if alone > policy.epsilon_per_run:
        return Refusal(
            code="budget_exceeded",
            sentence=f"This run would spend epsilon {alone:.3f}, epsilon_per_run allows"
            f" {policy.epsilon_per_run:g}. Nothing was spent; plan it with more noise.",
        )
    reads = [(charge.blocks, charge.run) for charge in charges] + [(tuple(blocks), run)]
    spent = _compose(reads, policy.delta, blocks)
    over = {
        block: epsilon for block, epsilon in spent.items() if epsilon > policy.epsilon_per_block
    }
    if not over:
        return None
    worst = max(over, key=lambda block: over[block])
    return Refusal(
        code="budget_exceeded",
        sentence=f"{len(over)} of {len(spent)} weekly batches would exceed their privacy budget:"
        f" the worst, {worst}, would reach epsilon {over[worst]:.3f}, epsilon_per_block allows"
        f" {policy.epsilon_per_block:g}. Nothing was spent; use a shorter window, a smaller"
        " epsilon_per_run, or a larger epsilon_per_block if its owner agrees.",
    )


def _compose(
    reads: Sequence[tuple[tuple[str, ...], DpSgdRun]],
    delta: float,
    blocks: Collection[str] | None,
) -> dict[str, float]:
    runs_on: dict[str, tuple[DpSgdRun, ...]] = {}
    for read, run in reads:
        for block in set(read):
            if blocks is None or block in blocks:
                runs_on[block] = (*runs_on.get(block, ()), run)
    # Batches that entered the window together share their runs, and so the computation.
    spent = {runs: epsilon_spent(runs, delta=delta) for runs in set(runs_on.values())}
    return {block: spent[runs] for block, runs in sorted(runs_on.items())}


def _smallest_noise(is_enough: Callable[[float], bool]) -> float | None:
    """Bisect within the noise in use; None if none is enough. The result always is."""
    low, high = MIN_NOISE_MULTIPLIER, MAX_NOISE_MULTIPLIER
    if is_enough(low):
        return low
    # Around 1 first: that is where nearly every answer lies.
    for guess in (1.0, 2.0, 4.0, 16.0, high):
        if is_enough(guess):
            high = guess
            break
        low = guess
    else:
        return None
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    rounded = math.ceil(high * 10_000) / 10_000
    return rounded if is_enough(rounded) else high


@lru_cache(maxsize=4096)
def _renyi_of_one_step(
    sampling_probability: float, noise_multiplier: float, orders: _Orders
) -> npt.NDArray[np.float64]:
    """Renyi divergence of one step at each order; it adds up over steps."""
    dp = _dp_accounting()
    accountant = dp.rdp.RdpAccountant(
        orders=orders, neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    step = dp.PoissonSampledDpEvent(sampling_probability, dp.GaussianDpEvent(noise_multiplier))
    renyi: npt.NDArray[np.float64] = accountant.compose(step).rdp
    return renyi


def _epsilon(orders: _Orders, renyi: npt.NDArray[np.float64], delta: float) -> float:
    epsilon, _best_order = _dp_accounting().rdp.compute_epsilon(orders, renyi, delta)
    return float(epsilon)


@cache
def _all_orders() -> _Orders:
    return tuple(map(float, _dp_accounting().rdp.RdpAccountant().orders))


def _dp_accounting() -> Any:
    import dp_accounting

    # Orders of the Renyi divergence that did not converge are left out of a minimum: the bound
    # stays true, so one warning per order and trial would only hide what matters in a task's log.
    logging.getLogger("absl").addFilter(_says_something_else)
    return dp_accounting


def _says_something_else(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("_compute_log_a_frac failed to converge")
