"""Checks on what the challenger learned: would a clean one show as much?

Each check of behaviour says how often a clean challenger shows as much (its p-value). Judged one by
one, six checks would refuse a clean week six times as often; so they share one false-alarm rate
(`gate.false_alarm_rate`), and each is held against its part of it.

Source: Holm, "A simple sequentially rejective multiple test procedure" (Scandinavian Journal of
Statistics 6, 1979). It keeps the rate whatever the checks have to do with one another.
"""

from collections.abc import Iterator, Sequence

from retraining.records import (
    BehaviourReport,
    BehaviourResult,
    Check,
    PinnedRun,
    TracedBatch,
    ValidationReport,
)
from retraining.spec import GatePolicy

PREFIX = "behaviour"  # of the names of all these checks


def check_behaviour(
    pinned: PinnedRun, policy: GatePolicy, validation: ValidationReport
) -> Iterator[Check]:
    """One check that says how much was looked at, and one per result.

    How well it was looked, the power, stands in the validation report alone: it decides nothing.
    """
    report = validation.behaviour
    if report is None:
        yield Check(
            name=PREFIX,
            verdict="HOLD",
            observed="what the challenger learned was not measured",
            allowed="a measurement of every challenger",
            next_step="start the week again",
        )
        return
    yield _overview(policy, report)
    missing = [
        name
        for name in policy.require_behaviour
        if name not in {result.name for result in report.results}
    ]
    for name in missing:
        yield _unmeasured(policy, validation, name, "no result")
    shares = holm_shares(
        [result.p_value for result in report.results], rate=policy.false_alarm_rate
    )
    for result, share in zip(report.results, shares, strict=True):
        if result.insufficient:
            yield _unmeasured(policy, validation, result.name, result.insufficient)
        elif result.p_value is None or share is None:
            yield Check(
                name=f"{PREFIX}: {result.name}",
                verdict="PROMOTE",
                observed=result.sentence,
                allowed="noted, and not judged",
            )
        else:
            yield _judged(pinned, result, result.p_value, share)


def refused_behaviour(
    pinned: PinnedRun, policy: GatePolicy, validation: ValidationReport
) -> tuple[BehaviourResult, ...]:
    """The results that the gate refuses the challenger for, in their order."""
    refused = {
        check.name
        for check in check_behaviour(pinned, policy, validation)
        if check.verdict == "REJECT"
    }
    results = validation.behaviour.results if validation.behaviour else ()
    return tuple(result for result in results if f"{PREFIX}: {result.name}" in refused)


def holm_shares(p_values: Sequence[float | None], *, rate: float) -> list[float | None]:
    """The largest p-value at which each check refuses; None for one without a p-value.

    The smallest of m p-values is held against rate / m, the next against rate / (m - 1) and so on;
    from the first that passes on, all pass, and are held against the part that it passed.
    """
    measured = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    shares: list[float | None] = [None] * len(p_values)
    refused = 0
    for rank, (p_value, place) in enumerate(measured):
        share = rate / (len(measured) - refused)
        shares[place] = share
        if rank == refused and p_value <= share:
            refused += 1
    return shares


def _overview(policy: GatePolicy, report: BehaviourReport) -> Check:
    n_measured = sum(not result.insufficient for result in report.results)
    return Check(
        name=PREFIX,
        verdict="PROMOTE",
        observed=f"{n_measured} of {len(report.results)} checks measured",
        allowed=f"all together refuse at most {policy.false_alarm_rate:.2%} of clean challengers",
    )


def _unmeasured(policy: GatePolicy, validation: ValidationReport, name: str, why: str) -> Check:
    """What was not measured passes only where nobody said that it has to be.

    A first champion has nothing to be held against, so it could never start: it is judged by what
    can be measured and by the absolute limits.
    """
    required = name in policy.require_behaviour and validation.champion is not None
    return Check(
        name=f"{PREFIX}: {name}",
        verdict="HOLD" if required else "PROMOTE",
        observed=f"not measured: {why}",
        allowed="has to be measured" if required else "may stay unmeasured",
        next_step=f"mend what is missing, or take {name} off gate.require_behaviour"
        if required
        else "",
    )


def _judged(pinned: PinnedRun, result: BehaviourResult, p_value: float, share: float) -> Check:
    refused = p_value <= share
    return Check(
        name=f"{PREFIX}: {result.name}",
        verdict="REJECT" if refused else "PROMOTE",
        observed=f"p = {p_value:.2g}. {result.sentence}",
        allowed=f"p above {share:.2g}",
        next_step=_next_step(pinned, result) if refused else "",
    )


def _next_step(pinned: PinnedRun, result: BehaviourResult) -> str:
    """Where the lie came from, and how to go on without it."""
    if result.traced:
        return _without(pinned, result.traced[0], result.n_traced)
    if result.by_source:
        source = max(result.by_source, key=lambda name: result.by_source[name].value)
        return f"start the week again without {source}, which shows most of it, or review its rows"
    return "keep the champion; start the week again without the riskiest source, or review its rows"


def _without(pinned: PinnedRun, worst: TracedBatch, n_traced: int) -> str:
    """Leaving a source out concerns its new rows alone; accepted ones go by a review."""
    batch = worst.batch
    brought = f"({worst.n_rows} of the {n_traced} rows that taught it)"
    if batch.week in pinned.weeks:
        return f"start the week again without {batch.source} {brought}, or review the named rows"
    return f"confirm {batch} {brought} with `retraining review`, then start the week again"
