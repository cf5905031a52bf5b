"""Behaviour: what did the challenger learn that it should not have?

Screening judges rows by plain models of them; here the very model that would serve is asked,
private noise and all, through nothing but its answers. Each check is a module of its own and gives
one number with the share of clean challengers that show as much; the gate says what follows.

The same case gives the same report, byte for byte, on one machine.
"""

from collections import Counter
from collections.abc import Callable

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from retraining.records import BehaviourReport, BehaviourResult, Disagreement
from retraining.validation.behaviour.canaries import canaries
from retraining.validation.behaviour.case import Case, Model
from retraining.validation.behaviour.look import Look
from retraining.validation.behaviour.memorisation import memorisation
from retraining.validation.behaviour.regions import regions
from retraining.validation.behaviour.sources import sources
from retraining.validation.behaviour.transplant import transplant
from retraining.validation.behaviour.transplants import Measured
from retraining.validation.behaviour.window import window

__all__ = ["Case", "Model", "examine"]

_TRANSPLANTS: tuple[Callable[[Look], Measured], ...] = (transplant, window)
_OTHERS: tuple[Callable[[Look], BehaviourResult], ...] = (regions, sources, canaries, memorisation)


def examine(case: Case) -> BehaviourReport:
    """Make every check of one challenger; what cannot be measured says why."""
    # One thread: how many there are must not change the order in which sums are added up.
    with threadpool_limits(limits=1):
        look = Look(case)
        measured = [check(look) for check in _TRANSPLANTS]
        results = [item.result for item in measured] + [check(look) for check in _OTHERS]
        return BehaviourReport(
            results=tuple(results),
            false_alarm_rate=case.false_alarm_rate,
            power={
                f"{item.result.name}: {attack}": share
                for item in measured
                for attack, share in item.power.items()
            },
            disagreements=_disagreements(look),
            n_judging=len(look.judging),
        )


def _disagreements(look: Look) -> tuple[Disagreement, ...]:
    """Rows of the judging half that both models answer otherwise, most frequent change first."""
    if look.champion is None:
        return ()
    before, after = (
        model.log_probabilities(look.judging.features).argmax(axis=1)
        for model in (look.champion, look.challenger)
    )
    counts = Counter(
        (int(old), int(new)) for old, new in zip(before, after, strict=True) if old != new
    )
    return tuple(
        Disagreement(champion=look.class_name(old), challenger=look.class_name(new), n_rows=n)
        for (old, new), n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
