"""Parquet: what the file states about itself is checked before anything is decompressed.

A few kilobytes can state a million rows or unpack to terabytes. Row counts and sizes in the footer
are held against what the declared columns can take at all; a footer that lies, and dictionaries
that repeat one long value, then meet the memory limit of this process.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retraining.errors import BatchRefusedError
from retraining.parsing.contract import max_row_bytes
from retraining.parsing.refusals import check_names, parsed, refuse_rows, show_names
from retraining.spec import Table

_MIB = 1 << 20
_BATCH_BYTES = 32 * _MIB
_MAX_FOOTER_BYTES = 16 * _MIB
_CHUNK_OVERHEAD_BYTES = 4096  # page headers and statistics of one column in one row group
_MAGIC = b"PAR1"


def read_parquet(
    file: str, path: Path, *, table: Table, rows_left: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows, in the types in which they were delivered, with the columns of `table`.

    Raises:
        BatchRefusedError: `unreadable`, `too_many_rows`, `ratio`, `nested_types`, `wrong_type`, or
            as `check_names`.
    """
    _check_frame(file, path)
    row_bytes = max_row_bytes(table)

    def batches() -> Iterator[pa.RecordBatch]:
        # Without pre-buffering a column is read page by page, however large its row group is.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_MIB) as parquet:
            _check_footer(file, parquet.metadata, row_bytes, rows_left)
            names = parquet.schema_arrow.names
            check_names(file, names, table)
            present = [name for name in table.columns if name in names]
            _check_types(file, parquet.schema_arrow, table)
            size = min(max(_BATCH_BYTES // row_bytes, 64), 1 << 16)
            for batch in parquet.iter_batches(batch_size=size, use_threads=False):
                yield _plain(batch.select(present))

    return parsed(file, batches)


def _check_frame(file: str, path: Path) -> None:
    """Refuse what is not a whole Parquet file, before a footer of any size is read."""
    with path.open("rb") as stream:
        first = stream.read(len(_MAGIC))
        size = stream.seek(0, 2)
        stream.seek(max(size - 8, 0))
        last = stream.read()
    if size < 12 or first != _MAGIC or last[4:] != _MAGIC:
        raise BatchRefusedError(
            "unreadable",
            f"{file} is no whole Parquet file: its first or last four bytes are not PAR1. It was"
            " cut off, or is another format; ask the provider to deliver it again.",
        )
    footer, allowed = int.from_bytes(last[:4], "little"), min(size - 12, _MAX_FOOTER_BYTES)
    if footer > allowed:
        raise BatchRefusedError(
            "unreadable",
            f"{file} states a footer of {footer} bytes; expected at most {allowed} in this file."
            " Ask the provider to deliver it again.",
        )


def _check_footer(file: str, metadata: Any, row_bytes: int, rows_left: int) -> None:
    """Refuse row counts and sizes that the file states about itself."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_rows = sum(group.num_rows for group in groups)
    if max(n_rows, metadata.num_rows) > rows_left:
        refuse_rows(file)
    stated = sum(max(group.total_byte_size, 0) for group in groups)
    overhead = _MIB + _CHUNK_OVERHEAD_BYTES * len(groups) * metadata.num_columns
    if stated > (allowed := n_rows * row_bytes + overhead):
        raise BatchRefusedError(
            "ratio",
            f"{file} would unpack to {stated} bytes; {n_rows} rows of the declared columns take at"
            f" most {allowed}. Ask the provider what this is.",
        )


def _check_types(file: str, schema: pa.Schema, table: Table) -> None:
    """Refuse a column that as a whole cannot be what is declared."""
    roles: dict[str, str] = {feature.name: feature.kind for feature in table.features}
    roles |= dict.fromkeys(table.texts, "row id")
    if table.row_id:
        roles[table.row_id] = "row id"
    if table.label:
        roles[table.label.column] = "category"
    if table.event_time:
        roles[table.event_time] = "time"
    types = {name: _value_type(schema.field(name).type) for name in roles if name in schema.names}
    if nested := [column for column, kind in types.items() if pa.types.is_nested(kind)]:
        raise BatchRefusedError(
            "nested_types",
            f"{file} has nested values in {show_names(nested)}; expected one plain value per row"
            " and column. Ask the provider to flatten them.",
        )
    wrong = [
        f"{show_names([column])} holds {ascii(str(kind))[1:41]}, expected {words}"
        for column, kind in types.items()
        for allowed, words in [_ALLOWED[roles[column]]]
        if not allowed(kind) and not pa.types.is_null(kind)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more columns" if len(wrong) > 3 else ""
        raise BatchRefusedError(
            "wrong_type",
            f"{file}: {'; '.join(wrong[:3])}{more}. Ask the provider to correct the export.",
        )


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _is_number(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind))


def _is_name(kind: pa.DataType) -> bool:
    return bool(_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(_is_text(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_binary(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind))


# What each role may be delivered as. Booleans are no numbers: nobody declared which one is 1.
_ALLOWED: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "row id": (_is_name, "text or integers"),
    "time": (_is_time, "timestamps, dates or ISO 8601 text"),
    "number": (_is_number, "numbers"),
    "category": (lambda kind: _is_name(kind) or pa.types.is_boolean(kind), "text or integers"),
    "image": (_is_binary, "binary values"),
}


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Decode dictionaries, and turn the several kinds of text into one."""
    columns = []
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        columns.append(column.cast(pa.string()) if _is_text(column.type) else column)
    return pa.record_batch(columns, names=batch.schema.names)
