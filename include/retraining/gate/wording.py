"""The one sentence that the on-call reads at three in the morning, before anything else."""

from retraining.records import Check, GateDecision

MAX_CHARACTERS = 900
_MAX_CHECKS = 3
_MAX_ADDRESS = 200
_MAX_PART = 150


def sentence(decision: GateDecision, report_address: str, *, approve: str = "") -> str:
    """Say what was decided, why, what to do next and where to read on, in at most 900 characters.

    Args:
        report_address: Where the whole decision can be read: a link, or a command.
        approve: The command that approves it, where that may be done. It names the decision's own
            digest, which the decision cannot know.
    """
    what = f"{decision.verdict}: {decision.model} {decision.week}"
    where = f"full report: {_cut(report_address, _MAX_ADDRESS)}"
    dry = " in a dry run, which promotes nothing" if decision.dry_run else ""
    failed = decision.failed()
    if not failed:
        return f"{what} passed all {len(decision.checks)} checks{dry}; {where}"
    kept = "the champion keeps serving" if decision.champion else "no model serves"
    reasons = "; ".join(_reason(check) for check in failed[:_MAX_CHECKS])
    if (more := len(failed) - _MAX_CHECKS) > 0:
        reasons += f"; and {more} more"
    steps = list(dict.fromkeys(check.next_step for check in failed if check.next_step))
    head = f"{what} was not promoted{dry} ({kept}) because "
    tail = f"; next: {_cut(steps[0], _MAX_PART)}" if steps else ""
    tail += f"; or approve it: {approve}" if approve else ""
    tail += f"; {where}"
    return head + _cut(reasons, MAX_CHARACTERS - len(head) - len(tail)) + tail


def _reason(check: Check) -> str:
    observed = _cut(check.observed.rstrip("."), _MAX_PART if _is_short(check) else 2 * _MAX_PART)
    return f"{check.name}: {observed} (allowed: {_cut(check.allowed, _MAX_PART)})"


def _is_short(check: Check) -> bool:
    return not check.name.startswith(("source ", "screening", "training", "behaviour"))


def _cut(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
