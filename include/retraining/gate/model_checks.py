"""Checks on the challenger: its privacy, how it does, and whether it harms beside the champion."""

from collections.abc import Iterator

from retraining.records import (
    Check,
    Interval,
    PinnedRun,
    ScreeningReport,
    SliceResult,
    TrainingReport,
    ValidationReport,
    Verdict,
)
from retraining.spec import GatePolicy, Limit, Metric, PipelineSpec

_WHOLE = "all"
# Of these a smaller value is the better one.
_LOWER_IS_BETTER: tuple[Metric, ...] = ("calibration_error",)


def check_model(
    pinned: PinnedRun,
    spec: PipelineSpec,
    screening: ScreeningReport,
    training: TrainingReport | None,
    validation: ValidationReport | None,
) -> Iterator[Check]:
    """Every check on the challenger; none when screening refused the week and nothing ran."""
    if training is None:
        if screening.refusal is None:
            yield _hold("training", "no report", "one, as screening passed", "start the week again")
        return
    if training.refusal is not None or training.model is None:
        why = training.refusal
        observed = f"refused ({why.code}): {why.sentence}" if why else "no challenger, no reason"
        yield _hold("training", observed, "a challenger", "see the training report")
        return
    yield Check(
        name="training",
        verdict="PROMOTE",
        observed=f"a challenger, trained on {training.n_rows} rows",
        allowed="a challenger",
    )
    yield from _privacy(spec, training)
    if validation is None:
        yield _hold("validation", "no report", "one per challenger", "start the week again")
        return
    yield from _holdout(spec.gate, validation)
    yield from _comparison(spec.gate, validation)
    yield from _limits(spec.gate, validation)


def _privacy(spec: PipelineSpec, training: TrainingReport) -> Iterator[Check]:
    """A budget that is overspent cannot be given back: REJECT, and nobody can accept it."""
    policy = spec.training
    stated = training.delta is not None and training.delta <= policy.delta
    yield _epsilon("privacy per run", training.epsilon if stated else None, policy.epsilon_per_run)
    spent = training.epsilon_by_block
    missing = [b for b in training.blocks if str(b.batch) not in spent]
    largest = max(spent.values()) if stated and spent and not missing else None
    yield _epsilon("privacy per weekly batch", largest, policy.epsilon_per_block)


def _epsilon(name: str, epsilon: float | None, limit: float) -> Check:
    within = epsilon is not None and epsilon <= limit
    return Check(
        name=name,
        verdict="PROMOTE" if within else "REJECT",
        observed="no epsilon on record for the delta of the spec"
        if epsilon is None
        else f"epsilon {epsilon:.3f}",
        allowed=f"at most {limit:g}",
        next_step="" if within else "keep this model out of use, and ask who changed the training",
    )


def _holdout(policy: GatePolicy, validation: ValidationReport) -> Iterator[Check]:
    whole = _slice(validation, _WHOLE)
    n_rows = whole.n_rows if whole else 0
    if n_rows < policy.min_holdout_rows:
        yield _hold(
            "holdout rows",
            f"{n_rows} rows",
            f"at least {policy.min_holdout_rows}",
            "pin a larger holdout: on so few rows nothing can be told",
        )
    else:
        yield Check(
            name="holdout rows",
            verdict="PROMOTE",
            observed=f"{n_rows} rows",
            allowed=f"at least {policy.min_holdout_rows}",
        )


# --- against the champion -------------------------------------------------------------------


def _comparison(policy: GatePolicy, validation: ValidationReport) -> Iterator[Check]:
    if validation.champion is None:
        yield Check(
            name="comparison",
            verdict="PROMOTE",
            observed="no champion",
            allowed="the first champion is judged by the absolute limits alone",
        )
        return
    for name in (_WHOLE, *(part.name for part in policy.slices)):
        part = _slice(validation, name)
        n_rows = part.n_rows if part else 0
        if part is None or (name != _WHOLE and n_rows < policy.min_slice_rows):
            yield _hold(
                f"comparison on {name}",
                f"insufficient rows: {n_rows}",
                f"at least {policy.min_slice_rows}",
                f"pin a holdout with more rows of {name}",
            )
            continue
        for metric in policy.compared:
            yield _compare(policy, metric, name, part.difference.get(metric))


def _compare(
    policy: GatePolicy, metric: Metric, slice_name: str, difference: Interval | None
) -> Check:
    """REJECT what is surely worse by more than the margin, HOLD where harm cannot be excluded."""
    name = f"{metric} against the champion" + ("" if slice_name == _WHOLE else f" on {slice_name}")
    allowed = f"no sure loss above {policy.margin:g}, and a loss of {policy.harm:g} excluded"
    if difference is None:
        return _hold(
            name,
            "insufficient rows: not measured, too few rows of a class",
            allowed,
            "pin a holdout with more rows of each class",
        )
    gain = _gain(metric, difference)
    verdict: Verdict = "PROMOTE"
    next_step = ""
    if gain.high < 0 and gain.value < -policy.margin:
        verdict, next_step = "REJECT", "keep the champion; find the source that taught it this"
    elif gain.low < -policy.harm:
        verdict, next_step = "HOLD", "pin a larger holdout, or compare the two models by hand"
    return Check(
        name=name,
        verdict=verdict,
        observed=f"difference {_shown(difference, signed=True)}",
        allowed=allowed,
        next_step=next_step,
    )


def _gain(metric: Metric, difference: Interval) -> Interval:
    """The difference, turned so that more is better."""
    if metric not in _LOWER_IS_BETTER:
        return difference
    return Interval(value=-difference.value, low=-difference.high, high=-difference.low)


# --- absolute limits ------------------------------------------------------------------------


def _limits(policy: GatePolicy, validation: ValidationReport) -> Iterator[Check]:
    whole = _slice(validation, _WHOLE)
    for metric, limit in sorted(policy.limits.items()):
        yield _limit(metric, limit, whole.challenger.get(metric) if whole else None)


def _limit(metric: Metric, limit: Limit, measured: Interval | None) -> Check:
    """REJECT what is surely outside, HOLD where the interval reaches outside."""
    bounds = [f"at least {limit.min:g}"] if limit.min is not None else []
    bounds += [f"at most {limit.max:g}"] if limit.max is not None else []
    allowed = " and ".join(bounds) + ", the whole interval"
    if measured is None:
        return _hold(
            metric,
            "insufficient rows: not measured, too few rows of a class",
            allowed,
            "pin a holdout with more rows of each class",
        )
    lowest = limit.min if limit.min is not None else float("-inf")
    highest = limit.max if limit.max is not None else float("inf")
    verdict: Verdict = "PROMOTE"
    next_step = ""
    if measured.high < lowest or measured.low > highest:
        verdict, next_step = "REJECT", "keep the champion; look at what the week's rows say"
    elif measured.low < lowest or measured.high > highest:
        verdict, next_step = "HOLD", "train on more rows, or pin a larger holdout"
    return Check(
        name=metric,
        verdict=verdict,
        observed=_shown(measured),
        allowed=allowed,
        next_step=next_step,
    )


def _slice(validation: ValidationReport, name: str) -> SliceResult | None:
    return next((part for part in validation.slices if part.slice == name), None)


def _shown(measured: Interval, *, signed: bool = False) -> str:
    form = "+.4f" if signed else ".4f"
    return f"{measured.value:{form}} [{measured.low:{form}}, {measured.high:{form}}]"


def _hold(name: str, observed: str, allowed: str, next_step: str) -> Check:
    return Check(name=name, verdict="HOLD", observed=observed, allowed=allowed, next_step=next_step)
