"""Promises of the gate about what a challenger learned: one false-alarm rate for all checks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retraining.errors import ChainBrokenError
from retraining.gate import sentence
from retraining.gate.behaviour_checks import holm_shares
from retraining.records import (
    BatchId,
    BehaviourResult,
    Check,
    GateDecision,
    Interval,
    TracedBatch,
)
from retraining.spec import GatePolicy
from tests.retraining.test_gate import CHAMPION, WEEK, Run, _spec, clean

RATE = 0.02
POISONED = {"sentence": "The values of 41 of 300 rows turn trusted rows of other classes."}


def decided(*results: BehaviourResult, champion: Any = CHAMPION, **gate: Any) -> GateDecision:
    run = Run(_spec(**gate), champion=champion)
    return _with(run, results=results).decide()


def _with(run: Run, **behaviour: Any) -> Run:
    assert run.validation is not None and run.validation.behaviour is not None
    said = run.validation.behaviour.model_copy(update=behaviour)
    run.validation = run.validation.model_copy(update={"behaviour": said})
    return run


def failed(decision: GateDecision) -> list[tuple[str, str]]:
    return [(check.name, check.verdict) for check in decision.failed()]


def check(decision: GateDecision, name: str) -> Check:
    return next(found for found in decision.checks if found.name == name)


# --- one rate for all -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_value", "verdict"), [(0.0099, "REJECT"), (0.01, "REJECT"), (0.0101, "PROMOTE")]
)
def test_one_of_two_checks_has_half_of_the_rate(p_value: float, verdict: str) -> None:
    decision = decided(clean("transplant", p_value, **POISONED), clean("window"))
    assert check(decision, "behaviour: transplant").verdict == verdict
    assert check(decision, "behaviour: transplant").allowed == "p above 0.01"
    assert decision.verdict == verdict


def test_a_check_that_was_not_made_takes_no_share() -> None:
    missing = clean("window", None, insufficient="too few rows.")
    assert decided(clean("transplant", 0.015), missing).verdict == "REJECT"
    assert decided(clean("transplant", 0.015), clean("window")).verdict == "PROMOTE"


def test_after_one_refusal_the_rest_share_the_whole_rate() -> None:
    """Holm's step: what Bonferroni would pass at half of the rate is refused at all of it."""
    both = decided(clean("transplant", 0.001), clean("window", 0.019))
    assert failed(both) == [("behaviour: transplant", "REJECT"), ("behaviour: window", "REJECT")]
    alone = decided(clean("transplant", 0.011), clean("window", 0.012))
    assert failed(alone) == []


def test_the_pipeline_file_sets_the_rate() -> None:
    results = clean("transplant", 0.04), clean("window")
    assert decided(*results).verdict == "PROMOTE"
    assert decided(*results, false_alarm_rate=0.1).verdict == "REJECT"


def test_a_measurement_at_another_rate_decides_nothing() -> None:
    with pytest.raises(ChainBrokenError, match="false-alarm rate"):
        _with(Run(), false_alarm_rate=0.5).decide()


def test_of_clean_challengers_all_checks_together_refuse_no_more_than_the_rate() -> None:
    """Eight checks on 20,000 clean weeks, independent: the worst case but for contrived ones."""
    p_values = np.random.default_rng(7).random((20_000, 8))
    alarms = 0
    for week in p_values.tolist():
        shares = holm_shares(week, rate=RATE)
        alarms += any(p <= share for p, share in zip(week, shares, strict=True) if share)
    # 0.0198 expected; four standard deviations of 20,000 weeks are 0.004.
    assert 0.0158 < alarms / len(p_values) < 0.0238


def _adjusted(p_values: list[float]) -> list[float]:
    """Holm's adjusted p-values, from the paper."""
    order = np.argsort(p_values, kind="stable")
    m, running, adjusted = len(p_values), 0.0, [0.0] * len(p_values)
    for rank, place in enumerate(order):
        running = max(running, (m - rank) * p_values[place])
        adjusted[place] = running
    return adjusted


@given(st.lists(st.floats(0, 0.03), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_shares_refuse_what_adjusted_p_values_refuse(p_values: list[float]) -> None:
    shares = holm_shares(list(p_values), rate=RATE)
    for p_value, share, adjusted in zip(p_values, shares, _adjusted(p_values), strict=True):
        if abs(adjusted - RATE) > 1e-12:  # at the very border the last bit decides
            assert (p_value <= share) == (adjusted <= RATE)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_less_likely_for_a_clean_challenger_is_never_a_better_verdict(
    p_values: list[float], data: Any
) -> None:
    def refused(found: list[float]) -> int:
        shares = holm_shares(list(found), rate=RATE)
        return sum(p <= share for p, share in zip(found, shares, strict=True) if share)

    place = data.draw(st.integers(0, len(p_values) - 1))
    worse = [*p_values]
    worse[place] *= data.draw(st.floats(0, 1))
    assert refused(worse) >= refused(p_values)


# --- what was not measured ------------------------------------------------------------------

MISSING = clean("transplant", None, insufficient="43 trusted rows, expected at least 100.")


def test_what_was_not_measured_says_so_and_holds_only_where_it_has_to_be() -> None:
    free = decided(MISSING, clean("window"))
    assert free.verdict == "PROMOTE"
    assert "not measured: 43 trusted rows" in check(free, "behaviour: transplant").observed
    required = decided(MISSING, clean("window"), require_behaviour=["transplant"])
    assert failed(required) == [("behaviour: transplant", "HOLD")]
    assert "gate.require_behaviour" in check(required, "behaviour: transplant").next_step
    other = decided(MISSING, clean("window"), require_behaviour=["window"])
    assert other.verdict == "PROMOTE"


def test_a_first_champion_is_not_held_for_want_of_one_before_it() -> None:
    decision = decided(MISSING, champion=None, require_behaviour=["transplant"])
    assert decision.verdict == "PROMOTE"
    assert check(decision, "behaviour: transplant").observed.startswith("not measured")


def test_a_first_champion_is_refused_for_what_was_measured() -> None:
    assert decided(clean("window", 0.0001), champion=None).verdict == "REJECT"


def test_a_required_check_without_any_result_holds_the_week() -> None:
    decision = decided(clean("window"), require_behaviour=["sources"])
    assert failed(decision) == [("behaviour: sources", "HOLD")]


def test_a_challenger_that_nobody_examined_is_never_promoted() -> None:
    run = Run()
    assert run.validation is not None
    run.validation = run.validation.model_copy(update={"behaviour": None})
    assert failed(run.decide()) == [("behaviour", "HOLD")]


def test_what_has_no_null_is_noted_and_refuses_nothing() -> None:
    decision = decided(clean("canaries", None), clean("window"))
    assert decision.verdict == "PROMOTE"
    assert check(decision, "behaviour: canaries").allowed == "noted, and not judged"


def test_an_unknown_check_cannot_be_required() -> None:
    with pytest.raises(ValueError, match="require_behaviour"):
        GatePolicy(limits={"accuracy": {"min": 0.5}}, require_behaviour=["astrology"])


# --- what is said ---------------------------------------------------------------------------


def _feed(week: str, n_rows: int) -> TracedBatch:
    return TracedBatch(batch=BatchId(source="feed", week=week), n_rows=n_rows)


def test_the_decision_states_the_false_alarm_rate_and_how_much_was_measured() -> None:
    said = check(decided(MISSING, clean("window")), "behaviour")
    assert said.observed == "1 of 2 checks measured"
    assert said.allowed == "all together refuse at most 2.00% of clean challengers"


@pytest.mark.parametrize(
    ("traced", "step"),
    [
        ((_feed(WEEK, 30), _feed("2026-W06", 5)), "start the week again without feed"),
        ((_feed("2026-W03", 30), _feed(WEEK, 5)), "confirm feed 2026-W03 (30 of the 35"),
    ],
)
def test_a_refusal_names_the_batch_that_taught_it_and_the_way_on(
    traced: tuple[TracedBatch, ...], step: str
) -> None:
    result = clean("transplant", 1e-9, traced=traced, n_traced=35, **POISONED)
    decision = decided(result, clean("window"))
    refused = check(decision, "behaviour: transplant")
    assert refused.next_step.startswith(step)
    assert refused.observed.startswith("p = 1e-09. The values of 41")
    said = sentence(decision, "x")
    assert step in said and "The values of 41 of 300 rows" in said


def test_without_traced_rows_the_source_that_shows_most_is_named() -> None:
    by_source = {
        name: Interval(value=value, low=value - 0.1, high=value + 0.1)
        for name, value in (("feed", 0.4), ("gateway", 0.1))
    }
    refused = check(decided(clean("sources", 1e-9, by_source=by_source)), "behaviour: sources")
    assert "without feed" in refused.next_step
    bare = check(decided(clean("regions", 1e-9)), "behaviour: regions")
    assert "riskiest source" in bare.next_step


def test_what_passed_has_no_next_step() -> None:
    decision = decided(clean("transplant", traced=(_feed(WEEK, 3),), n_traced=3))
    assert check(decision, "behaviour: transplant").next_step == ""
