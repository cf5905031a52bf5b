"""Our attestations: one statement per concluded step, in the predicates of the field.

SLSA provenance for pin, ingest, provenance, screening, training, purge, feedback and a rollback's
request;
our own `evaluation/v1` for validation and monitoring (they measure, they do not pass or fail; no
vetted predicate exists for that); a SLSA verification summary for the gate. The first subject is
always the step's `report`.

Sources: slsa.dev/spec/v1.1/provenance, slsa.dev/spec/v1.1/verification_summary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retraining.digests import Digest
from retraining.errors import EvidenceError
from retraining.evidence.envelope import OpenedRecord, Statement
from retraining.evidence.trust import TRUST_LIST, Role, TrustList
from retraining.records import Step

NAMESPACE = "https://secure-retraining.dev"
SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
VERIFICATION_SUMMARY = "https://slsa.dev/verification_summary/v1"
EVALUATION = f"{NAMESPACE}/evaluation/v1"
DATASET_BATCH = f"{NAMESPACE}/dataset-batch/v1"
REGISTRY_ENTRY = f"{NAMESPACE}/registry-entry/v1"
LEDGER_ENTRY = f"{NAMESPACE}/ledger-entry/v1"
FEEDBACK_ENTRY = f"{NAMESPACE}/feedback-entry/v1"
MONITORING_ENTRY = f"{NAMESPACE}/monitoring-entry/v1"
REVIEW_ENTRY = f"{NAMESPACE}/review-entry/v1"
INCIDENT_ENTRY = f"{NAMESPACE}/incident-entry/v1"
APPROVAL_ENTRY = f"{NAMESPACE}/approval-entry/v1"

_MEASURING: tuple[Step, ...] = ("validation", "monitoring")
# Validation joined them in 0.4: what the gate believes is measured where its key is.
_WITH_THE_PROMOTER: tuple[Step, ...] = ("validation", "purge", "gate", "promotion")
_EARLIER_SIGNERS: dict[Step, Role] = {"validation": "pipeline"}

__all__ = [
    "APPROVAL_ENTRY",
    "DATASET_BATCH",
    "EVALUATION",
    "FEEDBACK_ENTRY",
    "INCIDENT_ENTRY",
    "LEDGER_ENTRY",
    "MONITORING_ENTRY",
    "REGISTRY_ENTRY",
    "REVIEW_ENTRY",
    "SLSA_PROVENANCE",
    "TRUST_LIST",
    "VERIFICATION_SUMMARY",
    "Attestation",
    "Moment",
    "attest",
    "predicate_type_of",
    "read_attestation",
    "role_of",
]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When, and in which run, a step concluded. Stands in attestations, never in reports.

    Attributes:
        started_on: RFC 3339, UTC, by the signer's own clock: a claim, not a proof.
        run_id: Airflow's run id, or one that the command line made.
        requested_by: Who started the run, as Airflow or the shell says.
    """

    started_on: str
    finished_on: str
    run_id: str
    requested_by: str


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """One step's statement, verified and read back.

    Attributes:
        request: Digest of everything that the step was asked: what makes a result reusable.
            None for the gate, which is never reused.
        inputs: Attestations that it was made from, by name.
        artefacts: What it stored beside its report, by name.
    """

    digest: Digest
    key_id: str
    step: Step
    model: str
    week: str
    request: Digest | None
    report: Digest
    inputs: Mapping[str, Digest]
    artefacts: Mapping[str, Digest]


def role_of(step: Step) -> Role:
    """Which role signs a step: who measures, decides and promotes has the promoter's key."""
    return "promoter" if step in _WITH_THE_PROMOTER else "pipeline"


def predicate_type_of(step: Step) -> str:
    """The predicate in which a step is attested."""
    if step == "gate":
        return VERIFICATION_SUMMARY
    return EVALUATION if step in _MEASURING else SLSA_PROVENANCE


def attest(
    *,
    step: Step,
    model: str,
    week: str,
    request: Digest,
    report: Digest,
    inputs: Mapping[str, Digest],
    artefacts: Mapping[str, Digest],
    materials: Mapping[str, Digest],
    policy: Digest,
    passed: bool,
    code_version: Digest,
    moment: Moment,
) -> Statement:
    """Build the statement of one concluded step.

    Args:
        inputs: Payload digests of the earlier attestations that it read, by name.
        materials: Other artefacts that it read, such as the reference set.
        policy: Digest of the policy that the gate applied; only the gate names it.
        passed: Whether the gate said PROMOTE; only the gate names it.
    """
    version = {"retraining": code_version}
    dependencies = [_descriptor(f"attestation/{k}", d) for k, d in sorted(inputs.items())]
    metadata = {
        "invocationId": moment.run_id,
        "startedOn": moment.started_on,
        "finishedOn": moment.finished_on,
    }
    external = {
        "model": model,
        "week": week,
        "request": request,
        "requestedBy": moment.requested_by,
    }
    predicate: dict[str, Any]
    if step == "gate":
        predicate = {
            "verifier": {"id": f"{NAMESPACE}/gate", "version": version},
            "timeVerified": moment.finished_on,
            "resourceUri": f"model-slot:{model}/{week}",
            "policy": {"digest": {"sha256": policy.hex}},
            "inputAttestations": [
                {"uri": f"attestation:{k}", "digest": {"sha256": d.hex}}
                for k, d in sorted(inputs.items())
            ],
            "verificationResult": "PASSED" if passed else "FAILED",
            "verifiedLevels": [],
        }
    elif step in _MEASURING:
        predicate = {
            "evaluator": {"id": f"{NAMESPACE}/{step}", "version": version},
            "parameters": external,
            "inputs": dependencies + _materials(materials),
            "metadata": metadata,
        }
    else:
        predicate = {
            "buildDefinition": {
                "buildType": f"{NAMESPACE}/{step}/v1",
                "externalParameters": external,
                "internalParameters": {},
                "resolvedDependencies": dependencies + _materials(materials),
            },
            "runDetails": {
                "builder": {"id": f"{NAMESPACE}/steps", "version": version},
                "metadata": metadata,
            },
        }
    subjects = (("report", report), *sorted(artefacts.items()))
    return Statement(subjects=subjects, predicate_type=predicate_type_of(step), predicate=predicate)


def read_attestation(
    raw: bytes, trust: TrustList, *, step: Step, of_another_release: bool = False
) -> Attestation:
    """Verify that `raw` is an attestation of `step` by a key of its role, and read it back.

    Args:
        of_another_release: Also accept the role that signed this step in an earlier release. For
            a record of the past only: whoever holds the pipeline's key can sign such a one today.

    Raises:
        EvidenceError: It is not signed by that role, or is the record of another step.
    """
    roles = [role_of(step)]
    if of_another_release and step in _EARLIER_SIGNERS:
        roles.append(_EARLIER_SIGNERS[step])
    record = trust.open(raw, predicate_type=predicate_type_of(step), roles=roles)
    try:
        return _read(record, step)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EvidenceError(f"{record.digest} is not an attestation of {step}.") from error


def _read(record: OpenedRecord, step: Step) -> Attestation:
    predicate, request = record.predicate, None
    if step == "gate":
        slot, _, week = predicate["resourceUri"].rpartition("/")
        model = slot.removeprefix("model-slot:")
        inputs = {
            item["uri"].removeprefix("attestation:"): Digest.from_hex(item["digest"]["sha256"])
            for item in predicate["inputAttestations"]
        }
    else:
        if step in _MEASURING:
            if predicate["evaluator"]["id"] != f"{NAMESPACE}/{step}":
                raise EvidenceError(
                    f"Expected an attestation of {step}, found one by"
                    f" {predicate['evaluator']['id']!r}."
                )
            parameters, dependencies = predicate["parameters"], predicate["inputs"]
        else:
            definition = predicate["buildDefinition"]
            if definition["buildType"] != f"{NAMESPACE}/{step}/v1":
                raise EvidenceError(
                    f"Expected an attestation of {step}, found {definition['buildType']!r}."
                )
            parameters = definition["externalParameters"]
            dependencies = definition["resolvedDependencies"]
        model, week, request = parameters["model"], parameters["week"], parameters["request"]
        inputs = {
            item["name"].removeprefix("attestation/"): Digest.from_hex(item["digest"]["sha256"])
            for item in dependencies
            if item["name"].startswith("attestation/")
        }
    (first, report), *rest = record.subjects
    if first != "report":
        raise EvidenceError(f"{record.digest} does not name a report as its first subject.")
    return Attestation(
        digest=record.digest,
        key_id=record.key_id,
        step=step,
        model=model,
        week=week,
        request=Digest(request) if request else None,
        report=report,
        inputs=inputs,
        artefacts=dict(rest),
    )


def _descriptor(name: str, digest: Digest) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest.hex}}


def _materials(materials: Mapping[str, Digest]) -> list[dict[str, Any]]:
    return [_descriptor(f"artefact/{name}", digest) for name, digest in sorted(materials.items())]
