"""From delivered columns to checked ones: whole columns at a time, never a statistic over rows.

A value that is not what the pipeline file declares is a fault of its row, with a stable reason:
the row is quarantined and the batch goes on. Every converter takes one Arrow array, text when it
comes from CSV, and returns the converted array with null wherever a fault was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from retraining.parsing.contract import MAX_ROW_ID_BYTES
from retraining.spec import CategoryFeature, Feature, ImageFeature, NumberFeature, Table

Mask = npt.NDArray[np.bool_]

_MICROSECONDS = 1_000_000
_FIRST_TIME = np.datetime64("1900-01-01", "s")
_LAST_TIME = np.datetime64("2200-01-01", "s")
_ISO_8601 = (
    r"^(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[T ](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)"
    r"(?:\.(?P<fraction>\d{1,6})\d{0,3})?)?"
    r"(?:(?P<utc>Z)|(?P<sign>[+-])(?P<zone_hour>[01]\d|2[0-3]):?(?P<zone_minute>[0-5]\d))?)?$"
)


@dataclass(frozen=True)
class Checked:
    """A converted column, and which rows are at fault for which reason."""

    values: pa.Array
    faults: tuple[tuple[str, Mask], ...]


def check_columns(batch: pa.RecordBatch, table: Table, *, decimal: str) -> list[Checked]:
    """Convert every column of `batch`, in the order of `table.columns`.

    Args:
        batch: Exactly the columns of `table`, of types that `readers` let through.
        table: What each column may hold.
        decimal: Decimal point of numbers that are text.
    """
    checked = [check_row_ids(batch.column(table.row_id))] if table.row_id else []
    if table.event_time:
        checked.append(check_times(batch.column(table.event_time)))
    for name in table.texts:
        checked.append(_spared(check_texts(batch.column(name), name), name, table))
    for feature in table.features:
        found = check_feature(batch.column(feature.name), feature, decimal=decimal)
        checked.append(_spared(found, feature.name, table))
    if table.label is not None:
        checked.append(check_labels(batch.column(table.label.column), table.label.classes))
    return checked


def _spared(found: Checked, name: str, table: Table) -> Checked:
    """Without the fault of a missing value, where the column is optional."""
    if name not in table.optional:
        return found
    return Checked(found.values, tuple(f for f in found.faults if f[0] != f"missing:{name}"))


def check_feature(column: pa.Array, feature: Feature, *, decimal: str) -> Checked:
    """As the feature's kind has it; a missing value is a fault too."""
    match feature:
        case NumberFeature():
            return check_numbers(column, feature, decimal=decimal)
        case CategoryFeature():
            return check_categories(column, feature)
        case ImageFeature():
            return check_images(column, feature)


def check_row_ids(column: pa.Array) -> Checked:
    """Text; refused when empty, longer than 256 bytes, or with control characters."""
    text, missing, bad = _short_text(column)
    return _checked(text, ("missing_row_id", missing), ("bad_row_id", bad))


def check_texts(column: pa.Array, name: str) -> Checked:
    """Free text of a column that names something, held to the same as a row id."""
    text, missing, bad = _short_text(column)
    return _checked(text, (f"missing:{name}", missing), (f"bad_text:{name}", bad))


def _short_text(column: pa.Array) -> tuple[pa.Array, Mask, Mask]:
    text = as_text(column)
    missing = _mask(pc.equal(pc.binary_length(text), 0)) | _nulls(text)
    bad = _mask(pc.greater(pc.binary_length(text), MAX_ROW_ID_BYTES))
    bad |= _mask(pc.match_substring_regex(text, r"[\x00-\x1f\x7f]"))
    return text, missing, bad


def check_times(column: pa.Array) -> Checked:
    """Microseconds of UTC, from timestamps, dates, or text in ISO 8601; 1900 to 2199."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        if pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("s"))
        unit = column.type.unit
        first, last = (
            int(limit.astype(f"datetime64[{unit}]").astype(np.int64))
            for limit in (_FIRST_TIME, _LAST_TIME)
        )
        number = column.cast(pa.int64())
        inside = pc.and_(pc.greater_equal(number, first), pc.less(number, last))
        # Only what is inside is scaled: the rest could overflow.
        number = pc.if_else(inside, number, None).cast(pa.timestamp(unit))
        values = number.cast(pa.timestamp("us", tz="UTC"), safe=False)
    else:
        values = _times_from_text(column.cast(pa.string()))
    return _checked(values, ("bad_event_time", _nulls(values)))


def check_numbers(column: pa.Array, feature: NumberFeature, *, decimal: str) -> Checked:
    """float64 within the declared bounds."""
    missing, bad = _nulls(column), np.zeros(len(column), dtype=bool)
    if pa.types.is_string(column.type):
        column = _numbers_from_text(column, decimal)
        bad = _nulls(column) & ~missing
    values = column.cast(pa.float64(), safe=False)
    nan, infinite = _mask(pc.is_nan(values)), _mask(pc.is_inf(values))
    outside = pc.or_(pc.less(values, feature.min), pc.greater(values, feature.max))
    name = feature.name
    return _checked(
        values,
        (f"missing:{name}", missing),
        (f"bad_number:{name}", bad),
        (f"nan:{name}", nan),
        (f"infinity:{name}", infinite),
        (f"out_of_bounds:{name}", _mask(outside) & ~infinite),
    )


def check_categories(column: pa.Array, feature: CategoryFeature) -> Checked:
    """One of the declared categories, as text."""
    text = as_text(column)
    missing, known = _nulls(text), _mask(pc.is_in(text, pa.array(feature.categories, pa.string())))
    name = feature.name
    return _checked(
        text, (f"missing:{name}", missing), (f"unknown_category:{name}", ~known & ~missing)
    )


def check_labels(column: pa.Array, classes: Sequence[str]) -> Checked:
    """One of the declared classes, as text."""
    text = as_text(column)
    missing, known = _nulls(text), _mask(pc.is_in(text, pa.array(classes, pa.string())))
    return _checked(text, ("missing_label", missing), ("unknown_class", ~known & ~missing))


def check_images(column: pa.Array, feature: ImageFeature) -> Checked:
    """Exactly height x width x channels bytes, none above `max_value`."""
    name, missing = feature.name, _nulls(column)
    binary = column.cast(pa.binary())
    wrong_size = _mask(pc.not_equal(pc.binary_length(binary), feature.n_bytes))
    right = np.flatnonzero(~missing & ~wrong_size)
    too_bright = np.zeros(len(column), dtype=bool)
    if feature.max_value < 255 and len(right):
        fixed = binary.take(pa.array(right)).cast(pa.binary(feature.n_bytes))
        pixels = np.frombuffer(
            fixed.buffers()[1], dtype=np.uint8, count=len(right) * feature.n_bytes
        )
        brightest = pixels.reshape(len(right), feature.n_bytes).max(axis=1)
        too_bright[right] = brightest > feature.max_value
    return _checked(
        binary,
        (f"missing:{name}", missing),
        (f"image_size:{name}", wrong_size),
        (f"image_value:{name}", too_bright),
    )


def as_text(column: pa.Array) -> pa.Array:
    """Text of names and ids: integers as written in decimal, booleans as `true` and `false`.

    A column of integers in which one is missing is often delivered as floats (pandas does so), so
    1.0 is `1` here, and NaN is missing.
    """
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    column = column.cast(pa.float64())
    column = pc.if_else(pc.is_nan(column), None, column)
    whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
    integers = pc.if_else(whole, column, 0.0).cast(pa.int64()).cast(pa.string())
    return pc.if_else(whole, integers, column.cast(pa.string()))


def _numbers_from_text(column: pa.Array, decimal: str) -> pa.Array:
    """float64, NaN and infinity included; null where the text is no number."""
    text = pc.ascii_trim_whitespace(column)
    point = r"\." if decimal == "." else ","
    number = rf"^[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$"
    named = r"(?i)^[+-]?(nan|inf|infinity)$"
    valid = pc.or_(pc.match_substring_regex(text, number), pc.match_substring_regex(text, named))
    text = pc.if_else(valid, text, None)
    if decimal != ".":
        text = pc.replace_substring(text, decimal, ".")
    return text.cast(pa.float64())


def _times_from_text(column: pa.Array) -> pa.Array:
    """Microseconds of UTC; null where the text is no time that exists between 1900 and 2199."""
    parts = pc.extract_regex(column, _ISO_8601)

    def numbers(name: str, *, width: int = 0) -> npt.NDArray[np.int64]:
        text = pc.struct_field(parts, name)
        if width:
            text = pc.utf8_rpad(text, width, padding="0")
        text = pc.if_else(pc.equal(pc.binary_length(text), 0), "0", text)
        return text.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    month = (numbers("year") - 1970).astype("datetime64[Y]").astype("datetime64[M]")
    month += numbers("month") - 1
    day = month.astype("datetime64[D]") + (numbers("day") - 1)
    seconds = numbers("hour") * 3600 + numbers("minute") * 60 + numbers("second")
    east = _mask(pc.equal(pc.struct_field(parts, "sign"), "+"))
    zone = numbers("zone_hour") * 3600 + numbers("zone_minute") * 60
    at = day.astype("datetime64[s]") + (seconds - np.where(east, zone, -zone))
    exists = (day.astype("datetime64[M]") == month) & (numbers("month") >= 1)
    exists &= (numbers("month") <= 12) & (at >= _FIRST_TIME) & (at < _LAST_TIME)
    microseconds = at.astype(np.int64) * _MICROSECONDS + numbers("fraction", width=6)
    absent = _nulls(parts) | ~exists
    return pa.array(microseconds, mask=absent).cast(pa.timestamp("us", tz="UTC"))


def _checked(values: pa.Array, *faults: tuple[str, Any]) -> Checked:
    found = tuple((reason, mask) for reason, mask in faults if mask.any())
    if not found:
        return Checked(values, ())
    at_fault = np.logical_or.reduce([mask for _, mask in found])
    return Checked(pc.if_else(pa.array(~at_fault), values, None), found)


def _nulls(column: pa.Array) -> Mask:
    return column.is_null().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _mask(condition: pa.Array) -> Mask:
    return condition.fill_null(False).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
