"""What a review or an incident is about, found by the names that people give it."""

from retraining.digests import Digest
from retraining.errors import ReviewRefusedError
from retraining.inspection import find_record
from retraining.records import Pattern, ReviewSubject
from retraining.reviews import named_screening
from retraining.steps.workbench import Workbench


def pattern_of(bench: Workbench, model: str, screening: str, number: int) -> tuple[Digest, Pattern]:
    """The screening, and the pattern of that number (from 1) that it found.

    Raises:
        ReviewRefusedError: It found no pattern of that number, or is no screening of the model.
    """
    digest = screening_of(bench, screening)
    newest = bench.trust.latest.version
    patterns = named_screening(
        bench.store, bench.trust, model, digest, trust_version=newest
    ).patterns
    if not 1 <= number <= len(patterns):
        raise ReviewRefusedError(
            f"The screening {digest} found {len(patterns)} patterns; there is no number {number}."
        )
    return digest, patterns[number - 1]


def screening_of(bench: Workbench, text: str) -> Digest:
    """A screening by its digits, or by those of the decision that was made from it."""
    found = find_record(bench.store, bench.trust, text)
    if found.kind == "attestation of gate":
        return found.inputs["screening"]
    if found.kind != "attestation of screening":
        raise ReviewRefusedError(
            f"--screening: {text} is an {found.kind}, expected one of screening or gate."
        )
    return found.digest


def batches_of(bench: Workbench, model: str, source: str) -> tuple[ReviewSubject, ...]:
    """All batches of a source that a concluded run took, in order."""
    found = {known.batch for known in bench.registry(model).history_of(source)}
    return tuple(ReviewSubject(batch=batch) for batch in sorted(found, key=str))
