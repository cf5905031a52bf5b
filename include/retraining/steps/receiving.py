"""Per source: bring in what was delivered, and check who delivered it."""

from collections.abc import Sequence

from retraining import provenance
from retraining.digests import Digest
from retraining.errors import NothingToDo
from retraining.ingest import ingest as read_inbox
from retraining.recording import StepResult
from retraining.records import BatchId, IngestReport, ProvenanceReport
from retraining.step_requests import PinnedContext
from retraining.steps.workbench import Workbench


def ingest(bench: Workbench, run: Digest, source: str) -> list[StepResult[IngestReport]]:
    """Bring in what `source` delivered for each week of the run.

    Raises:
        NothingToDo: The source was left out by hand.
        StoreUnreachableError: Trying again can help.
    """
    pinned = bench.pinned(run)
    batches = [batch for batch in pinned.batches() if batch.source == source]
    if not batches:
        raise NothingToDo(f"{source} was left out of this run.")
    return [_ingest(bench, pinned, batch) for batch in batches]


def _ingest(bench: Workbench, pinned: PinnedContext, batch: BatchId) -> StepResult[IngestReport]:
    recorder = bench.recorder(pinned)
    started = recorder.started()
    spec = pinned.spec.source(batch.source)
    inbox = bench.inbox(bench.settings.resolve(spec.uri), batch.week)
    report = read_inbox(spec, batch.week, inbox=inbox, store=bench.store)
    request = pinned.ingest(batch, report.identity)
    files = {f"file/{file.name}": file.digest for file in report.files}
    manifest = {"manifest": report.manifest} if report.manifest else {}
    return bench.recorded(
        pinned,
        recorder.finished("ingest", request, IngestReport)
        or recorder.conclude(
            "ingest",
            report,
            model=pinned.run.model,
            week=batch.week,
            request=request,
            started_on=started,
            inputs={},
            artefacts={**files, **manifest},
            policy=pinned.run.policy,
        ),
    )


def verify_provenance(
    bench: Workbench, run: Digest, ingested: Sequence[Digest]
) -> list[StepResult[ProvenanceReport]]:
    """Check who delivered each batch, and that what arrived is what they signed."""
    pinned = bench.pinned(run)
    return [_verify_provenance(bench, pinned, digest) for digest in ingested]


def _verify_provenance(
    bench: Workbench, pinned: PinnedContext, ingested: Digest
) -> StepResult[ProvenanceReport]:
    before = bench.open(pinned, "ingest", ingested, IngestReport)
    batch = before.report.batch
    recorder = bench.recorder(pinned)
    history = bench.registry_of(pinned).history_of(batch.source)
    request = pinned.provenance(batch, ingested, history)
    if done := recorder.finished("provenance", request, ProvenanceReport):
        return bench.recorded(pinned, done)
    started = recorder.started()
    manifest = before.report.manifest
    report = provenance.verify_provenance(
        before.report,
        pinned.spec.source(batch.source),
        manifest=bench.store.get(manifest) if manifest else None,
        trust=bench.trust.named(pinned.run.trust_list),
        history=history,
    )
    result = recorder.conclude(
        "provenance",
        report,
        model=pinned.run.model,
        week=batch.week,
        request=request,
        started_on=started,
        inputs={"ingest": ingested},
        materials={"manifest": manifest} if manifest else {},
        policy=pinned.run.policy,
    )
    bench.mirror.batch(pinned.run, report)
    return bench.recorded(pinned, result)
