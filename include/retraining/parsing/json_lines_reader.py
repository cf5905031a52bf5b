"""JSON lines: one object per line, and a line that is none is a fault of that line alone.

Users' feedback is written by many hands, so one broken line must not cost the others. Fields that
nobody declared are passed over, as services add fields when they like; every value becomes text,
as in CSV, and is held against its column like any other text.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from retraining.parsing.refusals import refuse_rows
from retraining.parsing.values import Mask
from retraining.spec import Table

MAX_LINE_BYTES = 1 << 16  # two names of 256 bytes and a few numbers take one thousand

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROWS_AT_ONCE = 1 << 16
_BYTES_AT_ONCE = 16 << 20
_SKIP_BYTES = 1 << 20

LineFaults = list[tuple[str, Mask]]


def read_json_lines(
    file: str, path: Path, *, table: Table, rows_left: int
) -> Iterator[tuple[pa.RecordBatch, LineFaults]]:
    """Yield the columns of `table` as text, and the lines that are no such object.

    A blank line is no row. Faults: `line_too_long`, `encoding`, `bad_json`, `not_an_object`,
    `duplicate_field`, `nested_value` (in a declared field, or too deep to be read).

    Raises:
        BatchRefusedError: `too_many_rows`.
    """
    n_rows = 0
    with path.open("rb") as stream:
        lines = _lines(stream)
        while part := _take(lines):
            n_rows += len(part)
            if n_rows > rows_left:
                refuse_rows(file)
            yield _batch(part, table)


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Yield every line that is not blank; None in place of one that is too long."""
    first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(_SKIP_BYTES)
            yield None
        else:
            if first:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line.strip():
                yield line
        first = False


def _take(lines: Iterator[bytes | None]) -> list[bytes | None]:
    """The next lines: so many, or so many bytes, that memory stays bounded."""
    part: list[bytes | None] = []
    n_bytes = 0
    for line in lines:
        part.append(line)
        n_bytes += len(line or b"")
        if len(part) == _ROWS_AT_ONCE or n_bytes >= _BYTES_AT_ONCE:
            break
    return part


def _batch(lines: list[bytes | None], table: Table) -> tuple[pa.RecordBatch, LineFaults]:
    names = table.columns
    columns: list[list[str | None]] = [[] for _ in names]
    faults: dict[str, list[int]] = {}
    empty = (None,) * len(names)
    for number, line in enumerate(lines):
        try:
            values = _values(line, names)
        except _LineFault as fault:
            faults.setdefault(fault.reason, []).append(number)
            values = empty
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    arrays = [pa.array(column, pa.string()) for column in columns]
    masks = []
    for reason, found in sorted(faults.items()):
        mask = np.zeros(len(lines), dtype=bool)
        mask[found] = True
        masks.append((reason, mask))
    return pa.RecordBatch.from_arrays(arrays, names=list(names)), masks


class _LineFault(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _values(line: bytes | None, names: tuple[str, ...]) -> tuple[str | None, ...]:
    if line is None:
        raise _LineFault("line_too_long")
    try:
        found = _DECODER.decode(line.decode())
    except UnicodeDecodeError:
        raise _LineFault("encoding") from None
    except RecursionError:
        raise _LineFault("nested_value") from None
    except ValueError:
        raise _LineFault("bad_json") from None
    if type(found) is not dict:
        raise _LineFault("not_an_object")
    values = tuple(_text(found.get(name)) for name in names)
    if b"\\u" in line:  # half of a surrogate pair can be written so, and is no text
        for value in values:
            try:
                (value or "").encode()
            except UnicodeEncodeError:
                raise _LineFault("encoding") from None
    return values


def _text(value: Any) -> str | None:
    """As `values.as_text` has it: whole numbers without a point, `true` and `false`."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2.0**53 else repr(value)
    if isinstance(value, int):
        return str(value)
    raise _LineFault("nested_value")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two readers that disagree about which of the two counts would see two different votes.
        raise _LineFault("duplicate_field")
    return found


def _no_constant(constant: str) -> Any:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
