"""CSV in its declared dialect: every byte is looked at before the first value is.

One line is one row: no declared kind of column holds line breaks. So a quote that is left open,
which would swallow the rows behind it in silence, shows as a difference between the two counts.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv

from retraining.parsing.refusals import check_names, parsed, refuse_line, refuse_rows
from retraining.spec import CsvDialect, Table

_MAX_LINE_BYTES = 1 << 20
_BLOCK_BYTES = 4 << 20  # several of the longest lines
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_csv(
    file: str, path: Path, *, dialect: CsvDialect, table: Table, rows_left: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows as text, null where a field is empty, with the columns of `table`.

    Raises:
        BatchRefusedError: `line_too_long`, `nul_bytes`, `bad_line_end`, `encoding`, `ragged_csv`,
            `too_many_rows`, or as `check_names`.
    """
    with path.open("rb") as stream:
        header, n_lines = _scan_lines(file, stream, dialect.encoding)
    if n_lines > rows_left:
        refuse_rows(file)
    names = _header_names(file, header, dialect)
    check_names(file, names, table, may_lack_header=True)
    n_rows = 0
    # Opened by us: from a path, Arrow would guess a compression from its suffix.
    with path.open("rb") as stream:
        for batch in parsed(file, lambda: _open(stream, names, dialect)):
            n_rows += batch.num_rows
            yield batch.select([name for name in table.columns if name in names])
    if n_rows != n_lines:
        refuse_line(
            *("ragged_csv", file, n_rows + 1),
            f"or one near it leaves a quote open or a value holds a line break: {n_lines} lines"
            f" after the header gave {n_rows} rows",
        )


def _scan_lines(file: str, stream: IO[bytes], encoding: str) -> tuple[bytes, int]:
    """Check the bytes of every line; return the header and the number of lines with rows."""
    header, n_lines, number = b"", 0, 0
    while line := stream.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > _MAX_LINE_BYTES:
            refuse_line("line_too_long", file, number, f"has more than {_MAX_LINE_BYTES} bytes")
        if b"\0" in line:
            refuse_line("nul_bytes", file, number, "holds a NUL byte, as UTF-16 and binaries do")
        content = line.rstrip(b"\r\n")
        if b"\r" in content:
            refuse_line("bad_line_end", file, number, "holds a carriage return that ends no line")
        if not content.isascii():
            try:
                content.decode(encoding)
            except UnicodeDecodeError:
                refuse_line("encoding", file, number, f"is not {encoding}")
        if number == 1:
            header = content
        elif content:
            n_lines += 1
    return header, n_lines


def _header_names(file: str, header: bytes, dialect: CsvDialect) -> list[str]:
    text = header.removeprefix(_BYTE_ORDER_MARK).decode(dialect.encoding)
    try:
        (names,) = csv.reader(
            [text], delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True
        )
    except (csv.Error, ValueError):
        refuse_line("ragged_csv", file, 1, "is no header: it is empty, or leaves a quote open")
    return names


def _open(stream: IO[bytes], names: Sequence[str], dialect: CsvDialect) -> Any:
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False,  # keeps row numbers in errors, and memory small
            block_size=_BLOCK_BYTES,
            skip_rows=1,
            column_names=names,
            encoding=dialect.encoding,
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=dialect.delimiter, quote_char=dialect.quote, newlines_in_values=False
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
