"""Takes rows out of the accepted history: those that a reviewer confirmed, and those found now.

The registry goes on to name the rows as they were accepted; what is left of them is an artefact of
the run's screening, which training reads in their place and the verifier compares row by row.

The privacy ledger charges a block by its batch, whatever is left of it: see `batches_of`.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest
from retraining.records import BatchId, Block, WindowBlock
from retraining.reviews import Reviewed
from retraining.step_requests import PinnedContext
from retraining.steps.workbench import Workbench
from retraining.verify.window import TrainedVersions

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

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
        table = _table(bench, block.rows, workdir)
        columns = {name: table[name].to_numpy() for name in table.column_names}
        mask = reviewed.confirmed_rows(
            columns.__getitem__, batch=block.batch, n_rows=table.num_rows, spec=pinned.spec
        )
        if mask.any():
            found[block.batch] = set(columns[pinned.spec.row_id][mask].astype(str))
    return found


def history_without(
    bench: Workbench, blocks: Sequence[Block], purged: Purged, row_id: str, workdir: Path
) -> "dict[BatchId, pd.DataFrame]":
    """Accepted rows of each batch without the purged ones, in the order of the blocks."""
    frames = {}
    for block in blocks:
        kept = _kept(_table(bench, block.rows, workdir), purged.get(block.batch, ()), row_id)
        frames[block.batch] = kept.to_pandas()
    return frames


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
        table = _table(bench, block.rows, workdir)
        kept = _kept(table, purged.get(block.batch, ()), row_id)
        left = WindowBlock(
            batch=block.batch, before=block.rows, rows=block.rows, n_rows=table.num_rows
        )
        if kept.num_rows < table.num_rows:
            gone = set(_ids(table, row_id)) - set(_ids(kept, row_id))
            rows = _stored(bench, kept, workdir) if kept.num_rows else None
            left = left.model_copy(
                update={
                    "rows": rows,
                    "n_purged": table.num_rows - kept.num_rows,
                    "learned_by": versions.that_read(block.batch, block.rows, gone, row_id),
                }
            )
            if rows is not None:
                artefacts[f"window/{block.batch.source}/{block.batch.week}"] = rows
        window.append(left)
    return tuple(window), artefacts


def _table(bench: Workbench, rows: Digest, workdir: Path) -> "pa.Table":
    import pyarrow.parquet as pq

    path = workdir / f"block-{rows.hex}.parquet"  # as `Workbench.frames` calls it
    if not path.exists():
        bench.store.fetch(rows, path)
    return pq.read_table(path)


def _kept(table: "pa.Table", purged: Collection[str], row_id: str) -> "pa.Table":
    import pyarrow as pa

    if not purged:
        return table
    return table.filter(pa.array([name not in purged for name in _ids(table, row_id)], pa.bool_()))


def _ids(table: "pa.Table", row_id: str) -> list[str]:
    return [str(name) for name in table[row_id].to_pylist()]


def _stored(bench: Workbench, table: "pa.Table", workdir: Path) -> Digest:
    import pyarrow.parquet as pq

    path = workdir / "purged.parquet"
    pq.write_table(table, path, compression="zstd")
    return bench.store.put_file(path)
