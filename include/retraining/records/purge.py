"""What taught a refused challenger its lie, and what is left to train on without it."""

from pydantic import Field

from retraining.digests import Digest
from retraining.records.base import Interval, Record, Refusal
from retraining.records.behaviour import TracedBatch
from retraining.records.patterns import Pattern
from retraining.records.weekly import WindowBlock
from retraining.spec import BehaviourName


class TracedRows(Record):
    """Rows that one refused check was traced back to.

    Attributes:
        pattern: What they share; None where the check named rows or a source.
        by_batch: Most rows first.
        n_users: Who stand behind them; 0 where the pipeline file names no users.
        precision: Which share of them is poison, estimated from how many trusted rows have the
            same values and label; None without a pattern.
    """

    check: BehaviourName
    pattern: Pattern | None
    by_batch: tuple[TracedBatch, ...]
    n_users: int = Field(ge=0)
    precision: Interval | None


class PurgeReport(Record):
    """Which rows are taken out, why, and what is left.

    Attributes:
        challenger: The refused model that learned from them.
        traced: One per refused check that could be traced.
        sources: Whose new rows are taken out whole, because most of what was traced is theirs.
        blocks: All rows that the challenger learned from, in their order, and what is left.
        n_purged: Rows that are taken out, of all blocks.
        purged_rows: Parquet in the store: batch, row id and check of each of them.
        refusal: Set when too few new rows would be left.
    """

    challenger: Digest
    traced: tuple[TracedRows, ...] = Field(min_length=1)
    sources: tuple[str, ...] = ()
    blocks: tuple[WindowBlock, ...]
    n_purged: int = Field(ge=1)
    purged_rows: Digest
    refusal: Refusal | None = None
