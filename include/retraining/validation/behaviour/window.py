"""Window: what did all rows of the window teach the challenger, against the reference set alone?

A slow drip has taught the champion already, so nothing differs between it and the challenger. The
root stand-in learned from the vetted rows only, and has nothing to forget.
"""

from retraining.screening.surrogate import Surrogate
from retraining.validation.behaviour.look import Look, Sampled
from retraining.validation.behaviour.standins import fit_standin
from retraining.validation.behaviour.tracing import nothing_measured
from retraining.validation.behaviour.transplants import MEASURE, Measured, measure_transplants

ONE_CLASS = "the reference set has rows of one class only. Pin one with rows of every class."


def root_of(look: Look) -> Surrogate | None:
    """The root stand-in; None where the reference set has one class only."""
    case = look.case
    model = fit_standin(case.reference, reference=case.reference, spec=case.spec)
    return look.surrogate(model) if model is not None else None


def window(look: Look) -> Measured:
    """Count rows of the window whose values turn the judging half, against the root stand-in."""
    root = root_of(look)
    if root is None:
        return Measured(nothing_measured("window", MEASURE, ONE_CLASS))
    return measure_transplants(
        look,
        root,
        Sampled.joined([look.history, look.new]),
        look.tuning,
        look.judging,
        name="window",
        against="a model of the reference set alone",
        batches={**look.case.history, **look.case.new},
    )
