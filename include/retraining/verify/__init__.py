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
   (`window`); its charges stand in the ledger; our accounting gives its epsilon again. Where rows
   were purged after that and a challenger trained again, the same holds for it (`challengers`).
5. The gate, run again on these reports, gives the same decision, byte for byte.
6. Every artefact that a record names still has its digest.

Rule 5, the digests of requests in rule 3 and that of the policy in rule 2 are computed by code, so
they can be held only against the code of their day: a decision of another release is verified
without them, and `replayed` says so; there a validation may be signed by the pipeline, as it was
until 0.3. Promotion demands all of it.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from retraining.approvals import People, people_of
from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import ChainBrokenError, EvidenceError
from retraining.evidence import TrustList
from retraining.gate import Round, decide
from retraining.recording import StepResult, open_result
from retraining.records import (
    Block,
    GateDecision,
    IngestReport,
    PinnedRun,
    ProvenanceReport,
    PurgeReport,
    ScreeningReport,
    TrainingReport,
    ValidationReport,
    WindowBlock,
)
from retraining.registry import Registry
from retraining.spec import parse_spec
from retraining.step_requests import PinnedContext
from retraining.store import Store
from retraining.trust_history import TrustHistory
from retraining.verify.chain import Chain, require
from retraining.verify.challengers import check_challengers
from retraining.verify.window import check_lineage, check_reviews, check_window


@dataclass(frozen=True, kw_only=True)
class VerifiedDecision:
    """A decision whose whole chain was verified, with the reports that it was made from.

    Attributes:
        replayed: Whether the gate was run again, and every request computed again; False for a
            decision of another release, whose code `pinned` names.
        training, validation: Of the challenger that was judged.
        purge: What left the rows that it learned from; None when nothing was purged before.
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
    purge: PurgeReport | None
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
    chain = Chain(store, *_trust_of(store, trust, decision))
    pinned = _pinned(chain)
    chain.require_for(pinned)
    said = chain.gate.report
    require(
        (pinned.run.registry_head, pinned.run.champion) == (before.head, before.champion),
        f"The decision {decision} was made for the registry head {pinned.run.registry_head} and"
        f" the champion {pinned.run.champion}; the registry has {before.head} and"
        f" {before.champion}. It is an old decision, or the registry was changed; start the"
        " week again.",
    )
    require(
        all(link.record.decision != decision for link in before.links),
        f"The decision {decision} was used before.",
    )
    _check_pin(pinned, before, replay=chain.replay)
    provenance = _check_sources(chain, pinned, before)
    window = before.accepted_blocks(pinned.run.week, window_weeks=pinned.spec.training.window_weeks)
    reviews = check_reviews(store, trust, pinned.run, before)
    screened = _check_screening(chain, pinned, provenance, window)
    screening = screened.report
    if chain.replay or screening.window:
        check_window(store, trust, before, window, screening, pinned.spec)
    else:  # an older release trained on the history as the registry holds it
        screening = _with_whole_window(screening, window)
        screened = StepResult(screened.attestation, screening)
    check_lineage(store, screening, reviews.reviewed, pinned.spec)
    challengers = check_challengers(chain, screened, trust, before, judged=said.judged)
    require(not chain.inputs, f"The decision names unknown records: {sorted(chain.inputs)}.")
    first, *rest = challengers
    people = people_of(store, trust, pinned.run, before)
    if chain.replay:
        again = decide(
            pinned.run,
            pinned.digest,
            pinned.spec,
            list(provenance.values()),
            screening,
            first.training,
            first.validation,
            [Round(c.purge, c.training, c.validation) for c in rest if c.purge],
            people=people,
        )
        require(
            again == said,
            f"The gate, run again on the same reports, says {again.verdict} and not {said.verdict}"
            " with the checks on record. The decision was forged.",
        )
    judged = challengers[said.judged - 1]
    (rehash or ArtefactCheck(store))([*chain.artefacts(), *(block.rows for block in window)])
    return VerifiedDecision(
        digest=decision,
        replayed=chain.replay,
        decision=said,
        pinned=pinned,
        provenance=tuple(provenance.values()),
        screening=screening,
        training=judged.training,
        validation=judged.validation,
        purge=judged.purge,
        people=people,
    )


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


def _pinned(chain: Chain) -> PinnedContext:
    run = chain.pin.report
    require(chain.inputs.pop("pin") == chain.pin.attestation.digest, "The pinned run differs.")
    head = chain.inputs.pop("registry-head", None)
    require(head == run.registry_head, "The decision names another registry head than its run.")
    spec = parse_spec(parse_json(chain.store.get(run.spec)), origin=str(run.spec))
    return PinnedContext(chain.pin.attestation.digest, run, spec)


def _check_pin(pinned: PinnedContext, before: Registry, *, replay: bool) -> None:
    run, spec = pinned.run, pinned.spec
    same_policy = run.policy == Digest.of(canonical_json(spec.policy()))
    require(
        (same_policy or not replay) and run.model == spec.model,
        "The pinned policy is not that of the pinned spec.",
    )
    require(
        (run.reference, run.holdout) == (spec.reference.digest, spec.holdout.digest),
        "The reference set or holdout is not the one that the spec pins.",
    )
    weeks = before.pending_weeks(run.week, window_weeks=spec.training.window_weeks)
    require(
        (run.weeks, run.attempt) == (weeks, before.attempt(run.week)),
        f"The run looked at the weeks {run.weeks}, the registry leaves {weeks} open.",
    )


def _check_sources(
    chain: Chain, pinned: PinnedContext, before: Registry
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
        require(
            verified.report.batch == batch == ingested.report.batch
            and (verified.report.refusal is not None)
            | (verified.report.files == ingested.report.files),
            f"The provenance record of {where} is about other files than its ingest record.",
        )
        reports[verified.attestation.digest] = verified.report
    return reports


def _check_screening(
    chain: Chain,
    pinned: PinnedContext,
    provenance: dict[Digest, ProvenanceReport],
    window: tuple[Block, ...],
) -> StepResult[ScreeningReport]:
    names = {f"provenance/{r.batch.source}/{r.batch.week}": d for d, r in provenance.items()}
    result = chain.take("screening", "screening", ScreeningReport, pinned.screening(names, window))
    if result is None:
        raise ChainBrokenError("The decision has no screening record.")
    known = {report.batch: report for report in provenance.values()}
    for screened in result.report.batches:
        report = known.pop(screened.batch, None)
        require(
            report is not None
            and (screened.accepted is None or report.refusal is None)
            and screened.batch_digest == report.batch_digest,
            f"Screening accepted rows of {screened.batch} that provenance did not verify.",
        )
    require(not known, f"Screening is silent about {sorted(map(str, known))}.")
    return result


def _with_whole_window(screening: ScreeningReport, window: tuple[Block, ...]) -> ScreeningReport:
    whole = tuple(
        WindowBlock(batch=block.batch, before=block.rows, rows=block.rows, n_rows=0)
        for block in window
    )
    return screening.model_copy(update={"window": whole})
