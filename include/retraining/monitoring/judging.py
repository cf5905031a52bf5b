"""Holds each value against its range, and says in words what was seen, what is allowed, what next.

A value is breached when its whole interval lies outside: then it is out of range for all that the
rows can tell. With too few rows it is `insufficient`, which opens no incident and closes none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from retraining.monitoring.metrics import Measured
from retraining.records import Interval, MonitoredValue, Refusal
from retraining.spec import Limit, MonitoredMetric, MonitoringPolicy

State = Literal["ok", "breached", "insufficient"]

_DIGITS = 6


@dataclass(frozen=True)
class Judged:
    """A value, and the words for whoever is told of it."""

    value: MonitoredValue
    observed: str
    allowed: str
    next_step: str


def judge_metric(
    name: MonitoredMetric,
    measured: Measured,
    *,
    policy: MonitoringPolicy,
    promoted: Mapping[str, Interval],
) -> Judged:
    """A metric against its range in the pipeline file, or against its promotion.

    Args:
        promoted: What the champion had on the holdout when it was promoted.
    """
    if name in policy.ranges:
        limit, basis = policy.ranges[name], "in the pipeline file"
        value = _value(name, measured, limit, "spec")
    elif name in promoted:
        then = promoted[name].value
        limit = Limit(min=round(max(then - policy.tolerance, 0.0), _DIGITS))
        basis = f"{then:.3f} on the holdout at promotion, less {policy.tolerance:g}"
        value = _value(name, measured, limit, "promotion")
    else:
        basis = "neither the pipeline file nor the promotion has a range"
        value = _value(name, measured, None, "promotion")
    return _in_words(
        value,
        basis,
        "See what moved beside it. If the newest promotion did this, take it back (rollback);"
        " otherwise check the labels, then retrain on newer batches.",
    )


def judge_share(name: str, measured: Measured, *, max_share: float, next_step: str) -> Judged:
    """A share or a distance against the largest that the pipeline file allows."""
    value = _value(name, measured, Limit(max=max_share), "spec")
    return _in_words(value, "in the pipeline file", next_step)


def judge_missing(
    name: str,
    n_rows: int,
    refused: Sequence[Refusal],
    *,
    state: State,
    observed: str,
    next_step: str,
) -> Judged:
    """Whether files of a day are there and can be read."""
    codes = ", ".join(sorted({refusal.code for refusal in refused if refusal.code != "missing"}))
    seen = f"refused: {codes}" if codes else observed
    value = MonitoredValue(name=name, measured=None, n_rows=n_rows, basis="spec", state=state)
    return Judged(value, seen, "every file of the day, in the declared columns", next_step)


def _value(
    name: str, measured: Measured, limit: Limit | None, basis: Literal["spec", "promotion"]
) -> MonitoredValue:
    found = measured.interval
    lowest = limit.min if limit else None
    highest = limit.max if limit else None
    state: State = "ok"
    if found is None:
        state = "insufficient"
    elif (lowest is not None and found.high < lowest) or (
        highest is not None and found.low > highest
    ):
        state = "breached"
    return MonitoredValue(
        name=name,
        measured=found,
        n_rows=measured.n_rows,
        min=lowest,
        max=highest,
        basis=basis,
        state=state,
    )


def _in_words(value: MonitoredValue, basis: str, next_step: str) -> Judged:
    found = value.measured
    observed = f"too few rows: {value.n_rows}"
    if found is not None:
        observed = (
            f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}) over {value.n_rows} rows"
        )
    limits = []
    if value.min is not None:
        limits.append(f"at least {value.min:.3f}")
    if value.max is not None:
        limits.append(f"at most {value.max:.3f}")
    allowed = f"{' and '.join(limits) or 'anything'} ({basis})"
    return Judged(value, observed, allowed, next_step)
