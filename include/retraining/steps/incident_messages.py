"""Which incidents somebody still has to be told of, and the note that it was done.

What is open stands in the signed chain of monitored days. That a message went out is a plain record
beside it: whoever can write to the store could silence a message, but neither open nor end an
incident.
"""

from retraining.chains import monitoring_chain
from retraining.digests import Digest, canonical_json
from retraining.errors import NameTakenError
from retraining.records import Incident, MonitoringEntry
from retraining.steps.workbench import Workbench


def newest_monitored(bench: Workbench, model: str) -> MonitoringEntry | None:
    """The newest monitored day of a model."""
    links = monitoring_chain(bench.store, bench.trust, model).load()
    return links[-1].record if links else None


def unsent_incidents(bench: Workbench, entry: MonitoringEntry) -> list[Incident]:
    """Incidents that were open on that day and that nobody was told of yet, oldest first."""
    sent = set(bench.store.names(f"notified/{entry.model}"))
    return [item for item in entry.incidents if _marker(entry.model, item) not in sent]


def note_sent(bench: Workbench, model: str, incident: Incident) -> None:
    """Note that somebody was told of an incident, so that nobody is told twice."""
    note = {"incident": incident.name, "opened": incident.opened}
    try:
        bench.store.create(_marker(model, incident), canonical_json(note))
    except NameTakenError:
        return


def _marker(model: str, incident: Incident) -> str:
    # The name of a column may hold anything; a digest may stand in a file name.
    return f"notified/{model}/{Digest.of(incident.name.encode()).hex[:16]}-{incident.opened}"
