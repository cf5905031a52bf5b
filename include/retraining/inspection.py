"""Finds whatever a digest names and says what it is: a step, an entry, a list, or an artefact."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from retraining.chains import registry_chain
from retraining.digests import Digest, parse_json
from retraining.errors import ArtifactMissingError, ConfigError, EvidenceError, RetrainingError
from retraining.evidence import (
    APPROVAL_ENTRY,
    FEEDBACK_ENTRY,
    INCIDENT_ENTRY,
    LEDGER_ENTRY,
    MONITORING_ENTRY,
    REGISTRY_ENTRY,
    REVIEW_ENTRY,
    TRUST_LIST,
)
from retraining.evidence.envelope import payload_digest
from retraining.evidence.statements import role_of
from retraining.evidence.trust import Role
from retraining.recording import open_result
from retraining.records import Step
from retraining.store import Store
from retraining.trust_history import TrustHistory

_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_CHAINS: dict[str, tuple[str, tuple[Role, ...]]] = {
    "registry": (REGISTRY_ENTRY, ("promoter",)),
    "ledger": (LEDGER_ENTRY, ("pipeline",)),
    "feedback": (FEEDBACK_ENTRY, ("pipeline",)),
    "monitoring": (MONITORING_ENTRY, ("pipeline",)),
    "reviews": (REVIEW_ENTRY, ("reviewer",)),
    "incidents": (INCIDENT_ENTRY, ("reviewer",)),
    "approvals": (APPROVAL_ENTRY, ("reviewer", "owner", "promoter")),
    "trust": (TRUST_LIST, ()),
}
_KINDS = {
    "trust": "trust list",
    "reviews": "review",
    "incidents": "incident",
    "approvals": "approval",
}


@dataclass(frozen=True, kw_only=True)
class FoundRecord:
    """What a digest names.

    Attributes:
        kind: `attestation of screening`, `registry entry`, `trust list`, `artefact`.
        verified: One sentence about its signature or its bytes.
        holds: Whether that sentence is good news.
        inputs: Attestations that it was made from.
        artefacts: What it names besides its report.
        body: The report, or the content when it is JSON; None for other bytes.
    """

    kind: str
    digest: Digest
    verified: str
    holds: bool = True
    inputs: Mapping[str, Digest] = field(default_factory=dict)
    artefacts: Mapping[str, Digest] = field(default_factory=dict)
    body: Any = None

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "kind": self.kind,
            "digest": self.digest,
            "verified": self.holds,
            "sentence": self.verified,
            "inputs": dict(self.inputs),
            "artefacts": dict(self.artefacts),
            "body": self.body,
        }


def find_record(store: Store, trust: TrustHistory, text: str) -> FoundRecord:
    """Find what `text` names: a digest, with or without prefix, or the first digits of a record's.

    Raises:
        ConfigError: It is no digest, or the digits fit several records.
        ArtifactMissingError: Nothing in the store has it.
        ArtifactTamperedError: The artefact's bytes were changed.
    """
    digits = text.removeprefix("sha256:").lower()
    if not _PREFIX.fullmatch(digits):
        raise ConfigError(
            f"Found {text[:80]!r}, expected a digest: 64 hexadecimal digits, or at least the first"
            " 6 of a record's."
        )
    named = {digest: name for digest, name in _records(store) if digest.hex.startswith(digits)}
    if len(named) > 1:
        raise ConfigError(f"{text} fits {len(named)} records. Give more digits.")
    if named:
        [(digest, name)] = named.items()
        return _describe(store, trust, digest, name)
    if len(digits) < 64:
        raise ArtifactMissingError(
            f"No record in {store.uri} begins with {text}. Artefacts need their whole digest."
        )
    return _artefact(store, Digest.from_hex(digits))


def find_decision(store: Store, trust: TrustHistory, text: str) -> Digest:
    """The gate's decision that `text` names; its attestation's digest.

    Args:
        text: Digits of its attestation; or the digest of its report, by which the gate report names
            it, once the registry has it.

    Raises:
        ConfigError: It names something else, or nothing certain; see `find_record`.
        ArtifactMissingError, ArtifactTamperedError: As `find_record`.
    """
    found = find_record(store, trust, text)
    if found.kind == "attestation of gate":
        return found.digest
    body = found.body if found.kind == "artefact" and isinstance(found.body, dict) else {}
    # Whoever can write an artefact may name any model in it: only registries that are there.
    registries = {name.split("/")[1] for name in store.names("registry")}
    if (model := body.get("model")) in registries:
        for link in registry_chain(store, trust, model).load():
            if link.record.decision_report == found.digest and link.record.verdict != "ROLLBACK":
                return link.record.decision
    raise ConfigError(
        f"{text} names {found.kind}, expected a gate's decision: the log of a gate and"
        " `retraining champions` say its digest."
    )


def _records(store: Store) -> Iterator[tuple[Digest, str]]:
    for name in store.names("attestations"):
        hexadecimal = name.rpartition("/")[2].partition(".")[0]
        if len(hexadecimal) == 64 and _PREFIX.fullmatch(hexadecimal):
            yield Digest.from_hex(hexadecimal), name
    for folder in _CHAINS:
        for name in store.names(folder):
            try:
                yield payload_digest(store.read(name)), name
            except EvidenceError:
                continue  # no record of ours; `retraining verify` says so


def _describe(store: Store, trust: TrustHistory, digest: Digest, name: str) -> FoundRecord:
    folder = name.partition("/")[0]
    if folder == "attestations":
        return _attestation(store, trust, digest)
    predicate_type, roles = _CHAINS[folder]
    kind = _KINDS.get(folder, f"{folder} entry")
    if not roles:  # every version was verified against the root key when it was loaded
        known = trust.lists[digest]
        keys = {key_id: key.model_dump(mode="json") for key_id, key in known.keys.items()}
        body = {"version": known.version, "keys": keys}
        return FoundRecord(kind=kind, digest=digest, verified="Signed by root.", body=body)
    raw, problem = store.read(name), "no trust list"
    for known in _newest_first(trust):
        try:
            record = known.open(raw, predicate_type=predicate_type, roles=roles)
        except EvidenceError as error:
            problem = str(error)
            continue
        role = next(role for role in roles if record.key_id in known.keys_for([role]))
        said = f"Signed by {record.key_id}, {role} of trust list version {known.version}: {name}"
        return FoundRecord(kind=kind, digest=digest, verified=said, body=dict(record.predicate))
    return FoundRecord(kind=kind, digest=digest, verified=f"NOT VERIFIED: {problem}", holds=False)


def _attestation(store: Store, trust: TrustHistory, digest: Digest) -> FoundRecord:
    problem: RetrainingError | None = None
    for step in get_args(Step):
        if step == "promotion":
            continue  # its record is the registry entry
        for known in _newest_first(trust):
            try:
                result = open_result(store, known, step, digest, of_another_release=True)
            except RetrainingError as error:
                # What the other steps say is only that it is none of theirs.
                problem = problem or error
                continue
            key_id, roles = result.attestation.key_id, known.keys[result.attestation.key_id].roles
            said = (
                f"Signed by {key_id}, {' and '.join(roles)} of trust list version"
                f" {known.version}, for {result.attestation.model} {result.attestation.week}."
            )
            if role_of(step) not in roles:
                said += (
                    f" That role signed {step} in an earlier release; no gate believes it today."
                )
            return FoundRecord(
                kind=f"attestation of {step}",
                digest=digest,
                verified=said,
                inputs=result.attestation.inputs,
                artefacts={"report": result.attestation.report, **result.attestation.artefacts},
                body=result.report.model_dump(mode="json"),
            )
    return FoundRecord(
        kind="attestation", digest=digest, verified=f"NOT VERIFIED: {problem}", holds=False
    )


def _artefact(store: Store, digest: Digest) -> FoundRecord:
    data = store.get(digest)
    said = f"Its {len(data):,} bytes have this digest."
    try:
        body = parse_json(data)
    except (EvidenceError, UnicodeDecodeError):
        body = None
    return FoundRecord(kind="artefact", digest=digest, verified=said, body=body)


def _newest_first(trust: TrustHistory) -> list[Any]:
    return sorted(trust.lists.values(), key=lambda known: -known.version)
