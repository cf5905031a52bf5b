"""Takes rows out of the accepted history: those that a reviewer confirmed, and those found.

What was found once stays out: the newest standing version was trained without it, and so are all
that come after it, until a reviewer releases it. Else a lie would come back as soon as fewer of its
rows are left in the window than it takes to find them.

The registry goes on to name the rows as they were accepted; what is left of them is an artefact of
the run's screening, which training reads in their place and the verifier compares row by row.

The privacy ledger charges a block by its batch, whatever is left of it: see `batches_of`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest
from retraining.recording import open_result
from retraining.records import (
    BatchId,
    Block,
    GateDecision,
    PinnedRun,
    RegistryEntry,
    ScreeningReport,
    WindowBlock,
)
from retraining.reviews import Reviewed, Reviews
from retraining.step_requests import PinnedContext
from retraining.steps.workbench import Workbench
from retraining.verify.window import TrainedVersions

if TYPE_CHECKING:
    from retraining.screening.stored import RowFile

Purged = Mapping[BatchId, Collection[str]]  # ids of accepted rows that are taken out


def confirmed_in_history(
    bench: Workbench,
    blocks: Sequence[Block],
    reviewed: Reviewed,
    pinned: PinnedContext,
    workdir: Path,
) -> dict[BatchId, set[str]]:
    """Ids of accepted rows that were confirmed as poison, by the batch that brought them.

    Raises:
        ConfigError: A confirmed pattern names a column that the pipeline file has no more.
    """
    found: dict[BatchId, set[str]] = {}
    for block in blocks if reviewed.confirms else ():
        rows = rows_of(bench, block, workdir)
        mask = reviewed.confirmed_rows(
            rows.values, batch=block.batch, n_rows=len(rows), spec=pinned.spec
        )
        if mask.any():
            found[block.batch] = set(rows.column(pinned.spec.row_id)[mask].astype(str))
    return found


def found_before(
    bench: Workbench,
    pinned: PinnedContext,
    blocks: Sequence[Block],
    reviewed: Reviewed,
    workdir: Path,
) -> dict[BatchId, set[str]]:
    """Ids of accepted rows that the newest standing version was trained without, by their batch.

    Not those that a reviewer released since, and not those that only a reviewer had taken out:
    whether these are still out is for the reviews to say.
    """
    registry = bench.registry_of(pinned)
    if not registry.standing:
        return {}
    newest = registry.standing[-1]
    trained = TrainedVersions(bench.store, bench.trust, registry).blocks_of(newest)
    read = {block.batch: block.rows for block in trained}
    run = _run_of(bench, registry.promotions[newest].record)
    known, row_id = {left.batch for left in run.screening.window}, pinned.spec.row_id
    found: dict[BatchId, set[str]] = {}
    for block in blocks:
        kept = read.get(block.batch)
        if block.batch not in known or kept == block.rows or block.batch in reviewed.vouched:
            continue
        rows = rows_of(bench, block, workdir)
        names = rows.column(row_id).astype(str)
        out = set(names)
        if kept is not None:
            left = rows_of(bench, Block(batch=block.batch, rows=kept), workdir)
            out -= set(left.column(row_id).astype(str))
        by_review = run.reviewed.confirmed_rows(
            rows.values, batch=block.batch, n_rows=len(rows), spec=pinned.spec
        )
        if out := out - set(names[by_review]) - reviewed.released:
            found[block.batch] = out
    return found


@dataclass(frozen=True)
class _Run:
    """What screening left of the history in a promoted run, and which reviews it knew."""

    screening: ScreeningReport
    reviewed: Reviewed


def _run_of(bench: Workbench, entry: RegistryEntry) -> _Run:
    under = bench.trust.named(entry.trust_list)
    gate = open_result(bench.store, under, "gate", entry.decision).expect(GateDecision)
    screening = open_result(
        bench.store, under, "screening", gate.attestation.inputs["screening"]
    ).expect(ScreeningReport)
    pin = open_result(bench.store, under, "pin", gate.report.pinned_run).expect(PinnedRun)
    known = Reviews.load(bench.store, bench.trust, entry.model).up_to(pin.report.reviews_head)
    return _Run(screening.report, known.reviewed)


def history_without(
    bench: Workbench, blocks: Sequence[Block], purged: Purged, row_id: str, workdir: Path
) -> "dict[BatchId, RowFile]":
    """Accepted rows of each batch without the purged ones, in the order of the blocks."""
    return {
        block.batch: _kept(rows_of(bench, block, workdir), purged.get(block.batch, ()), row_id)
        for block in blocks
    }


def purge(
    bench: Workbench,
    pinned: PinnedContext,
    blocks: Sequence[Block],
    purged: Purged,
    workdir: Path,
) -> tuple[tuple[WindowBlock, ...], dict[str, Digest]]:
    """Store what is left of each block.

    Args:
        purged: Ids that a block does not have are passed over.

    Returns:
        One record per block, in their order, and the new artefacts by name.
    """
    versions = TrainedVersions(bench.store, bench.trust, bench.registry_of(pinned))
    window, artefacts, row_id = [], dict[str, Digest](), pinned.spec.row_id
    for block in blocks:
        all_rows = rows_of(bench, block, workdir)
        kept = _kept(all_rows, purged.get(block.batch, ()), row_id)
        left = WindowBlock(
            batch=block.batch, before=block.rows, rows=block.rows, n_rows=len(all_rows)
        )
        if len(kept) < len(all_rows):
            gone = {str(name) for name in all_rows.column(row_id) if name in purged[block.batch]}
            rows = _stored(bench, kept, workdir) if len(kept) else None
            left = left.model_copy(
                update={
                    "rows": rows,
                    "n_purged": len(all_rows) - len(kept),
                    "learned_by": versions.that_read(block.batch, block.rows, gone, row_id),
                }
            )
            if rows is not None:
                artefacts[f"window/{block.batch.source}/{block.batch.week}"] = rows
        window.append(left)
    return tuple(window), artefacts


def rows_of(bench: Workbench, block: Block, workdir: Path) -> "RowFile":
    """The rows of a block, as a file that is fetched once."""
    from retraining.screening.stored import RowFile

    path = workdir / f"block-{block.rows.hex}.parquet"  # as `Workbench.frames` calls it
    if not path.exists():
        bench.store.fetch(block.rows, path)
    return RowFile(path)


def _kept(rows: "RowFile", purged: Collection[str], row_id: str) -> "RowFile":
    if not purged:
        return rows
    return rows.without(rows.column(row_id).astype(str).isin(set(purged)).to_numpy(dtype=bool))


def _stored(bench: Workbench, rows: "RowFile", workdir: Path) -> Digest:
    path = workdir / "purged.parquet"
    rows.write(path)
    return bench.store.put_file(path)
