"""Reads what the pages show: one signed decision, and the page that it names."""

from retraining.digests import Digest
from retraining.errors import ArtifactMissingError
from retraining.evidence import public_key_of
from retraining.gate_report import StoredPage, open_decision, stored_page
from retraining.settings import Settings
from retraining.store import Store, open_store
from retraining.trust_history import TrustHistory
from retraining_airflow.settings import s3_client_factory


def page_of(digits: str, name: str) -> StoredPage:
    """The page of a decision, its signature and the page's digest verified.

    Args:
        digits: The first digits of the gate's attestation.
        name: `HTML` or `JSON` of the gate report.

    Raises:
        ConfigError, StoreUnreachableError: This machine cannot read the store.
        EvidenceError, ArtifactMissingError, ArtifactTamperedError: There is no such decision, it
            names no page, or something is not what its digest says.
    """
    settings = Settings.load()
    store = open_store(
        settings.store,
        must_exist=True,
        client_factory=s3_client_factory(settings.store_connection),
    )
    trust = TrustHistory.load(store, public_key_of(settings.root_key, "root"))
    return stored_page(store, open_decision(store, trust, _attestation(store, digits)), name)


def _attestation(store: Store, digits: str) -> Digest:
    names = [name.rpartition("/")[2].partition(".")[0] for name in store.names("attestations")]
    found = [name for name in names if name.startswith(digits)]
    if len(found) != 1:
        raise ArtifactMissingError(f"{len(found)} attestations begin with {digits}.")
    return Digest.from_hex(found[0])
