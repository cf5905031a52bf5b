"""Rollback: somebody's signed request, and the registry entry by which an older version serves.

Or none serves: that is asked for as version 0.

Two steps, because two keys sign: whoever asks does so with the pipeline's key, and only where the
promoter's key is does the older version serve again. A kill between the two changes nothing.
"""

from retraining import rollback
from retraining.chains import registry_chain
from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import (
    BatchRefusedError,
    EvidenceError,
    NameTakenError,
    RegistryMovedError,
    RollbackRefusedError,
)
from retraining.recording import StepResult
from retraining.records import RegistryEntry, RollbackRequest
from retraining.registry import Registry
from retraining.signed_chain import Link
from retraining.spec import PipelineSpec, load_spec, parse_spec
from retraining.step_requests import code_version
from retraining.steps.pinning import pin_data
from retraining.steps.workbench import Workbench


def request_rollback(
    bench: Workbench, model: str, *, to_version: int, reason: str, convict: bool = False
) -> StepResult[RollbackRequest]:
    """Put on record, signed, that somebody wants an older version to serve. Changes nothing yet.

    Args:
        to_version: 0: none shall serve.
        convict: Every standing version above `to_version` learned from poison.

    Raises:
        RollbackRefusedError: That version may not serve; the message says which may.
        SpecError, ConfigError: The pipeline file or the installation is wrong.
    """
    spec = load_spec(bench.settings.pipelines / f"{model}.yaml")
    registry = bench.registry(model)
    recorder = bench.recorder()
    started = recorder.started()
    resolved = bench.store.put(spec.to_json())
    request = rollback.ask(
        registry, to_version=to_version, convict=convict, reason=reason, spec=resolved
    )
    named = rollback.named_by(registry, to_version).record
    result = recorder.conclude(
        "rollback",
        request,
        model=model,
        week=named.week,
        request=rollback.request_digest(
            request, code=code_version(), trust_list=bench.trust.latest.digest
        ),
        started_on=started,
        inputs=rollback.named_inputs(request, registry),
        artefacts={"spec": resolved},
        materials=_needed_to_serve(bench, spec, named) if to_version else {},
        policy=Digest.of(canonical_json(spec.policy())),
        memo=False,
    )
    bench.log(
        f"rollback {model}: version {request.gives_up} to version {to_version} was asked for"
        f" [{result.attestation.digest}]"
    )
    return result


def _needed_to_serve(
    bench: Workbench, spec: PipelineSpec, promoted: RegistryEntry
) -> dict[str, Digest]:
    reference = pin_data(bench, spec.reference, "reference")
    return {"reference": reference} | ({"model": promoted.champion} if promoted.champion else {})


def restore(bench: Workbench, request: Digest) -> Link[RegistryEntry]:
    """Verify the request and the old version, and append the entry by which it serves.

    The digest may come from anybody: without a signed request for the newest registry entry
    nothing is appended, and a convicted version is refused whoever signed.

    Raises:
        RegistryMovedError: The registry gained an entry since it was asked for.
        RollbackRefusedError: That version may not serve, or no longer fits the pipeline file.
        EvidenceError, ArtifactTamperedError, ArtifactMissingError: The request, or something
            behind the old version, is not what it has to be.
    """
    asked = bench.open_any("rollback", request, RollbackRequest).report
    registry = bench.registry(asked.model)
    newest = registry.links[-1] if registry.links else None
    if newest and newest.record.decision == request and newest.record.verdict == "ROLLBACK":
        bench.memory.remember(registry)
        bench.mirror.rolled_back(newest.record)
        return newest  # a retry after the append: rolled back exactly once
    trust = bench.trust.latest
    verified = rollback.verify_rollback(bench.store, bench.trust, request, registry, under=trust)
    entry = rollback.next_entry(verified, registry, trust)
    if entry.version:
        _require_predictions(bench, verified.request, entry)
    chain = registry_chain(bench.store, bench.trust, registry.model)
    try:
        link = chain.append(entry, bench.keys.signer("promoter", trust))
    except NameTakenError as error:
        raise RegistryMovedError(
            f"Another run of {registry.model} was concluded first. Nothing was rolled back; ask"
            " again if it is still wanted."
        ) from error
    bench.memory.remember(Registry(registry.model, (*registry.links, link)))
    serves = f"version {entry.version}" if entry.version else "no version"
    bench.log(f"rollback {registry.model}: {serves} serves [{link.digest}]")
    bench.mirror.rolled_back(entry)
    return link


def _require_predictions(bench: Workbench, request: RollbackRequest, entry: RegistryEntry) -> None:
    """Raise unless the old model answers the rows of today's reference set with today's classes."""
    import numpy as np

    from retraining.models import load_model

    raw = bench.store.get(request.spec)
    spec = parse_spec(parse_json(raw), origin=str(request.spec))
    if entry.champion is None:
        raise EvidenceError(f"Version {entry.version} of {entry.model} names no model.")
    model = load_model(bench.store, entry.champion)
    if model.classes != spec.label.classes:
        raise RollbackRefusedError(
            f"Version {entry.version} of {entry.model} knows the classes {list(model.classes)}, the"
            f" pipeline file has {list(spec.label.classes)}. Restore the pipeline file first."
        )
    with bench.workdir("rollback") as workdir:
        rows = bench.vetted_frame(spec, "reference", workdir)
    try:
        probabilities = model.predict(rows)
    except BatchRefusedError as error:
        raise RollbackRefusedError(
            f"Version {entry.version} of {entry.model} cannot answer rows of today's reference set"
            f" ({error}) Restore the pipeline file of its day first."
        ) from error
    expected = (len(rows), len(model.classes))
    if probabilities.shape != expected or not np.isfinite(probabilities).all():
        raise EvidenceError(
            f"Version {entry.version} of {entry.model} answers rows of the reference set with"
            " numbers that are no probabilities. Do not use this model."
        )
