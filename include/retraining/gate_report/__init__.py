"""The gate report: one page that says what the gate saw, for whoever is called at night.

A pure function of signed records, without clock, network or randomness: whoever has the records
makes the same bytes again, so the digest in the gate's record can be checked against a fresh page.
The page explains; it decides nothing and proves nothing by itself. `retraining verify` does.

`reading` opens the records, `page` says what is shown of them (and is the report for machines),
`charts` draws, `rendering` makes one HTML file that loads nothing and runs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from retraining.approvals import People
from retraining.digests import Digest
from retraining.errors import ArtifactMissingError
from retraining.evidence import TrustList
from retraining.gate_report.building import build_page
from retraining.gate_report.page import Page
from retraining.gate_report.reading import OpenedDecision, open_decision, read_signed
from retraining.gate_report.rendering import render
from retraining.records import GateDecision
from retraining.store import Store

__all__ = [
    "HTML",
    "JSON",
    "Page",
    "StoredPage",
    "build_page",
    "open_decision",
    "page_of",
    "render",
    "store_page",
    "stored_page",
]

# Under these names the gate's record lists them.
HTML = "gate_report.html"
JSON = "gate_report.json"


def page_of(
    store: Store,
    trust: TrustList,
    people: People,
    decision: GateDecision,
    inputs: Mapping[str, Digest],
) -> Page:
    """The page about a decision.

    Args:
        trust: The list that the run pinned.
        people: What people had said by then.
        inputs: Attestations that the gate decided from, by the names that it gives them.

    Raises:
        EvidenceError, ArtifactMissingError, ArtifactTamperedError: A record is not what its
            digest says.
    """
    return build_page(decision, read_signed(store, trust, people, inputs))


def store_page(
    store: Store,
    trust: TrustList,
    people: People,
    decision: GateDecision,
    inputs: Mapping[str, Digest],
) -> dict[str, Digest]:
    """Store the page and its JSON; return what the gate's record names: see `page_of`."""
    page = page_of(store, trust, people, decision, inputs)
    return {HTML: store.put(render(page)), JSON: store.put(page.to_json())}


@dataclass(frozen=True)
class StoredPage:
    """A page as the gate stored it, and the model that it is about."""

    model: str
    content: bytes


def stored_page(store: Store, decision: OpenedDecision, name: str) -> StoredPage:
    """The page that a decision's signed record names.

    Args:
        name: `HTML` or `JSON`.

    Raises:
        ArtifactMissingError: It names none, as those of early releases, or the bytes are gone.
        ArtifactTamperedError: They were changed.
    """
    named = decision.gate.attestation
    if name not in named.artefacts:
        raise ArtifactMissingError(f"The decision {named.digest} names no {name}.")
    return StoredPage(named.model, store.get(named.artefacts[name]))
