"""Purge: what taught a refused challenger is taken out, and what is left is trained on again.

It runs where the promoter's key is, like the validation that it follows, and reads the same pinned
bytes. It takes rows out and can add none; the verifier compares row by row (`verify.window`).

What takes long to import is imported where it is used, as in `screening`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retraining import gate
from retraining.digests import Digest
from retraining.errors import ChainBrokenError, NothingToDo
from retraining.recording import StepResult
from retraining.records import (
    BehaviourResult,
    PurgeReport,
    Refusal,
    TrainingReport,
    ValidationReport,
    WindowBlock,
)
from retraining.step_requests import PinnedContext
from retraining.steps import purging
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

    from retraining.purge import Purge


def purge(bench: Workbench, run: Digest, validation: Digest) -> StepResult[PurgeReport]:
    """Trace the checks of behaviour that refuse a challenger back to rows, and take these out.

    Args:
        validation: Attestation of the measurement of that challenger.

    Raises:
        NothingToDo: No check of behaviour refuses it, the pipeline file asks for no purge, or
            nothing could be traced.
        ChainBrokenError: The validation names no training.
    """
    pinned = bench.pinned(run)
    policy = pinned.spec.gate
    if policy.purge == "never":
        raise NothingToDo("Nothing purged: the pipeline file says gate.purge: never.")
    measured = bench.open(pinned, "validation", validation, ValidationReport)
    refused = gate.refused_behaviour(pinned.run, policy, measured.report)
    if not refused:
        raise NothingToDo("Nothing purged: no check of behaviour refuses the challenger.")
    named = measured.attestation.inputs.get("training")
    if named is None:
        raise ChainBrokenError(f"{validation} names no training. Start the week again.")
    trained = bench.open(pinned, "training", named, TrainingReport).report
    request = pinned.purge(validation)
    recorder = bench.recorder(pinned)
    if done := recorder.finished("purge", request, PurgeReport):
        return bench.recorded(pinned, done)
    started = recorder.started()
    with bench.workdir("purge") as workdir:
        report, artefacts = _purge(bench, pinned, refused, trained, workdir)
    result = recorder.conclude(
        "purge",
        report,
        model=pinned.run.model,
        week=pinned.run.week,
        request=request,
        started_on=started,
        inputs={"validation": validation},
        artefacts=artefacts,
        materials={"reference": pinned.run.reference, "holdout": pinned.run.holdout},
        policy=pinned.run.policy,
    )
    return bench.recorded(pinned, result)


@dataclass(frozen=True)
class _Frame:
    """A trusted set, by column."""

    frame: "pd.DataFrame"

    def __len__(self) -> int:
        return len(self.frame)

    def values(self, name: str) -> npt.NDArray[Any]:
        return self.frame[name].to_numpy()


def _purge(
    bench: Workbench,
    pinned: PinnedContext,
    refused: Sequence[BehaviourResult],
    trained: TrainingReport,
    workdir: Path,
) -> tuple[PurgeReport, dict[str, Digest]]:
    from retraining.purge import plan_purge

    if trained.model is None:
        raise ChainBrokenError("A challenger was measured that nobody trained.")
    new = {block.batch for block in trained.blocks if block.batch.week in pinned.run.weeks}
    found = plan_purge(
        refused,
        {block.batch: purging.rows_of(bench, block, workdir) for block in trained.blocks},
        new=new,
        trusted=[
            _Frame(bench.pinned_frame(pinned, role, workdir)) for role in ("reference", "holdout")
        ],
        spec=pinned.spec,
    )
    if not found.rows:
        names = ", ".join(result.name for result in refused)
        raise NothingToDo(f"Nothing purged: what {names} found could not be traced to any row.")
    blocks, artefacts = purging.purge(bench, pinned, trained.blocks, found.rows, workdir)
    purged_rows = _store_rows(bench, found, workdir)
    report = PurgeReport(
        challenger=trained.model,
        traced=found.traced,
        sources=found.sources,
        blocks=blocks,
        n_purged=sum(block.n_purged for block in blocks),
        purged_rows=purged_rows,
        refusal=_too_few(pinned, [block for block in blocks if block.batch in new]),
    )
    return report, {"purged_rows.parquet": purged_rows, **artefacts}


def _too_few(pinned: PinnedContext, new: Sequence[WindowBlock]) -> Refusal | None:
    left = sum(block.n_rows - block.n_purged for block in new)
    least = pinned.spec.screening.min_rows
    if left >= least:
        return None
    return Refusal(
        code="too_few_rows",
        sentence=f"{left} new rows would be left, expected at least {least}"
        " (screening.min_rows); nothing was trained on them.",
    )


def _store_rows(bench: Workbench, found: "Purge", workdir: Path) -> Digest:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (batch.source, batch.week, name, reason)
        for batch in sorted(found.rows, key=str)
        for name, reason in found.rows[batch].items()
    ]
    names = ("source", "week", "row_id", "check")
    columns = [
        pa.array(np.array(column, dtype=object), pa.string()) for column in zip(*rows, strict=True)
    ]
    pq.write_table(pa.table(columns, names=list(names)), workdir / "purged_rows.parquet")
    return bench.store.put_file(workdir / "purged_rows.parquet")
