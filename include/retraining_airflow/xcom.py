"""What travels between tasks: one short string, the digests of signed records, comma-joined.

Anybody who may edit a run can change it, so it is only a hint: the steps verify whatever it points
at. What arrives may be any JSON.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from retraining.digests import Digest
from retraining.errors import EvidenceError

if TYPE_CHECKING:
    from retraining.steps import StepResult


def digests_of(results: "Iterable[StepResult[Any]]") -> str:
    """The digests of the signed records, comma-joined: what travels to the next task."""
    return ",".join(result.attestation.digest for result in results)


def parse_digests(task: str, found: Any) -> list[Digest]:
    """Read what one task, or every mapped instance of it, passed on.

    Raises:
        EvidenceError: Nothing arrived, or what arrived is no digest.
    """
    several = isinstance(found, Iterable) and not isinstance(found, str)
    texts = [text for text in (found if several else [found]) if text]
    if not texts:
        raise EvidenceError(
            f"No record of {task} arrived. Its task was marked by hand, or its XCom was removed;"
            " clear that task to run it."
        )
    return [Digest(part) for text in texts for part in str(text).split(",")]


def one_digest(task: str, found: Any) -> Digest:
    """Read what a task that has one record passed on; raises EvidenceError."""
    digests = parse_digests(task, found)
    if len(digests) != 1:
        raise EvidenceError(f"Expected one record of {task}, found {len(digests)}.")
    return digests[0]
