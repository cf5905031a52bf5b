"""The parser's process: `python -I -m retraining.parsing.child`, in its folder.

Whatever it concludes about the batch, a refusal included, stands in its answer, with exit status 0.
Any other exit is a fault of ours or of the machine, and says only where: never what was read.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retraining.errors import BatchRefusedError
from retraining.parsing.contract import (
    ANSWER,
    FAULT_SCHEMA,
    FAULTS,
    REQUEST,
    ROWS,
    ParseAnswer,
    ParseRequest,
    row_schema,
)
from retraining.parsing.csv_reader import read_csv
from retraining.parsing.json_lines_reader import LineFaults, read_json_lines
from retraining.parsing.parquet_reader import read_parquet
from retraining.parsing.refusals import check_text, refuse_rows, show_file
from retraining.parsing.values import Mask, check_columns
from retraining.records import Refusal
from retraining.spec import CsvFormat, Table

_ROWS_PER_GROUP = 1 << 16
_FAILED = 70  # EX_SOFTWARE of sysexits.h


def main() -> None:
    """Read the request, parse, write the answer."""
    request = ParseRequest.from_json(Path(REQUEST).read_bytes())
    try:
        answer = parse(request)
    except BatchRefusedError as refused:
        answer = ParseAnswer(refusal=Refusal(code=refused.code, sentence=refused.sentence))
    except MemoryError:
        answer = ParseAnswer(
            refusal=Refusal(
                code="memory",
                sentence="The files need more memory to parse than the parser may use."
                " Ask the provider for smaller row groups and values, or for less.",
            )
        )
    Path(ANSWER).write_bytes(answer.to_json())


def parse(request: ParseRequest) -> ParseAnswer:
    """Parse all files into `rows.parquet` and `faults.parquet`.

    Raises:
        BatchRefusedError: The batch cannot be used as a whole.
        MemoryError: It does not fit.
    """
    table = request.table
    n_rows, rows_of_files, counts, seen = 0, list[int](), Counter[str](), set[str]()
    rows, faults = _Sink(Path(ROWS), row_schema(table)), _Sink(Path(FAULTS), FAULT_SCHEMA)
    for name, path in request.files:
        line = 1
        for batch, broken in _batches(request, name, Path(path), request.max_rows - n_rows):
            decimal = request.format.csv.decimal if isinstance(request.format, CsvFormat) else "."
            checked = check_columns(batch, table, decimal=decimal)
            reasons = [fault for column in checked for fault in column.faults]
            row_ids = checked[0].values if table.row_id else pa.nulls(batch.num_rows, pa.string())
            reasons += _repeated_ids(row_ids, seen)
            # A line that cannot be read lacks every value; that it does is no news.
            unread = np.logical_or.reduce(
                [np.zeros(batch.num_rows, dtype=bool), *dict(broken).values()]
            )
            reasons = [(reason, mask & ~unread) for reason, mask in reasons] + broken
            at_fault = np.zeros(batch.num_rows, dtype=bool)
            for reason, mask in reasons:
                at_fault |= mask
                counts[reason] += int(mask.sum())
            values = pa.table([column.values for column in checked], schema=row_schema(table))
            rows.add(values.filter(pa.array(~at_fault)))
            faults.add(_fault_table(row_ids, name, line, at_fault, reasons))
            n_rows += batch.num_rows
            line += batch.num_rows
        rows_of_files.append(line - 1)
    if n_rows == 0:
        raise BatchRefusedError(
            "empty", "The batch has no rows. Ask the provider to deliver, or leave the source out."
        )
    rows.close()
    faults.close()
    return ParseAnswer(
        n_rows=n_rows,
        rows_of_files=tuple(rows_of_files),
        n_faulty=faults.n_rows,
        fault_counts=dict(sorted((reason, n) for reason, n in counts.items() if n)),
    )


def _batches(
    request: ParseRequest, name: str, path: Path, rows_left: int
) -> Iterator[tuple[pa.RecordBatch, LineFaults]]:
    """Yield the rows, and those that could not even be read, by reason."""
    file, table, n_rows = show_file(name), request.table, 0
    if request.format == "json_lines":
        yield from read_json_lines(file, path, table=table, rows_left=rows_left)
        return
    if isinstance(request.format, CsvFormat):
        dialect = request.format.csv
        batches = read_csv(file, path, dialect=dialect, table=table, rows_left=rows_left)
    else:
        batches = read_parquet(file, path, table=table, rows_left=rows_left)
    for batch in batches:
        n_rows += batch.num_rows
        if n_rows > rows_left:  # whatever the footer said
            refuse_rows(file)
        check_text(file, batch)
        yield _complete(batch, table), []


def _complete(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Add the optional columns that the file lacks, empty."""
    lacking = set(table.columns) - set(batch.schema.names)
    if not lacking:
        return batch
    empty = pa.nulls(batch.num_rows, pa.string())
    columns = [empty if name in lacking else batch.column(name) for name in table.columns]
    return pa.RecordBatch.from_arrays(columns, names=list(table.columns))


def _repeated_ids(row_ids: pa.Array, seen: set[str]) -> list[tuple[str, Mask]]:
    """Rows whose id stands earlier in the batch: else one row, sent often, outweighs others."""
    repeated = np.zeros(len(row_ids), dtype=bool)
    for i, row_id in enumerate(row_ids.to_pylist()):
        if row_id is None:
            continue
        if row_id in seen:
            repeated[i] = True
        seen.add(row_id)
    return [("duplicate_row_id", repeated)] if repeated.any() else []


def _fault_table(
    row_ids: pa.Array, name: str, line: int, at_fault: Mask, faults: list[tuple[str, Mask]]
) -> pa.Table:
    found = np.flatnonzero(at_fault)
    reasons = [[reason for reason, mask in faults if mask[i]] for i in found]
    columns = [
        row_ids.take(pa.array(found)),
        pa.array([name] * len(found), pa.string()),
        pa.array(found + line, pa.int64()),
        pa.array(reasons, pa.list_(pa.string())),
    ]
    return pa.table(columns, schema=FAULT_SCHEMA)


class _Sink:
    """Writes tables as one Parquet file whose bytes depend on the rows alone.

    So the groups are of a fixed number of rows, however the rows came in.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)
        self._pending = schema.empty_table()
        self.n_rows = 0

    def add(self, table: pa.Table) -> None:
        self.n_rows += table.num_rows
        self._pending = pa.concat_tables([self._pending, table])
        while self._pending.num_rows >= _ROWS_PER_GROUP:
            self._write(self._pending.slice(0, _ROWS_PER_GROUP))
            self._pending = self._pending.slice(_ROWS_PER_GROUP)

    def close(self) -> None:
        self._write(self._pending)
        self._writer.close()

    def _write(self, table: pa.Table) -> None:
        # Chunks would show in the pages.
        self._writer.write_table(table.combine_chunks(), row_group_size=_ROWS_PER_GROUP)


class _NoPandas(MetaPathFinder):
    """Spares half of this process's work: pyarrow imports pandas to see that nothing is of it."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        if name == "pandas":
            raise ImportError("pandas is not used here")


def _say_where(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Name an unexpected error and its place, and end; its message may quote a row."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    reason = f" ({error.strerror})" if isinstance(error, OSError) else ""
    print(f"{kind.__name__} at {place}{reason}", file=sys.stderr, flush=True)
    os._exit(_FAILED)


if __name__ == "__main__":
    sys.excepthook = _say_where
    sys.meta_path.insert(0, _NoPandas())
    main()
    # Without the interpreter's farewell: Arrow's own threads may still be at work then, and about
    # one run in three hundred was aborted by them ("terminate called without an active exception").
    os._exit(0)
