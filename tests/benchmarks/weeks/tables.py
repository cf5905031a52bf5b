"""Real tables, ready to be cut into weeks."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets

LABEL = "label"
_TEXT = 30  # most categories of a column of text; more are no feature
_LEAST_ROWS = 1500  # enough for a reference set, a holdout and some weeks
_LEAST_CLASS = 0.05  # share of rows: rarer classes are another problem
_INSIDE = {"digits": datasets.load_digits}


@dataclass(frozen=True)
class RealTable:
    """A table with numbers and texts, and a column `label` of text.

    Attributes:
        rows: Without missing values and without copies of a row.
    """

    name: str
    rows: pd.DataFrame

    @property
    def features(self) -> list[str]:
        """All columns but the label."""
        return [name for name in self.rows.columns if name != LABEL]

    @property
    def numbers(self) -> list[str]:
        """Columns of numbers with more than one value."""
        return [
            name
            for name in self.features
            if pd.api.types.is_numeric_dtype(self.rows[name]) and self.rows[name].nunique() > 1
        ]

    @property
    def classes(self) -> list[str]:
        """Most frequent first."""
        return [str(name) for name in self.rows[LABEL].value_counts().index]


def load_tables(folder: Path, wanted: Sequence[str] = ()) -> Iterator[RealTable]:
    """Tables of a folder with an INDEX.json, and those that scikit-learn brings.

    Args:
        wanted: Names; all that are large enough when empty.
    """
    index = json.loads((folder / "INDEX.json").read_text(encoding="utf-8"))["datasets"]
    for entry in index:
        if entry["kind"] == "tabular" and entry["name"] in (wanted or (entry["name"],)):
            raw = pd.read_parquet(folder / entry["file"])
            table = _clean(entry["name"], raw, entry["label"])
            if wanted or _is_large_enough(table):
                yield table
    for name, load in _INSIDE.items():
        if name in (wanted or (name,)):
            yield load_inside(name, load)


def load_inside(name: str = "digits", load: Any = datasets.load_digits) -> RealTable:
    """A table that scikit-learn brings."""
    bunch = load(as_frame=True)
    return _clean(name, bunch.data.assign(target=bunch.target), "target")


def _is_large_enough(table: RealTable) -> bool:
    shares = table.rows[LABEL].value_counts(normalize=True)
    return len(table.rows) >= _LEAST_ROWS and shares.min() >= _LEAST_CLASS


def _clean(name: str, raw: pd.DataFrame, label: str) -> RealTable:
    columns = {}
    for number, column in enumerate(column for column in raw.columns if column != label):
        values = raw[column]
        if pd.api.types.is_numeric_dtype(values):
            columns[f"f{number}"] = values.astype(np.float64)
        elif values.nunique() <= _TEXT:
            columns[f"c{number}"] = values.astype(str)
    rows = pd.DataFrame(columns)
    rows[LABEL] = raw[label].astype(str).radd("class ")
    return RealTable(name, rows.dropna().drop_duplicates().reset_index(drop=True))
