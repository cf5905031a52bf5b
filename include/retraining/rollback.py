"""Rollback: a signed request becomes the next entry of the registry, and an older version serves.

Or none does: version 0 stands for that, as before the first promotion.

Pure, like promotion: what the entry says follows from the request and the registry before it, so
an auditor can derive it again and compare. Nothing is rewritten: the promotion that is taken back
stays on record, and so does whoever took it back.
"""

from dataclasses import dataclass

from retraining.digests import Digest, canonical_json
from retraining.errors import ChainBrokenError, RegistryMovedError, RollbackRefusedError
from retraining.evidence import TrustList
from retraining.recording import StepResult, open_result
from retraining.records import RegistryEntry, RollbackRequest
from retraining.registry import Registry
from retraining.signed_chain import Link
from retraining.store import Store
from retraining.trust_history import TrustHistory
from retraining.verify import ArtefactCheck, VerifiedDecision, verify_decision

_SHORTEST_REASON = 3  # characters, as in the record


@dataclass(frozen=True, kw_only=True)
class VerifiedRollback:
    """A request whose signature holds, for a version whose whole chain was verified again.

    Attributes:
        digest: Payload digest of the request's attestation.
        named: The entry that promoted the wanted version; see `named_by`.
        decision: The decision that promoted it, verified against the registry of its day; None
            when no version shall serve, which nothing that was broken may stand in the way of.
    """

    digest: Digest
    request: RollbackRequest
    named: Link[RegistryEntry]
    decision: VerifiedDecision | None


def ask(
    registry: Registry, *, to_version: int, convict: bool, reason: str, spec: Digest
) -> RollbackRequest:
    """The request for that version, made for the registry as it is.

    Raises:
        RollbackRefusedError: The version does not exist, serves already, was convicted of poison,
            or nothing is there to be convicted; the message names the versions that may serve.
    """
    if len(reason.strip()) < _SHORTEST_REASON:
        raise RollbackRefusedError("Say why the model is rolled back: the reason goes on record.")
    _require_possible(registry, to_version, convict=convict)
    if registry.head is None:  # for the type checker: no version stands in an empty registry
        raise RollbackRefusedError(f"{registry.model} has no version yet.")
    return RollbackRequest(
        model=registry.model,
        registry_head=registry.head,
        gives_up=registry.version,
        to_version=to_version,
        convict=convict,
        reason=reason.strip(),
        spec=spec,
    )


def request_digest(request: RollbackRequest, *, code: Digest, trust_list: Digest) -> Digest:
    """Digest of everything that was asked, for the request's attestation."""
    asked = {"step": "rollback", "code": code, "trust_list": trust_list}
    return Digest.of(canonical_json(asked | {"request": request.identity}))


def named_inputs(request: RollbackRequest, registry: Registry) -> dict[str, Digest]:
    """The registry entries that the request's attestation names: the newest, and the wanted."""
    promoted = named_by(registry, request.to_version)
    return {"registry-head": request.registry_head, "promotion": promoted.digest}


def named_by(registry: Registry, to_version: int) -> Link[RegistryEntry]:
    """The entry whose week and pipeline file a rollback names.

    That which promoted the wanted version; of a withdrawal, the version that is given up.

    Raises:
        RollbackRefusedError: There is no such version.
    """
    found = registry.promotions.get(to_version)
    if not to_version:
        found = registry.serving or registry.withdrawn
    if found is None:
        raise RollbackRefusedError(
            f"{registry.model} has no version {to_version or 'yet'}; {_may_serve(registry)}."
        )
    return found


def verify_rollback(
    store: Store,
    trust: TrustHistory,
    digest: Digest,
    before: Registry,
    *,
    under: TrustList,
    rehash: ArtefactCheck | None = None,
) -> VerifiedRollback:
    """Verify a request, and the version that it asks for, against the registry before it.

    Args:
        digest: Payload digest of the request's attestation.
        before: The registry that the rollback has to continue.
        under: The trust list under which the request has to be signed: that of the entry.
        rehash: Share one between calls to hash each artefact only once.

    Raises:
        RegistryMovedError: The request was made for another registry head.
        RollbackRefusedError: The version may not serve; see `ask`.
        ChainBrokenError: The request, or the chain behind the old version, does not hold.
        EvidenceError, ArtifactTamperedError, ArtifactMissingError: A record or an artefact is
            not what its digest says.
    """
    asked = open_result(store, under, "rollback", digest).expect(RollbackRequest)
    named = _check_request(asked, before)
    rehash = rehash or ArtefactCheck(store)
    rehash((asked.attestation.report, asked.report.spec))
    decision = None
    if asked.report.to_version:
        then = before.before(named.record.previous)
        decision = verify_decision(store, trust, named.record.decision, then, rehash=rehash)
    return VerifiedRollback(digest=digest, request=asked.report, named=named, decision=decision)


def next_entry(verified: VerifiedRollback, before: Registry, trust: TrustList) -> RegistryEntry:
    """The registry entry that a verified rollback leads to."""
    request, named = verified.request, verified.named.record
    above = (number for number in before.standing if number > request.to_version)
    return RegistryEntry(
        model=request.model,
        sequence=len(before.links) + 1,
        previous=before.head,
        verdict="ROLLBACK",
        week=named.week,
        attempt=named.attempt,
        decision=verified.digest,
        decision_report=request.identity,
        spec=named.spec,
        policy=named.policy,
        trust_list=trust.digest,
        trust_version=trust.version,
        batches=(),
        ledger_head=before.links[-1].record.ledger_head,
        champion=named.champion if request.to_version else None,
        version=request.to_version,
        convicted=tuple(above) if request.convict else (),
    )


def _check_request(asked: StepResult[RollbackRequest], before: Registry) -> Link[RegistryEntry]:
    request, named = asked.report, asked.attestation
    if {request.model, named.model} != {before.model}:
        raise ChainBrokenError(
            f"The request {named.digest} is about {request.model}, not about {before.model};"
            " nothing was rolled back."
        )
    if request.registry_head != before.head:
        raise RegistryMovedError(
            f"The registry of {before.model} gained an entry since this rollback was asked for, or"
            " it was carried out already. Nothing was rolled back by this one; look at `retraining"
            f" champions {before.model}`, and ask again if it is still wanted."
        )
    _require_possible(before, request.to_version, convict=request.convict)
    promoted = named_by(before, request.to_version)
    if (
        request.gives_up != before.version
        or named.week != promoted.record.week
        or dict(named.inputs) != named_inputs(request, before)
    ):
        raise ChainBrokenError(
            f"The request {named.digest} does not describe the registry that it names: it was"
            " forged. Find out who can use the pipeline's key."
        )
    return promoted


def _require_possible(registry: Registry, version: int, *, convict: bool) -> None:
    """Raise RollbackRefusedError when that version may not serve, or nothing would change."""
    named_by(registry, version)
    if by := registry.convicted.get(version):
        raise RollbackRefusedError(
            f"Version {version} of {registry.model} was convicted of poison by registry entry"
            f" {by.record.sequence} (`retraining show {by.digest}`) and never serves again;"
            f" {_may_serve(registry)}."
        )
    above = [number for number in registry.standing if number > version]
    if convict and not above:
        raise RollbackRefusedError(
            f"No version of {registry.model} above {version} is left to be convicted; ask without,"
            " or for an older version."
        )
    if version == registry.version and not convict:
        serves = f"Version {version} of {registry.model} serves already"
        found = serves if version else f"No version of {registry.model} serves as it is"
        raise RollbackRefusedError(f"{found}; {_may_serve(registry)}.")


def _may_serve(registry: Registry) -> str:
    return f"versions that may serve: {', '.join(map(str, registry.standing)) or 'none'}"
