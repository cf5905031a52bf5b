"""Reads a newcomer's table: the values typed, for guessing, and the text as it was delivered."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from retraining.errors import ConfigError
from retraining.parsing.values import as_text
from retraining.spec import CsvDialect, CsvFormat, Format

SUFFIXES = (".parquet", ".csv")
_SNIFFED_BYTES = 1 << 18
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """One file.

    Attributes:
        raw: As delivered; every column is text when it comes from CSV.
        typed: The same rows as pandas would type them.
        format: As a pipeline file declares it.
    """

    path: Path
    raw: pa.Table
    typed: pd.DataFrame
    format: Format

    def texts(self, column: str) -> pd.Series:
        """The column as the parser will read a category or a class; None where it is missing."""
        texts = as_text(self.raw.column(column).combine_chunks()).to_pandas().astype(object)
        if self.format != "parquet":
            texts = texts.where(texts != "", None)
        return pd.Series(texts.where(texts.notna(), None))

    def write(self, rows: Sequence[int], path: Path) -> None:
        """Write the rows at these positions, in the file's own format and with its own values."""
        part = self.raw.take(pa.array(rows, pa.int64()))
        if isinstance(self.format, CsvFormat):
            dialect = self.format.csv
            part.to_pandas().to_csv(
                path,
                index=False,
                sep=dialect.delimiter,
                quotechar=dialect.quote,
                encoding=dialect.encoding,
            )
        else:
            pq.write_table(part.replace_schema_metadata(), path)


def read_table(path: Path) -> Table:
    """Read a .parquet or .csv file whole.

    Raises:
        ConfigError: It cannot be read, or is neither.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected a file that ends in .parquet or .csv.")
    try:
        if path.suffix == ".parquet":
            raw = pq.read_table(path)
            return Table(path, raw, raw.to_pandas(), "parquet")
        dialect = guess_dialect(path)
        shared = {
            "sep": dialect.delimiter,
            "quotechar": dialect.quote,
            "encoding": dialect.encoding,
            "keep_default_na": False,
        }
        text = pd.read_csv(path, dtype=str, **shared)  # type: ignore[call-overload]
        typed = pd.read_csv(  # type: ignore[call-overload]
            path, decimal=dialect.decimal, na_values=[""], **shared
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    raw = pa.Table.from_pandas(text, preserve_index=False).replace_schema_metadata()
    return Table(path, raw, typed, CsvFormat(csv=dialect))


def guess_dialect(path: Path) -> CsvDialect:
    """Guess how a CSV file is written, from its first 256 KiB."""
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    try:
        # A character may be cut at the end of what was read.
        text, encoding = head[: head.rfind(b"\n") + 1 or None].decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = head.decode("latin-1"), "latin-1"
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    cells = [
        cell for row in csv.reader(text.splitlines()[1:200], delimiter=delimiter) for cell in row
    ]
    comma = sum(bool(re.fullmatch(r"[+-]?\d+,\d+", cell.strip())) for cell in cells)
    point = sum(bool(re.fullmatch(r"[+-]?\d+\.\d+", cell.strip())) for cell in cells)
    return CsvDialect.model_validate(
        {
            "delimiter": delimiter,
            "encoding": encoding,
            "decimal": "," if comma > point and delimiter != "," else ".",
        }
    )


def count_rows(path: Path) -> int:
    """Rows of a file, or lines of a CSV without its header: what limits are guessed from."""
    if path.suffix == ".parquet":
        try:
            return int(pq.read_metadata(path).num_rows)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"{path} is no Parquet file: {str(error)[:200]}") from error
    with path.open("rb") as file:
        return max(0, sum(1 for _ in file) - 1)
