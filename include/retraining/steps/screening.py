"""Screening: parse for the first time, check schema and values, judge every row.

What takes long to import (pandas, scikit-learn) is imported where it is used: the other tasks of a
run, each a process of its own, do without.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest
from retraining.errors import BatchRefusedError, ChainBrokenError
from retraining.parsing import parse_files
from retraining.recording import StepResult
from retraining.records import ProvenanceReport, Refusal, ScreeningReport
from retraining.step_requests import PinnedContext
from retraining.steps import purging
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    from retraining.screening import BatchRows


def screen(
    bench: Workbench, run: Digest, provenance: Sequence[Digest]
) -> StepResult[ScreeningReport]:
    """Parse for the first time, check schema and values, and judge every row.

    Raises:
        ChainBrokenError: A provenance report is missing, or the reviews were shortened.
        ConfigError: A confirmed pattern names a column that the pipeline file has no more.
    """
    pinned = bench.pinned(run)
    opened = _provenance_of_all_batches(bench, pinned, provenance)
    blocks = bench.window_blocks(pinned)
    inputs = {f"provenance/{r.batch.source}/{r.batch.week}": d for d, r in opened.items()}
    request = pinned.screening(inputs, blocks)
    recorder = bench.recorder(pinned)
    if done := recorder.finished("screening", request, ScreeningReport):
        return bench.recorded(pinned, done)
    from retraining.features import fit_preprocessing
    from retraining.screening import screen as judge

    started = recorder.started()
    reviewed = bench.reviews(pinned.run.model).up_to(pinned.run.reviews_head).reviewed
    with bench.workdir("screening") as workdir:
        reference = bench.pinned_frame(pinned, "reference", workdir)
        holdout = bench.pinned_frame(pinned, "holdout", workdir)
        # Before anything is judged: what was confirmed as poison is nothing to judge by. Nor may
        # such a row come back in another batch under its id.
        purged = purging.confirmed_in_history(bench, blocks, reviewed, pinned, workdir)
        gone = reviewed.confirmed.union(*purged.values())
        result = judge(
            [parse_batch(bench, pinned, report, workdir) for report in opened.values()],
            reference=reference,
            history=purging.history_without(bench, blocks, purged, pinned.spec.row_id, workdir),
            holdout_row_ids=set(holdout[pinned.spec.row_id]),
            reviewed=replace(reviewed, confirmed=gone),
            week=pinned.run.week,
            spec=pinned.spec,
            encode=fit_preprocessing(pinned.spec, reference).encode,
            progress=bench.log,
        )
        for batch, found in result.purged.items():
            purged.setdefault(batch, set()).update(found)
        window, left = purging.purge(bench, pinned, blocks, purged, workdir)
        report, artefacts = result.store(bench.store, workdir)
        report = report.model_copy(update={"window": window})
    concluded = recorder.conclude(
        "screening",
        report,
        model=pinned.run.model,
        week=pinned.run.week,
        request=request,
        started_on=started,
        inputs=inputs,
        artefacts=artefacts | left,
        materials={"reference": pinned.run.reference, "spec": pinned.run.spec},
        policy=pinned.run.policy,
    )
    bench.mirror.screened(pinned.run, report)
    return bench.recorded(pinned, concluded)


def parse_batch(
    bench: Workbench, pinned: PinnedContext, report: ProvenanceReport, workdir: Path
) -> "BatchRows":
    """The rows of one verified batch, and those with a value fault; a refusal when it has none."""
    import pandas as pd

    from retraining.screening import BatchRows
    from retraining.screening.stored import RowFile

    source = pinned.spec.source(report.batch.source)
    folder = workdir / f"{report.batch.source}-{report.batch.week}"
    refusal = report.refusal
    rows = faults = None
    if refusal is None:
        folder.mkdir()
        files = []
        for number, file in enumerate(report.files):
            bench.store.fetch(file.digest, folder / f"{number:05d}")
            files.append((file.name, folder / f"{number:05d}"))
        try:
            parsed = parse_files(
                files,
                table=pinned.spec.table,
                file_format=source.format,
                max_rows=source.max_rows,
                workdir=folder,
            )
            rows, faults = RowFile(parsed.rows), pd.read_parquet(parsed.faults)
        except BatchRefusedError as refused:
            refusal = Refusal(code=refused.code, sentence=refused.sentence)
    return BatchRows(
        batch=report.batch,
        batch_digest=report.batch_digest,
        risk_score=report.risk_score,
        rows=rows,
        faults=faults,
        refusal=refusal,
    )


def _provenance_of_all_batches(
    bench: Workbench, pinned: PinnedContext, provenance: Sequence[Digest]
) -> dict[Digest, ProvenanceReport]:
    """The reports by their attestations, in the order of the pinned run, whoever ran first."""
    found = {
        digest: bench.open(pinned, "provenance", digest, ProvenanceReport).report
        for digest in provenance
    }
    by_batch = {report.batch: (digest, report) for digest, report in found.items()}
    expected = pinned.batches()
    if set(by_batch) != set(expected) or len(found) != len(expected):
        raise ChainBrokenError(
            f"Expected provenance reports of {sorted(map(str, expected))}, found"
            f" {sorted(map(str, by_batch))}. Clear the sources' tasks as well."
        )
    return dict(by_batch[batch] for batch in expected)
