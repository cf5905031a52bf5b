"""What is breached, what cannot be told, and how long an incident goes on."""

from typing import Any

import pytest

from retraining.monitoring import incidents
from retraining.monitoring.judging import Judged, judge_metric, judge_share
from retraining.monitoring.metrics import Measured
from retraining.records import Incident, Interval, MonitoredValue
from retraining.spec import MonitoringPolicy

PROMOTED = {"accuracy": Interval(value=0.9, low=0.87, high=0.93)}


def accuracy(low: float, high: float, **policy: Any) -> Judged:
    measured = Measured(Interval(value=(low + high) / 2, low=low, high=high), 200)
    return judge_metric("accuracy", measured, policy=MonitoringPolicy(**policy), promoted=PROMOTED)


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(0.70, 0.84, "breached"), (0.70, 0.85, "ok"), (0.84, 0.99, "ok"), (0.9, 0.99, "ok")],
)
def test_only_a_whole_interval_below_promotion_less_tolerance_is_a_breach(
    low: float, high: float, state: str
) -> None:
    value = accuracy(low, high, tolerance=0.05).value

    assert (value.min, value.max, value.basis, value.state) == (0.85, None, "promotion", state)


def test_a_range_of_the_pipeline_file_wins() -> None:
    judged = accuracy(0.70, 0.84, ranges={"accuracy": {"min": 0.6, "max": 0.69}})

    assert (judged.value.min, judged.value.max, judged.value.basis) == (0.6, 0.69, "spec")
    assert judged.value.state == "breached"  # too good is out of range, too, if the file says so
    assert judged.allowed == "at least 0.600 and at most 0.690 (in the pipeline file)"


def test_a_metric_without_any_range_is_shown_and_never_breached() -> None:
    measured = Measured(Interval(value=0.0, low=0.0, high=0.1), 200)

    judged = judge_metric("f1", measured, policy=MonitoringPolicy(), promoted=PROMOTED)

    assert (judged.value.state, judged.value.min, judged.value.max) == ("ok", None, None)


def test_a_share_is_breached_when_its_lower_end_is_above_the_largest_allowed() -> None:
    def state(low: float) -> str:
        found = Measured(Interval(value=0.5, low=low, high=0.7), 200)
        return judge_share("unlike", found, max_share=0.2, next_step="").value.state

    assert (state(0.2), state(0.21)) == ("ok", "breached")
    nothing = judge_share("unlike", Measured(None, 3), max_share=0.2, next_step="")
    assert (nothing.value.state, nothing.observed) == ("insufficient", "too few rows: 3")


def day(**states: str) -> list[Judged]:
    return [
        Judged(
            MonitoredValue(name=name, measured=None, n_rows=1, basis="spec", state=state),
            observed=f"{name} is {state}",
            allowed="less",
            next_step="look",
        )
        for name, state in states.items()
    ]


def test_an_incident_goes_on_until_the_value_is_acceptable_again() -> None:
    story, still, told = [], (), []
    for number, state in enumerate(["ok", "breached", "insufficient", "breached", "ok"], start=1):
        still, closed = incidents.after(still, day(accuracy=state), day=f"2026-02-0{number}")
        story.append([(item.name, item.opened) for item in still])
        told.append(closed)

    since = [("accuracy", "2026-02-02")]
    assert story == [[], since, since, since, []]
    assert told == [(), (), (), (), ("accuracy",)]


def test_an_incident_says_what_was_seen_on_the_newest_day_that_could_tell() -> None:
    first, _ = incidents.after((), day(accuracy="breached"), day="2026-02-01")
    kept, _ = incidents.after(first, day(accuracy="insufficient"), day="2026-02-02")

    assert (
        kept
        == first
        == (
            Incident(
                name="accuracy",
                opened="2026-02-01",
                observed="accuracy is breached",
                allowed="less",
                next_step="look",
            ),
        )
    )


def test_incidents_are_kept_apart_and_listed_by_age() -> None:
    first, _ = incidents.after((), day(z="breached", a="ok"), day="2026-02-01")
    both, _ = incidents.after(first, day(z="breached", a="breached"), day="2026-02-02")
    one, closed = incidents.after(both, day(z="ok", a="breached"), day="2026-02-03")

    assert [item.name for item in both] == ["z", "a"]
    assert [(item.name, item.opened) for item in one] == [("a", "2026-02-02")]
    assert closed == ("z",)


def test_an_incident_about_a_value_that_is_measured_no_longer_ends() -> None:
    first, _ = incidents.after((), day(old="breached"), day="2026-02-01")

    assert incidents.after(first, day(new="ok"), day="2026-02-02") == ((), ("old",))
