"""Providers for tests: a small pipeline, good rows for it, and signed deliveries of them.

A test spoils one thing of a good delivery; so what it sees comes from that one thing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from retraining.digests import Digest
from retraining.errors import BatchRefusedError
from retraining.parsing import ParsedRows
from retraining.spec import CsvDialect, CsvFormat, PipelineSpec, parse_spec

WEEK = "2026-W07"
# Values that stand in good rows and nowhere else: none may ever appear in a message.
ROW_VALUES = ("cust-0001", "72.625", "ham-secret")


def a_spec(*, source: Mapping[str, Any] | None = None, **changes: Any) -> PipelineSpec:
    """A pipeline with every kind of column but images; `source` changes its one source."""
    raw: dict[str, Any] = {
        "model": "fraud",
        "description": "For tests.",
        "owner": "owner@example.org",
        "label": {"column": "label", "classes": ["fine", "fraud"], "positive": "fraud"},
        "row_id": "row",
        "event_time": "seen_at",
        "features": [
            {"name": "amount", "kind": "number", "min": 0, "max": 1000, "scale": "log"},
            {"name": "balance", "kind": "number", "min": -50, "max": 50},
            {"name": "country", "kind": "category", "categories": ["de", "fr", "0"]},
        ],
        "sources": [
            {
                "name": "shop",
                "uri": "inbox/shop/{week}",
                "trust": "known",
                "key_id": "shop",
                "max_bytes": 2_000_000,
                "max_rows": 500,
                **(source or {}),
            }
        ],
        "reference": {"uri": "reference.parquet", "digest": Digest.of(b"reference")},
        "holdout": {"uri": "holdout.parquet", "digest": Digest.of(b"holdout")},
        "training": {
            "architecture": {"kind": "linear"},
            "epsilon_per_run": 1,
            "epsilon_per_block": 8,
            "delta": 1e-5,
            "expected_batch_rows": 32,
            "epochs": 1,
            "learning_rate": 0.1,
        },
        "gate": {"limits": {"accuracy": {"min": 0.5}}},
    }
    return parse_spec(raw | changes, origin="test")


def good_columns(n_rows: int = 20) -> dict[str, pa.Array]:
    """Rows without fault for `a_spec()`, by column, in no particular order of columns."""
    i = np.arange(n_rows)
    return {
        "label": pa.array(np.where(i % 3 == 0, "fraud", "fine")),
        "amount": pa.array(i * 0.5 + 72.625),
        "balance": pa.array((i % 7 - 3).astype(np.int32)),
        "country": pa.array([("de", "fr", "0")[k % 3] for k in i]).dictionary_encode(),
        "row": pa.array([f"cust-{k:04d}" for k in i]),
        "seen_at": pa.array(
            np.datetime64("2026-02-09T08:30:00", "s") + i * np.timedelta64(61, "s")
        ),
    }


def good_table(n_rows: int = 20, **changed: Any) -> pa.Table:
    """The good rows as a table, some columns changed; None takes a column away."""
    columns = good_columns(n_rows) | changed
    return pa.table({name: column for name, column in columns.items() if column is not None})


def replaced(column: pa.Array, index: int, value: Any) -> pa.Array:
    """A copy of `column` with one value changed."""
    values = column.to_pylist()
    values[index] = value
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return pa.array(values, kind)


def csv_bytes(table: pa.Table, *, delimiter: str = ",") -> bytes:
    """`table` as CSV, times in ISO 8601."""
    plain = pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    )
    sink = pa.BufferOutputStream()
    options = pyarrow.csv.WriteOptions(delimiter=delimiter, quoting_style="needed")
    pyarrow.csv.write_csv(plain, sink, options)
    return sink.getvalue().to_pybytes()


CSV_HEADER = "row,seen_at,amount,balance,country,label\n"


def csv_line(**values: str) -> str:
    """One line of CSV without fault, some of its cells changed."""
    cells = {
        "row": "cust-0001",
        "seen_at": "2026-02-09",
        "amount": "1",
        "balance": "1",
        "country": "de",
        "label": "fine",
    } | values
    return ",".join(cells.values()) + "\n"


# --- the parser's answers -------------------------------------------------------------------

Parse = Callable[..., ParsedRows]


def csv_format(**dialect: Any) -> CsvFormat:
    """A source's format as its pipeline file declares it."""
    return CsvFormat(csv=CsvDialect(**dialect))


def faults_of(parsed: ParsedRows) -> list[tuple[Any, ...]]:
    """Row id, file, line and reasons of each faulty row."""
    columns = pq.read_table(parsed.faults).to_pydict()
    return list(zip(*columns.values(), strict=True))


def refused(parse: Parse, *contents: pa.Table | bytes, **options: Any) -> BatchRefusedError:
    """The refusal that parsing ends in; one clear line, or the test fails."""
    with pytest.raises(BatchRefusedError) as raised:
        parse(*contents, **options)
    assert raised.value.sentence.isprintable()  # so it is one line, too
    assert len(raised.value.sentence) < 600
    return raised.value
