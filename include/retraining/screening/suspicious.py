"""`suspicious_samples`: which rows were quarantined and why, without a single feature value.

For a person: the CSV opens in a spreadsheet, and a row id that a spreadsheet would run as a formula
is escaped. The Parquet file keeps row ids as delivered. The same rows give the same bytes.
"""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# Spreadsheets run a cell that begins with one of these. A tab or a return before them is skipped.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")

SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),  # null where the row has none
        ("source", pa.string()),
        ("week", pa.string()),
        ("reasons", pa.string()),  # joined by "; "
        ("label_disagreement", pa.float64()),  # null where a row could not be scored
        ("label_disagreement_p", pa.float64()),  # share of trusted rows at least as odd
        ("isolation", pa.float64()),
        ("isolation_p", pa.float64()),
        ("explanation", pa.string()),  # one sentence per reason
    ]
)


def to_parquet(suspicious: pd.DataFrame) -> bytes:
    """The bytes of `suspicious_samples.parquet`."""
    sink = io.BytesIO()
    table = pa.Table.from_pandas(suspicious, schema=SCHEMA, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    return sink.getvalue()


def to_csv(suspicious: pd.DataFrame) -> bytes:
    """The bytes of `suspicious_samples.csv`, UTF-8, safe to open in a spreadsheet."""
    safe = suspicious[SCHEMA.names].copy()
    for name in SCHEMA.names:
        if pa.types.is_string(SCHEMA.field(name).type):
            safe[name] = [_escaped(value) for value in safe[name]]
    text: str = safe.to_csv(index=False, lineterminator="\n", float_format="%.6f")
    return text.encode()


def _escaped(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS):
        return "'" + value
    return value
