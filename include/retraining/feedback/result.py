"""What a closed week of feedback leaves behind, and its four Parquet files."""

import hashlib
import io
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from retraining.parsing import row_schema
from retraining.spec import PipelineSpec

LINES = pa.schema(
    [
        ("file", pa.string()),  # `<week>/<name>`
        ("line", pa.int64()),  # number of the row in its file, from 1
        ("reason", pa.string()),
    ]
)
HELD = pa.schema(
    [
        ("item", pa.string()),
        ("label", pa.string()),  # what the votes say
        ("support", pa.float64()),  # summed weight of that label
        ("share", pa.float64()),  # of the weight of all labels
        ("predicted", pa.string()),  # what the champion says
        ("probability", pa.float64()),  # of what it says
        ("reason", pa.string()),
    ]
)
COUNTED = pa.schema([("item", pa.string()), ("user", pa.string())])  # the user hashed


@dataclass(frozen=True, kw_only=True)
class ClosedBatch:
    """The batch and the reasons; counts as in `FeedbackReport`.

    Attributes:
        lines: Lines that were set aside: `file`, `number`, `reason`.
        held_items: Columns as `HELD`, the reason in `held`.
        counted: One row per vote that counted: `item`, `user` (hashed).
        rows: The batch, with the columns of the pipeline's table, sorted by row id.
    """

    n_lines: int
    counted_before: int
    set_aside: dict[str, int]
    waiting: dict[str, int]
    n_audited: int
    users: dict[str, int]
    n_votes: int
    held: dict[str, int]
    changes: dict[str, int]
    lines: pd.DataFrame
    held_items: pd.DataFrame
    counted: pd.DataFrame
    rows: pd.DataFrame

    def files(self, spec: PipelineSpec) -> dict[str, bytes]:
        """The four files by the names of `FeedbackReport`; the same rows give the same bytes."""
        lines = self.lines.rename(columns={"number": "line"}).sort_values(
            ["file", "line"], kind="stable"
        )
        held = self.held_items.rename(columns={"held": "reason"})
        counted = self.counted.sort_values(["item", "user"])
        return {
            "lines": _parquet(lines, LINES),
            "held_items": _parquet(held, HELD),
            "counted": _parquet(counted, COUNTED),
            "rows": _parquet(self.rows, row_schema(spec.table)),
        }

    def described(self) -> str:
        """One sentence of counts, for a log."""
        parts = [f"{self.n_lines} lines"]
        if self.counted_before:
            parts.append(f"{self.counted_before} counted before")
        for words, counts in (
            ("set aside", self.set_aside),
            ("waiting", self.waiting),
            ("items held", self.held),
        ):
            if counts:
                named = ", ".join(f"{name} {n}" for name, n in counts.items())
                parts.append(f"{words}: {named}")
        return "; ".join(parts)


def hashed(user: str) -> str:
    """A user's name as it stands in what is kept for good."""
    return hashlib.sha256(user.encode()).hexdigest()[:32]


def _parquet(frame: pd.DataFrame, schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    return sink.getvalue()
