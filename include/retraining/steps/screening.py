"""Screening: parse for the first time, check schema and values, judge every row.

What takes long to import (pandas, scikit-learn) is imported where it is used: the other tasks of a
run, each a process of its own, do without.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest
from retraining.errors import BatchRefusedError, ChainBrokenError
from retraining.parsing import parse_files
from retraining.recording import StepResult
from retraining.records import (
    BatchId,
    Block,
    ProvenanceReport,
    Refusal,
    ScreeningReport,
    ShardReport,
)
from retraining.step_requests import PinnedContext
from retraining.steps import purging
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    from retraining.screening import BatchRows, Week
    from retraining.screening.judge import Answers


def screen_shard(
    bench: Workbench, run: Digest, provenance: Sequence[Digest], shard: int
) -> StepResult[ShardReport]:
    """Judge the rows of one shard of the week, for `screen` to take up; as many as the spec says.

    Raises:
        ChainBrokenError, ConfigError: As `screen`.
    """
    asked = _asked(bench, run, provenance)
    pinned, request = asked.pinned, asked.of_shard(shard)
    recorder = bench.recorder(pinned)
    if done := recorder.finished("screening_shard", request, ShardReport):
        return bench.recorded(pinned, done)
    from retraining.screening import screen_shard as judge
    from retraining.screening.shards import save_answers

    started = recorder.started()
    with bench.workdir("screening") as workdir:
        answers = judge(_opened(bench, asked, workdir).week, shard)
        save_answers(answers, workdir / "answers")
        digest = bench.store.put_file(workdir / "answers")
    n_rows = sum(len(part.order) for part in answers.values())
    concluded = recorder.conclude(
        "screening_shard",
        ShardReport(shard=shard, n_rows=n_rows, answers=digest),
        model=pinned.run.model,
        week=pinned.run.week,
        request=request,
        started_on=started,
        inputs=asked.inputs,
        artefacts={"answers.safetensors": digest},
        materials={"reference": pinned.run.reference, "spec": pinned.run.spec},
        policy=pinned.run.policy,
    )
    return bench.recorded(pinned, concluded)


def screen(
    bench: Workbench, run: Digest, provenance: Sequence[Digest]
) -> StepResult[ScreeningReport]:
    """Parse for the first time, check schema and values, and judge every row.

    Raises:
        ChainBrokenError: A provenance report is missing, or the reviews were shortened.
        ConfigError: A confirmed pattern names a column that the pipeline file has no more.
    """
    asked = _asked(bench, run, provenance)
    pinned, request = asked.pinned, asked.request
    recorder = bench.recorder(pinned)
    if done := recorder.finished("screening", request, ScreeningReport):
        return bench.recorded(pinned, done)
    from retraining.features import fit_preprocessing
    from retraining.screening import screen as judge

    started = recorder.started()
    with bench.workdir("screening") as workdir:
        opened = _opened(bench, asked, workdir)
        result = judge(
            opened.week,
            encode=fit_preprocessing(pinned.spec, opened.week.reference).encode,
            answered=_answered(bench, asked, workdir),
            progress=bench.log,
        )
        purged = opened.purged
        for batch, found in result.purged.items():
            purged.setdefault(batch, set()).update(found)
        window, left = purging.purge(bench, pinned, asked.blocks, purged, workdir)
        report, artefacts = result.store(bench.store, workdir)
        report = report.model_copy(update={"window": window})
    concluded = recorder.conclude(
        "screening",
        report,
        model=pinned.run.model,
        week=pinned.run.week,
        request=request,
        started_on=started,
        inputs=asked.inputs,
        artefacts=artefacts | left,
        materials={"reference": pinned.run.reference, "spec": pinned.run.spec},
        policy=pinned.run.policy,
    )
    bench.mirror.screened(pinned.run, report)
    return bench.recorded(pinned, concluded)


# --- what is asked, and what is read for it -------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """A screening to be done: by digests alone."""

    pinned: PinnedContext
    reports: tuple[ProvenanceReport, ...]
    inputs: dict[str, Digest]
    blocks: tuple[Block, ...]

    @property
    def request(self) -> Digest:
        return self.pinned.screening(self.inputs, self.blocks)

    def of_shard(self, shard: int) -> Digest:
        return self.pinned.screening_shard(self.request, shard)


def _asked(bench: Workbench, run: Digest, provenance: Sequence[Digest]) -> _Asked:
    pinned = bench.pinned(run)
    reports = _provenance_of_all_batches(bench, pinned, provenance)
    return _Asked(
        pinned=pinned,
        reports=tuple(reports.values()),
        inputs={f"provenance/{r.batch.source}/{r.batch.week}": d for d, r in reports.items()},
        blocks=bench.window_blocks(pinned),
    )


@dataclass(frozen=True)
class _Opened:
    """The same with its rows on disk, and ids of rows of the history that are out, by batch."""

    week: "Week"
    purged: dict[BatchId, set[str]]


def _opened(bench: Workbench, asked: _Asked, workdir: Path) -> _Opened:
    from retraining.screening import Week

    pinned, blocks = asked.pinned, asked.blocks
    reviewed = bench.reviews(pinned.run.model).up_to(pinned.run.reviews_head).reviewed
    holdout = bench.pinned_frame(pinned, "holdout", workdir)
    # Before anything is judged: what was confirmed or found as poison is nothing to judge by. Nor
    # may such a row come back in another batch under its id.
    purged = purging.confirmed_in_history(bench, blocks, reviewed, pinned, workdir)
    for batch, found in purging.found_before(bench, pinned, blocks, reviewed, workdir).items():
        purged.setdefault(batch, set()).update(found)
    gone = reviewed.confirmed.union(*purged.values())
    week = Week(
        batches=[parse_batch(bench, pinned, report, workdir) for report in asked.reports],
        reference=bench.pinned_frame(pinned, "reference", workdir),
        history=purging.history_without(bench, blocks, purged, pinned.spec.row_id, workdir),
        holdout_row_ids=set(holdout[pinned.spec.row_id]),
        reviewed=replace(reviewed, confirmed=gone),
        week=pinned.run.week,
        spec=pinned.spec,
    )
    return _Opened(week, purged)


def _answered(bench: Workbench, asked: _Asked, workdir: Path) -> "dict[int, Answers]":
    """What other tasks said about their shards; the rest is asked here."""
    from retraining.screening.shards import load_answers

    n_shards = asked.pinned.spec.screening.shards
    recorder = bench.recorder(asked.pinned)
    answered: dict[int, Answers] = {}
    for shard in range(n_shards if n_shards > 1 else 0):
        done = recorder.finished("screening_shard", asked.of_shard(shard), ShardReport)
        if done is None:
            bench.log(f"shard {shard + 1} of {n_shards} was judged by no other task")
            continue
        path = workdir / f"answers-{shard}"
        bench.store.fetch(done.report.answers, path)
        answered |= load_answers(path)
    return answered


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
