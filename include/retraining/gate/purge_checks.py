"""What a purge came to: may the challenger that was trained without its rows be promoted?"""

from collections.abc import Sequence
from dataclasses import dataclass

from retraining.records import (
    Check,
    JudgedChallenger,
    PurgeReport,
    TrainingReport,
    ValidationReport,
)
from retraining.spec import GatePolicy

NAME = "purge"
_MAX_NAMED = 3


@dataclass(frozen=True)
class Round:
    """A purge, and the challenger that was trained on what it left.

    Attributes:
        training, validation: None where nothing was trained, or the training was refused.
    """

    purge: PurgeReport
    training: TrainingReport | None
    validation: ValidationReport | None


def impossible(round_: Round) -> Check:
    """Why there is no challenger without the purged rows: noted, as the refused one is judged."""
    refusal = round_.purge.refusal or (round_.training.refusal if round_.training else None)
    why = refusal.sentence if refusal else "no second challenger was measured."
    return Check(
        name=NAME,
        verdict="PROMOTE",
        observed=f"{_taken(round_.purge)} taught the challenger what it was refused for. {why}",
        allowed="noted, and not judged",
    )


def outcome(
    policy: GatePolicy,
    rounds: Sequence[Round],
    earlier: Sequence[JudgedChallenger],
    *,
    passed: bool,
) -> Check:
    """What the last challenger is worth, which was trained without the purged rows.

    Args:
        rounds: Those that came to a challenger.
        earlier: The challengers that were refused, oldest first.
        passed: Whether the last one passed every other check.
    """
    taken = "; then ".join(_taken(round_.purge) for round_ in rounds)
    failed = [check.name for check in earlier[0].checks if check.verdict != "PROMOTE"]
    more = f" and {len(failed) - _MAX_NAMED} more" * (len(failed) > _MAX_NAMED)
    with_them = f"{earlier[0].verdict} with them ({', '.join(failed[:_MAX_NAMED])}{more}): {taken}"
    if not passed:
        return Check(
            name=NAME,
            verdict="PROMOTE",
            observed=f"{with_them}; without them a challenger does not pass either",
            allowed="noted, and not judged",
        )
    if policy.purge == "promote":
        return Check(
            name=NAME,
            verdict="PROMOTE",
            observed=f"{with_them}; without them PROMOTE",
            allowed="a purged challenger that passes is promoted (gate.purge)",
        )
    return Check(
        name=NAME,
        verdict="HOLD",
        observed=f"{with_them}; without them PROMOTE is possible",
        allowed="a person's yes (gate.purge: offer)",
        next_step=_next_step(rounds),
    )


def _taken(purge: PurgeReport) -> str:
    sources = f", all new rows of {', '.join(purge.sources)} among them" if purge.sources else ""
    batches = [str(left.batch) for left in purge.blocks if left.n_purged]
    more = f" and {len(batches) - _MAX_NAMED} more" * (len(batches) > _MAX_NAMED)
    return f"{purge.n_purged} rows of {', '.join(batches[:_MAX_NAMED])}{more}{sources}"


def _next_step(rounds: Sequence[Round]) -> str:
    sources = sorted({source for round_ in rounds for source in round_.purge.sources})
    without = f", or start the week again without {', '.join(sources)}" if sources else ""
    return f"approve the challenger that did not learn from these rows{without}"
