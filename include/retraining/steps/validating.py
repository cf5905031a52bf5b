"""Validation: how the challenger does on the holdout, and what it learned.

It runs where the promoter's key is and reads nothing but pinned bytes, by digest. So whoever holds
the pipeline's key can neither sign a false measurement nor choose what is measured.

What takes long to import is imported where it is used, as in `screening`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest
from retraining.errors import ChainBrokenError, NothingToDo
from retraining.recording import StepResult
from retraining.records import (
    BatchId,
    BehaviourReport,
    Block,
    Pattern,
    PurgeReport,
    ScreeningReport,
    TrainingReport,
    ValidationReport,
)
from retraining.reviews import Reviewed
from retraining.step_requests import PinnedContext, blocks_left, trained_blocks
from retraining.steps import purging
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

    from retraining.models import Model


def validate(bench: Workbench, run: Digest, training: Digest) -> StepResult[ValidationReport]:
    """Measure challenger and champion on the same holdout rows, and what the challenger learned.

    Raises:
        NothingToDo: Training refused, so there is no challenger.
        ChainBrokenError: Training read other rows than screening let through.
    """
    pinned = bench.pinned(run)
    opened = bench.open(pinned, "training", training, TrainingReport)
    trained = opened.report
    if trained.model is None:
        raise NothingToDo("Not validated: training refused, so there is no challenger.")
    request = pinned.validation(training)
    recorder = bench.recorder(pinned)
    if done := recorder.finished("validation", request, ValidationReport):
        return bench.recorded(pinned, done)
    from retraining.features import labels_of
    from retraining.models import load_model
    from retraining.validation import validate as measure

    started = recorder.started()
    screened, left = _sources_of(bench, pinned, opened)
    digest = pinned.run.champion
    challenger = load_model(bench.store, trained.model)
    champion = load_model(bench.store, digest) if digest else None
    with bench.workdir("validation") as workdir:
        frame = bench.pinned_frame(pinned, "holdout", workdir)
        report = measure(
            frame,
            labels_of(frame, pinned.spec),
            challenger=challenger.predict(frame),
            champion=champion.predict(frame) if champion else None,
            spec=pinned.spec,
            holdout_digest=pinned.run.holdout,
            challenger_digest=trained.model,
            champion_digest=digest,
        )
        behaviour = _examine(
            bench, pinned, screened, left, trained.blocks, frame, challenger, champion, workdir
        )
    report = report.model_copy(update={"behaviour": behaviour})
    result = recorder.conclude(
        "validation",
        report,
        model=pinned.run.model,
        week=pinned.run.week,
        request=request,
        started_on=started,
        inputs={"training": training},
        materials={
            "reference": pinned.run.reference,
            "holdout": pinned.run.holdout,
            "model": trained.model,
        },
        policy=pinned.run.policy,
    )
    bench.mirror.validated(pinned.run, report)
    return bench.recorded(pinned, result)


def _sources_of(
    bench: Workbench, pinned: PinnedContext, trained: StepResult[TrainingReport]
) -> tuple[ScreeningReport, PurgeReport | None]:
    """What let the rows through that the challenger learned from, and a purge of them."""
    named = trained.attestation.inputs.get("screening")
    if named is None:
        raise ChainBrokenError(
            f"{trained.attestation.digest} names no screening, so nobody can say what the model"
            " learned from. Start the week again."
        )
    report = bench.open(pinned, "screening", named, ScreeningReport).report
    blocks, left = trained_blocks(report), None
    if purge := trained.attestation.inputs.get("purge"):
        left = bench.open(pinned, "purge", purge, PurgeReport).report
        blocks = blocks_left(left)
    if trained.report.blocks != blocks:
        raise ChainBrokenError(
            "Training read other rows than screening let through, so nobody can say what the model"
            " learned from. Start the week again."
        )
    return report, left


def _examine(
    bench: Workbench,
    pinned: PinnedContext,
    screened: ScreeningReport,
    left: PurgeReport | None,
    blocks: Sequence[Block],
    holdout: "pd.DataFrame",
    challenger: "Model",
    champion: "Model | None",
    workdir: Path,
) -> BehaviourReport:
    from retraining.validation.behaviour import Case, examine
    from retraining.validation.halves import split_holdout

    spec = pinned.spec
    halves = split_holdout(holdout, row_id=spec.row_id)
    reviewed = bench.reviews(pinned.run.model).up_to(pinned.run.reviews_head).reviewed

    def rows_of(*, new: bool) -> "dict[BatchId, pd.DataFrame]":
        return {
            block.batch: purging.rows_of(bench, block, workdir).frame()
            for block in blocks
            if (block.batch.week in pinned.run.weeks) == new
        }

    return examine(
        Case(
            spec=spec,
            challenger=challenger,
            champion=champion,
            new=rows_of(new=True),
            history=rows_of(new=False),
            reference=bench.pinned_frame(pinned, "reference", workdir),
            tuning=halves.tuning,
            judging=halves.judging,
            # What the challenger before it was refused for, this one may not obey either.
            confirmed=(*reviewed.patterns, *_purged_patterns(left)),
            confirmed_rows=_confirmed(bench, pinned, screened, reviewed, workdir),
            false_alarm_rate=spec.gate.false_alarm_rate,
        )
    )


def _purged_patterns(left: PurgeReport | None) -> tuple[Pattern, ...]:
    found = left.traced if left else ()
    return tuple(traced.pattern for traced in found if traced.pattern is not None)


def _confirmed(
    bench: Workbench,
    pinned: PinnedContext,
    screened: ScreeningReport,
    reviewed: Reviewed,
    workdir: Path,
) -> "pd.DataFrame | None":
    """Rows that were accepted once and then confirmed as poison; None without any.

    Not those that were never accepted: they lie in what providers delivered, which is not parsed
    where the promoter's key is. Their patterns are known.
    """
    import pandas as pd

    found = []
    for block in screened.window:
        if block.n_purged and reviewed.confirms:
            accepted = Block(batch=block.batch, rows=block.before)
            rows = purging.rows_of(bench, accepted, workdir)
            mask = reviewed.confirmed_rows(
                rows.values, batch=block.batch, n_rows=len(rows), spec=pinned.spec
            )
            found += [rows.without(~mask).frame()] if mask.any() else []
    return pd.concat(found, ignore_index=True) if found else None
