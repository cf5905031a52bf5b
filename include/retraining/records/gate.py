"""The week's one decision, and every check behind it."""

from retraining.digests import Digest
from retraining.records.base import Record, Verdict, Week


class Check(Record):
    """One check of the gate: what was seen, what is allowed, and what follows from it."""

    name: str
    verdict: Verdict
    observed: str
    allowed: str
    next_step: str = ""


class JudgedChallenger(Record):
    """A challenger of the same run that was refused, before what taught it was taken out.

    Attributes:
        checks: Those on the challenger itself; what the data were like stands in the decision.
    """

    challenger: Digest
    verdict: Verdict
    checks: tuple[Check, ...]


class GateDecision(Record):
    """The week's one decision, with every check behind it.

    Attributes:
        challenger: The last that was trained and measured: of the rows that were left, where a
            purge came before it.
        earlier: Those before it, in their order; empty when nothing was purged.
    """

    model: str
    week: Week
    pinned_run: Digest
    verdict: Verdict
    checks: tuple[Check, ...]
    challenger: Digest | None
    champion: Digest | None
    registry_head: Digest | None
    policy: Digest
    spec: Digest
    dry_run: bool = False
    earlier: tuple[JudgedChallenger, ...] = ()

    @property
    def promotes(self) -> bool:
        """Whether promotion may follow."""
        return self.verdict == "PROMOTE" and not self.dry_run

    @property
    def judged(self) -> int:
        """Which of the run's challengers was judged last, from 1."""
        return len(self.earlier) + 1

    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass, REJECT first."""
        failed = [check for check in self.checks if check.verdict != "PROMOTE"]
        return tuple(sorted(failed, key=lambda check: check.verdict != "REJECT"))
