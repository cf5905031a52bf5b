"""Guesses what each column of a reference set is: the label, a row's id, its time, a feature."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from retraining.errors import ConfigError
from retraining.init_spec.tables import Table

MAX_CATEGORIES = 50
_MARGIN = 0.5  # of the range seen in the reference set, on either side
_LOG_MARGIN = 3.0  # factor above the largest value seen, where the scale is logarithmic
_SKEWED = 15.0  # largest value over mean, above which a log scale is proposed
_ID_NAME = re.compile(r"(^|_)(id|uuid|guid|key)$|^id(_|$)", re.IGNORECASE)
_TIME_NAME = re.compile(r"time|date|(^|_)at$|^ts$", re.IGNORECASE)


@dataclass(frozen=True)
class Guess:
    """A line of the draft and what a person should look at in it; empty when nothing."""

    fields: Mapping[str, Any]
    review: str = ""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a reference set are.

    Attributes:
        complete: Positions of the rows in which nothing is missing.
        share_of_largest_class: Between 0 and 1.
    """

    label: str
    classes: tuple[str, ...]
    positive: str | None
    row_id: str
    event_time: str | None
    features: tuple[Guess, ...]
    complete: tuple[int, ...]
    share_of_largest_class: float


def guess_columns(table: Table, label: str) -> Columns:
    """Guess the role of every column.

    Raises:
        ConfigError: The label column is missing or no class, no column can name a row, or a column
            can be no feature; says what to change in the files.
    """
    names = list(table.typed.columns)
    if label not in names:
        raise ConfigError(f"{table.path}: there is no label column {label!r}; found {names}.")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{table.path}: columns stand twice: {repeated}. Rename them.")
    labels = table.texts(label)
    classes = _classes(table, label, labels)
    row_id = _row_id(table, label)
    event_time = _event_time(table, {label, row_id})
    features, wrong = [], []
    for name in names:
        if name in (label, row_id, event_time):
            continue
        guess = _feature(table, name)
        if isinstance(guess, Guess):
            features.append(guess)
        else:
            wrong.append(f"{name!r} {guess}")
    if wrong:
        raise ConfigError(
            f"{table.path}: some columns can be no feature: {'; '.join(wrong)}. Leave them out of"
            " the files, or turn them into numbers or categories first."
        )
    if not features:
        raise ConfigError(f"{table.path}: no column is left to learn from.")
    shares = labels.value_counts(normalize=True)
    gaps = [_missing(table, name) for name in names]
    complete = np.flatnonzero(~np.logical_or.reduce(gaps))
    return Columns(
        label=label,
        classes=classes,
        positive=str(shares.index[-1]) if len(classes) == 2 else None,
        row_id=row_id,
        event_time=event_time,
        features=tuple(features),
        complete=tuple(int(position) for position in complete),
        share_of_largest_class=float(shares.iloc[0]),
    )


def _classes(table: Table, label: str, labels: pd.Series) -> tuple[str, ...]:
    classes = tuple(sorted(set(labels.dropna()), key=_number_first))
    is_measured = pd.api.types.is_float_dtype(table.typed[label]) and len(classes) > MAX_CATEGORIES
    if len(classes) < 2 or len(classes) > 1000 or is_measured:
        raise ConfigError(
            f"{table.path}: the label column {label!r} has {len(classes)} different values;"
            " expected 2 to 1000 classes (a number to be predicted is another task)."
        )
    return classes


def _number_first(text: str) -> tuple[bool, float, str]:
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)


def _row_id(table: Table, label: str) -> str:
    """A column that names each row: called id, or else text; never a measured number."""
    unique = [
        name
        for name in table.typed.columns
        if name != label and not _missing(table, name).any() and _is_unique(table, name)
    ]
    named = [name for name in unique if _ID_NAME.search(name)]
    texts = [
        name
        for name in unique
        if pd.api.types.is_string_dtype(table.typed[name]) and not _is_time(table, name)
    ]
    if found := [*named, *texts]:
        return str(found[0])
    raise ConfigError(
        f"{table.path}: no column names each row. Reports name rows by an id and never show their"
        " values, so add a column such as row_id with a different text in every row of every file."
    )


def _is_unique(table: Table, name: str) -> bool:
    column = table.typed[name]
    if pd.api.types.is_float_dtype(column) or pa.types.is_binary(table.raw.schema.field(name).type):
        return False
    return bool(column.is_unique)


def _event_time(table: Table, taken: set[str]) -> str | None:
    times = [n for n in table.typed.columns if n not in taken and _is_time(table, n)]
    named = [name for name in times if _TIME_NAME.search(name)]
    return next(iter([*named, *times]), None)


def _is_time(table: Table, name: str) -> bool:
    column = table.typed[name]
    if pd.api.types.is_datetime64_any_dtype(column):
        return True
    if not pd.api.types.is_string_dtype(column) or column.isna().all():
        return False
    sample = column.dropna().head(200)
    looks = sample.str.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?").all()
    return bool(looks) and bool(
        pd.to_datetime(sample, errors="coerce", format="ISO8601").notna().all()
    )


def _missing(table: Table, name: str) -> Any:
    column = table.typed[name]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return ~np.isfinite(column.to_numpy(dtype=float, na_value=np.nan))
    return column.isna().to_numpy()


def _feature(table: Table, name: str) -> Guess | str:
    """A feature, or why the column cannot be one."""
    column, kind = table.typed[name], table.raw.schema.field(name).type
    gaps = int(_missing(table, name).sum())
    review = f"{gaps} of {len(column)} reference rows lack it; such rows are quarantined" * (
        gaps > 0
    )
    if pa.types.is_nested(kind):
        return "is nested"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _image(name, column)
    if pd.api.types.is_datetime64_any_dtype(column):
        return "is a second time; one column may be the event time"
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return _number(name, column, review)
    values = sorted(set(table.texts(name).dropna()))
    if len(values) > min(MAX_CATEGORIES, max(2, len(column) // 2)):
        return f"is text with {len(values)} different values"
    if pd.api.types.is_bool_dtype(column) and table.format == "parquet":
        values = ["false", "true"]
    elif len(values) < 2:
        values = [*values, "other"]
        review = "the reference set has one value only; which others are there?"
    return Guess({"name": name, "kind": "category", "categories": values}, review)


def _number(name: str, column: pd.Series, review: str) -> Guess | str:
    values = column.to_numpy(dtype=float, na_value=np.nan)
    values = values[np.isfinite(values)]
    if not len(values):
        return "holds no number"
    low, high = float(values.min()), float(values.max())
    fields: dict[str, Any] = {"name": name, "kind": "number"}
    whole = pd.api.types.is_integer_dtype(column)
    if low >= 0 and high > _SKEWED * max(float(values.mean()), 1e-12):
        bounds = (0.0, _outward(high * _LOG_MARGIN, up=True))
        return Guess(fields | _bounds(*bounds, whole=whole) | {"scale": "log"}, review)
    span = (high - low) or max(abs(high), 1.0)
    bottom = _outward(low - _MARGIN * span, up=False)
    bounds = (max(0.0, bottom) if low >= 0 else bottom, _outward(high + _MARGIN * span, up=True))
    return Guess(fields | _bounds(*bounds, whole=whole), review)


def _bounds(low: float, high: float, *, whole: bool) -> dict[str, float | int]:
    if whole:
        low, high = math.floor(low), math.ceil(high)
    tidy = (int(v) if float(v).is_integer() and abs(v) < 1e15 else v for v in (low, high))
    return dict(zip(("min", "max"), tidy, strict=True))


def _outward(value: float, *, up: bool) -> float:
    """Rounded to two digits, away from the values that were seen."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    rounded = (math.ceil if up else math.floor)(value / unit) * unit
    return float(f"{rounded:.12g}")


def _image(name: str, column: pd.Series) -> Guess | str:
    sizes = {len(value) for value in column.dropna()}
    if len(sizes) != 1:
        return "is binary, in different lengths"
    n_bytes = sizes.pop()
    channels = next((c for c in (1, 3, 4) if math.isqrt(n_bytes // c) ** 2 * c == n_bytes), None)
    if channels is None or not n_bytes:
        return f"is binary with {n_bytes} bytes, no square image of 1, 3 or 4 channels"
    side = math.isqrt(n_bytes // channels)
    brightest = max(max(value) for value in column.dropna())
    fields = {"name": name, "kind": "image", "height": side, "width": side, "channels": channels}
    return Guess(fields | {"max_value": max(1, brightest)}, "height, width and largest value")
