"""Transplant: what did the new rows teach the challenger, against the champion?"""

from retraining.screening.rows import Rows
from retraining.validation.behaviour.look import Look
from retraining.validation.behaviour.tracing import nothing_measured
from retraining.validation.behaviour.transplants import MEASURE, Measured, measure_transplants


def transplant(look: Look) -> Measured:
    """Count new rows whose values turn the judging half for the challenger alone."""
    if look.champion is None:
        why = "there is no champion to compare the challenger with."
        return Measured(nothing_measured("transplant", MEASURE, why))
    return measure_transplants(
        look,
        look.champion,
        look.new,
        Rows.joined([look.tuning, look.reference]),
        look.judging,
        name="transplant",
        against="the champion",
        batches=look.case.new,
    )
