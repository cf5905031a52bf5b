"""Verifies a decision and its whole chain, from the delivered bytes to the verdict.

Promotion runs this before it appends, and an auditor runs it on a copy of the store, with the
root's public key, no network and no Airflow. The rules, in this order:

1. The decision and the pinned run are signed, by their roles, under the trust list that the run
   pinned, and the decision was made for this registry head and champion.
2. The spec, policy, reference set and holdout are those that the run pinned.
3. For every source and week, unless left out by hand, there is one ingest and one provenance
   record; every record of a step was asked exactly what the pinned run would ask (`step_requests`).
4. The screened batches are the verified ones; training read the accepted rows of this run and of
   promoted weeks in the window, nothing else, and none that a reviewer had confirmed as poison
   (`window`); its charges stand in the ledger; our accounting gives its epsilon again.
5. The gate, run again on these reports, gives the same decision, byte for byte.
6. Every artefact that a record names still has its digest.

Rule 5, the digests of requests in rule 3 and that of the policy in rule 2 are computed by code, so
they can be held only against the code of their day: a decision of another release is verified
without them, and `replayed` says so; there a validation may be signed by the pipeline, as it was
until 0.3. Promotion demands all of it.
"""

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from retraining.approvals import People, people_of
from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import ChainBrokenError, EvidenceError
from retraining.evidence import TrustList
from retraining.gate import decide
from retraining.privacy import epsilon_by_block, epsilon_spent
from retraining.recording import StepResult, open_result
from retraining.records import (
    Block,
    GateDecision,
    IngestReport,
    ModelManifest,
    PinnedRun,
    ProvenanceReport,
    Record,
    ScreeningReport,
    Step,
    TrainingReport,
    ValidationReport,
    WindowBlock,
)
from retraining.registry import Registry
from retraining.signed_chain import TrustHistory, charges_of, ledger_chain
from retraining.spec import parse_spec
from retraining.step_requests import PinnedContext, batches_of, code_version, trained_blocks
from retraining.store import Store
from retraining.verify.window import check_lineage, check_reviews, check_window

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class VerifiedDecision:
    """A decision whose whole chain was verified, with the reports that it was made from.

    Attributes:
        replayed: Whether the gate was run again, and every request computed again; False for a
            decision of another release, whose code `pinned` names.
        people: What people had said when the run was pinned.
    """

    digest: Digest
    replayed: bool
    decision: GateDecision
    pinned: PinnedContext
    provenance: tuple[ProvenanceReport, ...]
    screening: ScreeningReport
    training: TrainingReport | None
    validation: ValidationReport | None
    people: People


@dataclass
class ArtefactCheck:
    """Re-hashes artefacts, each once."""

    store: Store
    seen: set[Digest] = field(default_factory=set)

    def __call__(self, digests: Iterable[Digest]) -> None:
        """Raise ArtifactTamperedError or ArtifactMissingError for the first that is not whole."""
        with tempfile.TemporaryDirectory(prefix="retraining-verify-") as folder:
            for digest in digests:
                if digest not in self.seen:
                    target = Path(folder) / digest.hex
                    self.store.fetch(digest, target)
                    target.unlink()
                    self.seen.add(digest)


def verify_decision(
    store: Store,
    trust: TrustHistory,
    decision: Digest,
    before: Registry,
    *,
    rehash: ArtefactCheck | None = None,
) -> VerifiedDecision:
    """Verify the decision of that payload digest against the registry as it was before it.

    Args:
        before: The registry that the decision has to continue.
        rehash: Share one between calls to hash each artefact only once.

    Raises:
        ChainBrokenError: One of the rules does not hold; the message says which.
        EvidenceError, ArtifactTamperedError, ArtifactMissingError: A record or an artefact is
            not what its digest says.
    """
    chain = _Chain(store, *_trust_of(store, trust, decision))
    pinned = _pinned(chain)
    chain.require_for(pinned)
    said = chain.gate.report
    _require(
        (pinned.run.registry_head, pinned.run.champion) == (before.head, before.champion),
        f"The decision {decision} was made for the registry head {pinned.run.registry_head} and"
        f" the champion {pinned.run.champion}; the registry has {before.head} and"
        f" {before.champion}. It is an old decision, or the registry was changed; start the"
        " week again.",
    )
    _require(
        all(link.record.decision != decision for link in before.links),
        f"The decision {decision} was used before.",
    )
    _check_pin(pinned, before, replay=chain.replay)
    provenance = _check_sources(chain, pinned, before)
    window = before.accepted_blocks(pinned.run.week, window_weeks=pinned.spec.training.window_weeks)
    reviews = check_reviews(store, trust, pinned.run, before)
    screening = _check_screening(chain, pinned, provenance, window)
    if chain.replay or screening.window:
        check_window(store, trust, before, window, screening, pinned.spec)
    else:  # an older release trained on the history as the registry holds it
        screening = _with_whole_window(screening, window)
    check_lineage(store, screening, reviews.reviewed, pinned.spec)
    training = _check_training(chain, pinned, screening, trust)
    validation = _check_validation(chain, pinned)
    people = people_of(store, trust, pinned.run, before)
    if chain.replay:
        again = decide(
            pinned.run,
            pinned.digest,
            pinned.spec,
            list(provenance.values()),
            screening,
            training,
            validation,
            people=people,
        )
        _require(
            again == said,
            f"The gate, run again on the same reports, says {again.verdict} and not {said.verdict}"
            " with the checks on record. The decision was forged.",
        )
    (rehash or ArtefactCheck(store))([*chain.artefacts(), *(block.rows for block in window)])
    return VerifiedDecision(
        digest=decision,
        replayed=chain.replay,
        decision=said,
        pinned=pinned,
        provenance=tuple(provenance.values()),
        screening=screening,
        training=training,
        validation=validation,
        people=people,
    )


class _Chain:
    """The attestations that a gate's attestation names, opened under one trust list."""

    def __init__(
        self,
        store: Store,
        trust: TrustList,
        gate: StepResult[GateDecision],
        pin: StepResult[PinnedRun],
    ) -> None:
        self.store = store
        self.trust = trust
        self.gate = gate
        self.pin = pin
        self.replay = pin.report.code_version == code_version()
        self.inputs = dict(gate.attestation.inputs)
        self._opened: list[StepResult[Record]] = [gate, pin]
        self._model = ""

    def require_for(self, pinned: PinnedContext) -> None:
        """Every record from here on has to belong to this model."""
        self._model = pinned.run.model
        _require(
            {self.gate.attestation.model, self.pin.attestation.model} == {self._model},
            "The decision and the pinned run belong to different models.",
        )

    def take(
        self, step: Step, name: str, report_type: type[R], request: Digest | None
    ) -> StepResult[R] | None:
        """Open the input of that name, or None when the gate had none.

        With `request`, demand that the step was asked exactly that.
        """
        digest = self.inputs.pop(name, None)
        if digest is None:
            return None
        # Until 0.3 the pipeline signed validations. Nothing that cannot be replayed is promoted.
        result = open_result(
            self.store, self.trust, step, digest, of_another_release=not self.replay
        ).expect(report_type)
        _require(
            result.attestation.model == self._model,
            f"{name} is a record of another model: {digest}.",
        )
        if request is not None:
            self.require_request(result, request)
        self._opened.append(result)
        return result

    def require_request(self, result: StepResult[Record], request: Digest) -> None:
        """Raise ChainBrokenError unless the step was asked exactly this, by the code of today."""
        _require(
            not self.replay or result.attestation.request == request,
            f"The {result.attestation.step} record {result.attestation.digest} was made for"
            " another spec, policy, code version, trust list or input than this run pinned.",
        )

    def artefacts(self) -> list[Digest]:
        """Everything that the opened records name."""
        return [
            digest
            for result in self._opened
            for digest in (result.attestation.report, *result.attestation.artefacts.values())
        ]


def _trust_of(
    store: Store, trust: TrustHistory, decision: Digest
) -> tuple[TrustList, StepResult[GateDecision], StepResult[PinnedRun]]:
    """The list that the run pinned, and gate and pin opened under it."""
    problem: EvidenceError | None = None
    for candidate in sorted(trust.lists.values(), key=lambda t: -t.version):
        try:
            gate = open_result(store, candidate, "gate", decision).expect(GateDecision)
            named = gate.attestation.inputs["pin"]
            pin = open_result(store, candidate, "pin", named).expect(PinnedRun)
        except KeyError:
            problem = problem or EvidenceError(f"The decision {decision} names no pinned run.")
        except EvidenceError as error:
            problem = problem or error
        else:
            if pin.report.trust_list == candidate.digest:
                return candidate, gate, pin
    raise ChainBrokenError(
        f"The decision {decision} does not verify under any trust list: {problem}"
    )


def _pinned(chain: _Chain) -> PinnedContext:
    run = chain.pin.report
    _require(chain.inputs.pop("pin") == chain.pin.attestation.digest, "The pinned run differs.")
    head = chain.inputs.pop("registry-head", None)
    _require(head == run.registry_head, "The decision names another registry head than its run.")
    spec = parse_spec(parse_json(chain.store.get(run.spec)), origin=str(run.spec))
    return PinnedContext(chain.pin.attestation.digest, run, spec)


def _check_pin(pinned: PinnedContext, before: Registry, *, replay: bool) -> None:
    run, spec = pinned.run, pinned.spec
    same_policy = run.policy == Digest.of(canonical_json(spec.policy()))
    _require(
        (same_policy or not replay) and run.model == spec.model,
        "The pinned policy is not that of the pinned spec.",
    )
    _require(
        (run.reference, run.holdout) == (spec.reference.digest, spec.holdout.digest),
        "The reference set or holdout is not the one that the spec pins.",
    )
    weeks = before.pending_weeks(run.week, window_weeks=spec.training.window_weeks)
    _require(
        (run.weeks, run.attempt) == (weeks, before.attempt(run.week)),
        f"The run looked at the weeks {run.weeks}, the registry leaves {weeks} open.",
    )


def _check_sources(
    chain: _Chain, pinned: PinnedContext, before: Registry
) -> dict[Digest, ProvenanceReport]:
    reports: dict[Digest, ProvenanceReport] = {}
    for batch in pinned.batches():
        where = f"{batch.source}/{batch.week}"
        ingested = chain.take("ingest", f"ingest/{where}", IngestReport, None)
        if ingested is None:
            raise ChainBrokenError(f"The decision has no ingest record for {where}.")
        chain.require_request(ingested, pinned.ingest(batch, ingested.report.identity))
        history = before.history_of(batch.source)
        request = pinned.provenance(batch, ingested.attestation.digest, history)
        verified = chain.take("provenance", f"provenance/{where}", ProvenanceReport, request)
        if verified is None:
            raise ChainBrokenError(f"The decision has no provenance record for {where}.")
        _require(
            verified.report.batch == batch == ingested.report.batch
            and (verified.report.refusal is not None)
            | (verified.report.files == ingested.report.files),
            f"The provenance record of {where} is about other files than its ingest record.",
        )
        reports[verified.attestation.digest] = verified.report
    return reports


def _check_screening(
    chain: _Chain,
    pinned: PinnedContext,
    provenance: dict[Digest, ProvenanceReport],
    window: tuple[Block, ...],
) -> ScreeningReport:
    names = {f"provenance/{r.batch.source}/{r.batch.week}": d for d, r in provenance.items()}
    result = chain.take("screening", "screening", ScreeningReport, pinned.screening(names, window))
    if result is None:
        raise ChainBrokenError("The decision has no screening record.")
    known = {report.batch: report for report in provenance.values()}
    for screened in result.report.batches:
        report = known.pop(screened.batch, None)
        _require(
            report is not None
            and (screened.accepted is None or report.refusal is None)
            and screened.batch_digest == report.batch_digest,
            f"Screening accepted rows of {screened.batch} that provenance did not verify.",
        )
    _require(not known, f"Screening is silent about {sorted(map(str, known))}.")
    chain.inputs["#screening"] = result.attestation.digest
    return result.report


def _with_whole_window(screening: ScreeningReport, window: tuple[Block, ...]) -> ScreeningReport:
    whole = tuple(
        WindowBlock(batch=block.batch, before=block.rows, rows=block.rows, n_rows=0)
        for block in window
    )
    return screening.model_copy(update={"window": whole})


def _check_training(
    chain: _Chain, pinned: PinnedContext, screening: ScreeningReport, trust: TrustHistory
) -> TrainingReport | None:
    blocks = trained_blocks(screening)
    request = pinned.training(chain.inputs.pop("#screening"), blocks)
    result = chain.take("training", "training", TrainingReport, request)
    if result is None:
        return None
    report = result.report
    _require(report.blocks == blocks, "Training read other rows than those that were accepted.")
    chain.inputs["#training"] = result.attestation.digest
    if report.model is None:
        return report
    manifest = ModelManifest.from_json(chain.store.get(report.model))
    named = result.attestation.artefacts
    _require(
        named.get("model") == report.model
        and {manifest.weights, manifest.architecture, manifest.preprocessing} <= set(named.values())
        and manifest.classes == pinned.spec.label.classes,
        "The model's manifest names other files than its training record.",
    )
    links = ledger_chain(chain.store, trust, pinned.run.model).load()
    position = {link.digest: number for number, link in enumerate(links, start=1)}
    _require(
        bool(report.charges) and all(d in position for d in report.charges),
        "The training run is not in the privacy ledger.",
    )
    if report.run is None or report.delta is None or report.ledger_head is None:
        raise ChainBrokenError("The training record does not say what its run did.")
    charges = charges_of(links[: position.get(report.ledger_head, 0)])
    asked = request if chain.replay else result.attestation.request
    own = [charge for charge in charges if charge.request == asked]
    _require(
        report.delta == pinned.spec.training.delta
        and len(own) == len(report.charges)
        and all((charge.run, charge.blocks) == (report.run, batches_of(blocks)) for charge in own),
        "The privacy ledger charges another run than the one that was trained.",
    )
    spent = epsilon_by_block(charges, delta=report.delta, blocks=batches_of(blocks))
    _require(
        report.epsilon is not None
        and math.isclose(report.epsilon, epsilon_spent([report.run], delta=report.delta))
        and set(report.epsilon_by_block) == set(batches_of(blocks))
        and all(math.isclose(report.epsilon_by_block[b], spent[b]) for b in spent),
        "Our accounting gives another epsilon than the training record.",
    )
    return report


def _check_validation(chain: _Chain, pinned: PinnedContext) -> ValidationReport | None:
    trained = chain.inputs.pop("#training", None)
    request = pinned.validation(trained) if trained else None
    result = chain.take("validation", "validation", ValidationReport, request)
    _require(result is None or trained is not None, "A model was validated that nobody trained.")
    _require(not chain.inputs, f"The decision names unknown records: {sorted(chain.inputs)}.")
    return result.report if result else None


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ChainBrokenError(otherwise)
