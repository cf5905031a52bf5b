"""Verifies the rows that a run trained on: what was purged of the history, and what never returns.

Screening hands training the history without the rows that were purged, as new artefacts. That they
are nothing else, row by row, is verified here, and so is that no row of this run or of the history
is one that a reviewer had confirmed as poison: whoever holds the pipeline's key can sign a false
screening report, and promotion would refuse it.
"""

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest
from retraining.errors import ChainBrokenError
from retraining.recording import open_result
from retraining.records import (
    BatchId,
    Block,
    GateDecision,
    PinnedRun,
    ScreeningReport,
    TrainingReport,
    WindowBlock,
)
from retraining.registry import Registry
from retraining.reviews import Reviewed, Reviews
from retraining.spec import PipelineSpec
from retraining.step_requests import trained_blocks
from retraining.store import Store
from retraining.trust_history import TrustHistory

if TYPE_CHECKING:
    import pyarrow as pa


def check_reviews(store: Store, trust: TrustHistory, run: PinnedRun, before: Registry) -> Reviews:
    """The reviews that the run took into account.

    Raises:
        ChainBrokenError: They are no longer there, or are fewer than an earlier run's: somebody
            took reviews away and so brought back what they had confirmed.
    """
    reviews = Reviews.load(store, trust, run.model)
    known = reviews.up_to(run.reviews_head)
    earlier = next(
        (k.record for k in reversed(before.links) if k.record.verdict != "ROLLBACK"), None
    )
    if earlier is not None:
        under = trust.named(earlier.trust_list)
        gate = open_result(store, under, "gate", earlier.decision).expect(GateDecision)
        pin = open_result(store, under, "pin", gate.report.pinned_run).expect(PinnedRun).report
        if reviews.position(pin.reviews_head) > len(known.links):
            raise ChainBrokenError(
                f"The run of {run.week} took {len(known.links)} reviews into account, the run of"
                f" {earlier.week} before it {reviews.position(pin.reviews_head)}: reviews were"
                " taken away. Start the week again."
            )
    return known


def check_window(
    store: Store,
    trust: TrustHistory,
    before: Registry,
    window: tuple[Block, ...],
    screening: ScreeningReport,
    spec: PipelineSpec,
) -> None:
    """Verify what screening left of the accepted history.

    Raises:
        ChainBrokenError: It is about other blocks than the registry's, or what is left of one is
            more or other than some of its rows.
    """
    said = tuple(Block(batch=left.batch, rows=left.before) for left in screening.window)
    if said != window:
        raise ChainBrokenError("Screening looked at another history than the registry holds.")
    learned = TrainedVersions(store, trust, before)
    for left in screening.window:
        check_left(store, learned, left, spec.row_id, who="Screening")


def check_left(
    store: Store, learned: "TrainedVersions", left: WindowBlock, row_id: str, *, who: str
) -> None:
    """Verify that what is left of a block is a part of it, and who had learned the rest.

    Args:
        who: Took the rows out, for the message.

    Raises:
        ChainBrokenError: It is more or other than some of the block's rows.
    """
    if left.rows == left.before:
        if left.n_purged or left.learned_by:
            raise ChainBrokenError(f"{who} took nothing out of {left.batch}, and says it did.")
        return
    purged = _purged_ids(store, left, row_id, who)
    if left.learned_by != learned.that_read(left.batch, left.before, purged, row_id):
        raise ChainBrokenError(
            f"{who} names other versions than those that learned the purged rows of {left.batch}."
        )


def check_lineage(
    store: Store, screening: ScreeningReport, reviewed: Reviewed, spec: PipelineSpec
) -> None:
    """Verify that no row that may be trained on was confirmed as poison.

    Raises:
        ChainBrokenError: One was; the message says of which batch and how many.
        ConfigError: A confirmed pattern names a column that the pipeline file has no more.
    """
    if not reviewed.confirms:
        return
    for block in trained_blocks(screening):
        table = _table(store, block.rows)
        found = reviewed.confirmed_rows(
            lambda name, table=table: table[name].to_numpy(),  # type: ignore[misc]
            batch=block.batch,
            n_rows=table.num_rows,
            spec=spec,
        )
        if found.any():
            raise ChainBrokenError(
                f"{int(found.sum())} rows of {block.batch} were confirmed as poison by a reviewer,"
                " and screening let them through. Nothing is promoted; find out why."
            )


class TrainedVersions:
    """Which promoted versions were trained on which rows, from their training reports."""

    def __init__(self, store: Store, trust: TrustHistory, registry: Registry) -> None:
        self._store = store
        self._trust = trust
        self._registry = registry
        self._read: dict[int, tuple[Block, ...]] = {}

    def that_read(
        self, batch: BatchId, before: Digest, rows: Collection[str], row_id: str
    ) -> tuple[int, ...]:
        """Versions that were trained on any of `rows` of that batch, oldest first.

        Args:
            before: The rows as the registry accepted them, `rows` included.
            row_id: Name of the column that holds their ids.
        """
        if not rows:
            return ()
        found = []
        for number in self._registry.promotions:
            digests = [b.rows for b in self.blocks_of(number) if b.batch == batch]
            if any(d == before or set(rows) & self._ids(d, row_id) for d in digests):
                found.append(number)
        return tuple(found)

    def blocks_of(self, version: int) -> tuple[Block, ...]:
        """The rows that a promoted version was trained on."""
        if version not in self._read:
            entry = self._registry.promotions[version].record
            under = self._trust.named(entry.trust_list)
            gate = open_result(self._store, under, "gate", entry.decision)
            digest = gate.attestation.inputs.get("training")
            if digest is None:
                raise ChainBrokenError(f"{entry.decision} promoted a model that nobody trained.")
            trained = open_result(self._store, under, "training", digest).expect(TrainingReport)
            self._read[version] = trained.report.blocks
        return self._read[version]

    def _ids(self, digest: Digest, row_id: str) -> set[str]:
        return set(_ids(_table(self._store, digest, [row_id]), row_id))


def _purged_ids(store: Store, left: WindowBlock, row_id: str, who: str) -> set[str]:
    """Ids of the rows that were taken out; raises unless the others are what they were."""
    import pyarrow as pa

    whole = _table(store, left.before)
    ids = _ids(whole, row_id)
    rest = whole.slice(0, 0) if left.rows is None else _table(store, left.rows)
    kept = set(_ids(rest, row_id))
    keep = pa.array([name in kept for name in ids], pa.bool_())
    if (
        (left.n_rows, left.n_purged) != (whole.num_rows, whole.num_rows - rest.num_rows)
        or (rest.num_rows == 0) != (left.rows is None)
        or not whole.filter(keep).equals(rest)
    ):
        raise ChainBrokenError(
            f"{who} left of {left.batch} what is not a part of the rows that were accepted:"
            " rows were exchanged or added."
        )
    return set(ids) - kept


def _table(store: Store, digest: Digest, columns: list[str] | None = None) -> "pa.Table":
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="retraining-verify-") as folder:
        path = Path(folder) / "rows.parquet"
        store.fetch(digest, path)
        return pq.read_table(path, columns=columns, memory_map=False)


def _ids(table: "pa.Table", row_id: str) -> list[str]:
    return [str(name) for name in table[row_id].to_pylist()]
