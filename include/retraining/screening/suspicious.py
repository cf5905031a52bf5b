"""`suspicious_samples`: which rows were quarantined and why; `suspicious_summary`: first the sums.

For a person: the CSV files open in a spreadsheet, and a cell that a spreadsheet would run as a
formula is escaped. The Parquet file keeps row ids as delivered, and every quarantined row; the CSV
of samples ends after `MAX_CSV_ROWS`, those with most evidence first. No feature stands in them but
where a found pattern is named. The same rows give the same bytes.
"""

import io
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# Spreadsheets run a cell that begins with one of these. A tab or a return before them is skipped.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
MAX_CSV_ROWS = 5000

SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),  # null where the row has none
        ("source", pa.string()),
        ("week", pa.string()),
        ("label", pa.string()),  # null where a row could not be read
        ("reasons", pa.string()),  # joined by "; "
        ("evidence", pa.float64()),  # null where a row could not be scored
        ("p_value", pa.float64()),  # share of trusted rows with as much evidence
        ("contradiction", pa.float64()),
        ("consensus", pa.float64()),
        ("gap", pa.float64()),
        ("region", pa.float64()),
        ("isolation", pa.float64()),
        ("nearest_trusted", pa.string()),  # row ids, joined by "; "
        ("explanation", pa.string()),  # one sentence per reason
    ]
)


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows of several frames, with every column of `SCHEMA`."""
    filled = [frame.reindex(columns=SCHEMA.names) for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=SCHEMA.names)
    return pd.concat(filled, ignore_index=True)


def by_evidence(suspicious: pd.DataFrame) -> pd.DataFrame:
    """The rows with most evidence first, then those without; else in the order given."""
    return suspicious.sort_values(
        "evidence", ascending=False, kind="stable", na_position="last", ignore_index=True
    )


def summary(suspicious: pd.DataFrame) -> pd.DataFrame:
    """Rows per reason, source, week and class, the most common first."""
    reasons = suspicious.assign(reason=suspicious["reasons"].str.split("; ")).explode("reason")
    keys = ["reason", "source", "week", "label"]
    counted = reasons.groupby(keys, as_index=False, dropna=False)
    sums = counted.agg(rows=("reason", "size"), largest_evidence=("evidence", "max"))
    return sums.sort_values(["rows", *keys], ascending=[False, True, True, True, True])


def to_parquet(suspicious: pd.DataFrame) -> bytes:
    """The bytes of `suspicious_samples.parquet`."""
    sink = io.BytesIO()
    table = pa.Table.from_pandas(suspicious, schema=SCHEMA, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    return sink.getvalue()


def to_csv(frame: pd.DataFrame) -> bytes:
    """The bytes of a CSV file, UTF-8, safe to open in a spreadsheet."""
    shown = frame.head(MAX_CSV_ROWS)
    safe = pd.DataFrame({name: [_escaped(v) for v in shown[name]] for name in shown.columns})
    text: str = safe.to_csv(index=False, lineterminator="\n", float_format="%.6f")
    return text.encode()


def _escaped(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS):
        return "'" + value
    return value
