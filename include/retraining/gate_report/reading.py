"""Opens the signed records behind a decision, each by its digest and under the run's trust list."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from retraining.approvals import People, people_of
from retraining.chains import registry_chain
from retraining.digests import Digest, parse_json
from retraining.errors import ChainBrokenError, EvidenceError
from retraining.evidence import TrustList
from retraining.recording import StepResult, open_result
from retraining.records import (
    GateDecision,
    PinnedRun,
    ProvenanceReport,
    PurgeReport,
    Record,
    ScreeningReport,
    Step,
    TrainingReport,
    ValidationReport,
)
from retraining.registry import Registry
from retraining.spec import PipelineSpec, parse_spec
from retraining.store import Store
from retraining.trust_history import TrustHistory

R = TypeVar("R", bound=Record)

_NO_RECORD = "registry-head"  # an entry of the registry, which no step wrote


@dataclass(frozen=True, kw_only=True)
class SignedRecords:
    """The records that a gate decided from.

    Attributes:
        results: Every attestation with its report, by the name that the gate gives it.
        training, validation: Of the challenger that was judged.
        purges: In their order.
        trust: The list that they were verified under.
        people: What people had said when the run was pinned.
    """

    trust: TrustList
    people: People
    spec: PipelineSpec
    pinned: PinnedRun
    provenance: tuple[ProvenanceReport, ...]
    screening: ScreeningReport
    training: TrainingReport | None
    validation: ValidationReport | None
    purges: tuple[PurgeReport, ...]
    results: Mapping[str, StepResult[Record]]


@dataclass(frozen=True, kw_only=True)
class OpenedDecision:
    """A decision, and what was so when its run was pinned.

    Attributes:
        trust: The list that the run pinned.
        people: What people had said.
    """

    gate: StepResult[GateDecision]
    trust: TrustList
    people: People


def read_signed(
    store: Store, trust: TrustList, people: People, inputs: Mapping[str, Digest]
) -> SignedRecords:
    """Open every record that `inputs` names, signatures and digests verified.

    Raises:
        ChainBrokenError: The run was pinned under another trust list, or a record is missing.
        EvidenceError, ArtifactMissingError, ArtifactTamperedError: A record is not what its
            digest says.
    """
    # An auditor reads decisions of earlier releases too; what a gate believes is not asked here.
    results = {
        name: open_result(
            store, trust, cast(Step, name.partition("/")[0]), digest, of_another_release=True
        )
        for name, digest in sorted(inputs.items())
        if name != _NO_RECORD
    }
    pinned = _one(results, "pin", PinnedRun)
    screening = _one(results, "screening", ScreeningReport)
    if pinned is None or screening is None or pinned.trust_list != trust.digest:
        raise ChainBrokenError(
            f"Found the records {sorted(results)} under trust list version {trust.version};"
            " expected a pinned run of that list, and its screening. Run `retraining verify`."
        )
    return SignedRecords(
        trust=trust,
        people=people,
        spec=parse_spec(parse_json(store.get(pinned.spec)), origin=str(pinned.spec)),
        pinned=pinned,
        provenance=tuple(
            result.expect(ProvenanceReport).report
            for name, result in results.items()
            if name.startswith("provenance/")
        ),
        screening=screening,
        training=_one(results, "training", TrainingReport),
        validation=_one(results, "validation", ValidationReport),
        purges=tuple(
            result.expect(PurgeReport).report
            for name, result in results.items()  # few enough that names sort as numbers
            if name.startswith("purge/")
        ),
        results=results,
    )


def open_decision(store: Store, trust: TrustHistory, digest: Digest) -> OpenedDecision:
    """A decision by its attestation.

    Raises:
        EvidenceError: No list verifies it, or it is no decision.
        ChainBrokenError: The registry or the approvals that its run pinned are gone.
    """
    problem: EvidenceError | None = None
    for known in sorted(trust.lists.values(), key=lambda known: -known.version):
        try:
            gate = open_result(store, known, "gate", digest).expect(GateDecision)
            pin = open_result(store, known, "pin", gate.attestation.inputs["pin"]).expect(PinnedRun)
        except EvidenceError as error:
            problem = problem or error
            continue
        model = pin.report.model
        registry = Registry(model, tuple(registry_chain(store, trust, model).load()))
        return OpenedDecision(
            gate=gate,
            trust=trust.named(pin.report.trust_list),
            people=people_of(store, trust, pin.report, registry.before(pin.report.registry_head)),
        )
    raise problem or EvidenceError(f"No trust list verifies {digest}.")


def _one(results: Mapping[str, StepResult[Record]], name: str, kind: type[R]) -> R | None:
    return results[name].expect(kind).report if name in results else None
