"""From a day's values to incidents: what somebody has to hear of, once.

An incident opens on the first day on which its value is breached and ends on the first day on which
it is acceptable again. A day that cannot tell changes nothing, so an outage that also stops the
labels does not end by falling silent.
"""

from collections.abc import Sequence

from retraining.monitoring.judging import Judged
from retraining.records import Incident


def after(
    open_before: Sequence[Incident], values: Sequence[Judged], *, day: str
) -> tuple[tuple[Incident, ...], tuple[str, ...]]:
    """The incidents that are open after `day`, oldest first, and the names of those that ended."""
    opened = {incident.name: incident.opened for incident in open_before}
    before = {incident.name: incident for incident in open_before}
    still: list[Incident] = []
    for judged in values:
        name, state = judged.value.name, judged.value.state
        if state == "breached":
            still.append(
                Incident(
                    name=name,
                    opened=opened.get(name, day),
                    observed=judged.observed,
                    allowed=judged.allowed,
                    next_step=judged.next_step,
                )
            )
        elif state == "insufficient" and name in before:
            still.append(before[name])
    ended = set(opened) - {incident.name for incident in still}
    return (
        tuple(sorted(still, key=lambda incident: (incident.opened, incident.name))),
        tuple(sorted(ended)),
    )
