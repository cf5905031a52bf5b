"""What crosses between the parser's process and ours: a request, an answer, two Parquet files.

Paths are relative to the folder that both work in, except those of the delivered files.
"""

import pyarrow as pa
from pydantic import Field

from retraining.records import Record, Refusal
from retraining.spec import FeedbackFormat, Table

REQUEST, ANSWER = "request.json", "answer.json"
ROWS, FAULTS = "rows.parquet", "faults.parquet"

MAX_ROW_ID_BYTES = 256

FAULT_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),  # null when it is missing or itself at fault
        ("file", pa.string()),
        ("line", pa.int64()),  # number of the row in its file, from 1; a CSV's header has none
        ("reasons", pa.list_(pa.string())),
    ]
)


class ParseRequest(Record):
    """What to parse.

    Attributes:
        files: Name, for messages and for `faults.parquet`, and path of each file, in order.
        max_rows: Of all files together.
    """

    table: Table
    files: tuple[tuple[str, str], ...]
    format: FeedbackFormat
    max_rows: int = Field(ge=1)


class ParseAnswer(Record):
    """What came of it.

    Attributes:
        n_rows: Rows delivered: those in `rows.parquet` and those in `faults.parquet`.
        rows_of_files: The same per file, in the order of the request.
        fault_counts: Rows per reason; one row may have several.
        refusal: Set when the batch cannot be used as a whole; nothing else is set then.
    """

    n_rows: int = Field(default=0, ge=0)
    rows_of_files: tuple[int, ...] = ()
    n_faulty: int = Field(default=0, ge=0)
    fault_counts: dict[str, int] = Field(default_factory=dict)
    refusal: Refusal | None = None


def row_schema(table: Table) -> pa.Schema:
    """Columns of `rows.parquet`, in the order of `table.columns`; only optional values are null.

    Row ids, texts, categories and labels are text; numbers float64; images binary; times in
    microseconds of UTC (a delivered time without zone is taken for UTC).
    """
    types = {"number": pa.float64(), "image": pa.binary(), "category": pa.string()}
    kinds = {feature.name: types[feature.kind] for feature in table.features}
    if table.event_time:
        kinds[table.event_time] = pa.timestamp("us", tz="UTC")
    return pa.schema([(name, kinds.get(name, pa.string())) for name in table.columns])


def max_row_bytes(table: Table) -> int:
    """Bytes that one row without faults may take before compression, rounded up generously."""
    total = 0
    for field in row_schema(table):
        if field.type == pa.float64():
            total += 32  # a decimal256 is the widest number
        elif field.type == pa.string():
            total += MAX_ROW_ID_BYTES + 8
        else:
            total += 64
    return total + sum(f.n_bytes for f in table.features if f.kind == "image")
