"""Rows become numbers: preprocessing as data, fitted on declared bounds and the reference set.

Statistics of private rows in preprocessing would leak outside DP-SGD's guarantee, and a poisoner
could move them; so only the pipeline file's bounds and the pinned reference set may feed what is
stored here. A row is encoded alone: its numbers never depend on the rows around it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from retraining.errors import BatchRefusedError, ConfigError
from retraining.records import Record
from retraining.spec import CategoryFeature, ImageFeature, NumberFeature, PipelineSpec

Matrix = npt.NDArray[np.float32]
_Reals = npt.NDArray[np.float64]

# A standardised value is cut here, so that no single row is far longer than the others: DP clips
# the gradient of a row, and a long row would lose most of its own. Measured on Spambase, 1,000 to
# 2,900 rows at epsilon 4: cutting at 2 gave 0.8 to 0.9 points more accuracy than at 5.
_MAX_DEVIATIONS = 2.0
# Floor of the deviation, as a share of the declared range: a column that hardly varies in the
# reference set would otherwise turn every other value into one at the cut.
_MIN_DEVIATION_SHARE = 0.01


class NumberEncoding(Record):
    """Clip to the bounds, scale, standardise, cut.

    Attributes:
        mean: Of the scaled reference values, in the unit of the scaled values.
        deviation: Their standard deviation, or its floor; above 0.
        max_deviations: Where a standardised value is cut, on both sides.
    """

    kind: Literal["number"] = "number"
    name: str
    min: float
    max: float
    scale: Literal["linear", "log"]
    mean: float
    deviation: float = Field(gt=0)
    max_deviations: float = Field(gt=0)

    @property
    def names(self) -> tuple[str, ...]:
        """One name per encoded column."""
        return (self.name,)

    @property
    def n_columns(self) -> int:
        """Number of encoded columns."""
        return 1


class CategoryEncoding(Record):
    """One column per declared category: 1 where the value is that category, else 0."""

    kind: Literal["category"] = "category"
    name: str
    categories: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One name per encoded column."""
        return tuple(f"{self.name}={category}" for category in self.categories)

    @property
    def n_columns(self) -> int:
        """Number of encoded columns."""
        return len(self.categories)

    def encode(self, column: "pd.Series[Any]") -> _Reals:
        """[n, categories], 0 or 1; a row of NaN where the value was not declared."""
        positions = _positions(column, self.categories)
        hot = np.eye(len(self.categories))[positions]
        hot[positions < 0] = np.nan
        return hot


class ImageEncoding(Record):
    """Bytes over the largest value, centred by the mean pixel of the reference set.

    Attributes:
        mean: Of all reference pixels, 0 to 1. One number, so that a large image stays small here.
    """

    kind: Literal["image"] = "image"
    name: str
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: int = Field(ge=1)
    max_value: int = Field(ge=1, le=255)
    mean: float

    @property
    def names(self) -> tuple[str, ...]:
        """One name per encoded column: row, column, channel."""
        shape = (self.height, self.width, self.channels)
        return tuple(f"{self.name}[{y},{x},{c}]" for y, x, c in np.ndindex(shape))

    @property
    def n_columns(self) -> int:
        """Number of encoded columns."""
        return self.height * self.width * self.channels

    def encode(self, column: "pd.Series[Any]") -> Matrix:
        """[n, height x width x channels]; a row of NaN where the length is not that product."""
        return _pixels(column, self.n_columns, self.max_value) - np.float32(self.mean)


Encoding = Annotated[NumberEncoding | CategoryEncoding | ImageEncoding, Field(discriminator="kind")]


class Preprocessing(Record):
    """How a row becomes numbers, whole and as data: what a model's manifest names."""

    features: tuple[Encoding, ...] = Field(min_length=1)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the encoded columns, in order."""
        return tuple(name for feature in self.features for name in feature.names)

    @property
    def n_features(self) -> int:
        """Number of encoded columns, d."""
        return sum(feature.n_columns for feature in self.features)

    def encode(self, frame: pd.DataFrame) -> Matrix:
        """Encode rows as float32 [n, d]; each row alone.

        Raises:
            BatchRefusedError: A declared column is missing, or holds a value that is no finite
                number, no declared category, or no image of the declared size. Screening
                quarantines such rows before; here they are an error, with a count.
        """
        _require_columns(frame, [f.name for f in self.features])
        encoded = np.empty((len(frame), self.n_features), dtype=np.float32)
        places = self._places()
        numbers = [f for f in self.features if isinstance(f, NumberEncoding)]
        if numbers:
            columns = [places[f.name].start for f in numbers]
            encoded[:, columns] = _encode_numbers(numbers, frame)
        for feature in self.features:
            if not isinstance(feature, NumberEncoding):
                encoded[:, places[feature.name]] = feature.encode(frame[feature.name])
        faulty = np.isnan(encoded)
        if faulty.any():
            for name, place in places.items():
                if wrong := int(faulty[:, place].any(axis=1).sum()):
                    raise _value_fault(name, wrong, len(frame))
        return encoded

    def _places(self) -> dict[str, slice]:
        """The encoded columns of each feature."""
        ends = np.cumsum([feature.n_columns for feature in self.features]).tolist()
        starts = [0, *ends[:-1]]
        return {
            feature.name: slice(start, end)
            for feature, start, end in zip(self.features, starts, ends, strict=True)
        }


def fit_preprocessing(spec: PipelineSpec, reference: pd.DataFrame) -> Preprocessing:
    """Fit the preprocessing of `spec` on the reference set.

    Statistics keep nine digits: enough for float32, and the same on every processor.

    Raises:
        ConfigError: The reference set is empty, lacks a column, or holds a value that the
            pipeline file does not allow.
    """
    if reference.empty:
        raise ConfigError(f"The reference set of {spec.model} has no rows; it needs vetted rows.")
    try:
        _require_columns(reference, [f.name for f in spec.features])
        fitted = Preprocessing(
            features=tuple(_FIT[f.kind](f, reference[f.name]) for f in spec.features)
        )
        fitted.encode(reference)
    except BatchRefusedError as error:
        raise ConfigError(f"The reference set of {spec.model}: {error.sentence}") from error
    return fitted


def labels_of(frame: pd.DataFrame, spec: PipelineSpec) -> npt.NDArray[np.int64]:
    """Class of each row, int64 [n]: its position in the spec's list of classes.

    Raises:
        BatchRefusedError: The label column is missing, or names a class that was not declared.
    """
    _require_columns(frame, [spec.label.column])
    positions = _positions(frame[spec.label.column], spec.label.classes)
    if wrong := int((positions < 0).sum()):
        raise _value_fault(spec.label.column, wrong, len(frame))
    return positions


# --- fitting --------------------------------------------------------------------------------


def _fit_number(feature: NumberFeature, column: "pd.Series[Any]") -> NumberEncoding:
    values = _numbers(column.to_frame())
    if wrong := int(np.isnan(values).sum()):
        raise _value_fault(feature.name, wrong, len(values))
    scaled = _scaled(values, [feature])[:, 0]
    span = _scaled(np.array([[feature.min], [feature.max]]), [feature])[:, 0]
    return NumberEncoding(
        name=feature.name,
        min=feature.min,
        max=feature.max,
        scale=feature.scale,
        mean=_nine_digits(scaled.mean()),
        deviation=_nine_digits(max(scaled.std(), _MIN_DEVIATION_SHARE * (span[1] - span[0]))),
        max_deviations=_MAX_DEVIATIONS,
    )


def _fit_category(feature: CategoryFeature, _column: "pd.Series[Any]") -> CategoryEncoding:
    return CategoryEncoding(name=feature.name, categories=feature.categories)


def _fit_image(feature: ImageFeature, column: "pd.Series[Any]") -> ImageEncoding:
    pixels = _pixels(column, feature.n_bytes, feature.max_value)
    if wrong := int(np.isnan(pixels).any(axis=1).sum()):
        raise _value_fault(feature.name, wrong, len(pixels))
    return ImageEncoding(
        name=feature.name,
        height=feature.height,
        width=feature.width,
        channels=feature.channels,
        max_value=feature.max_value,
        mean=_nine_digits(pixels.mean(dtype=np.float64)),
    )


_FIT: dict[str, Callable[[Any, "pd.Series[Any]"], Encoding]] = {
    "number": _fit_number,
    "category": _fit_category,
    "image": _fit_image,
}


# --- columns --------------------------------------------------------------------------------


def _encode_numbers(features: list[NumberEncoding], frame: pd.DataFrame) -> _Reals:
    """[n, features], in deviations from the reference means; NaN where a value is no number.

    All at once: column by column, wide rows took longer to encode than to be judged.
    """
    scaled = _scaled(_numbers(frame[[f.name for f in features]]), features)
    standardised = (scaled - _of(features, "mean")) / _of(features, "deviation")
    most = _of(features, "max_deviations")
    return standardised.clip(-most, most)


def _numbers(columns: pd.DataFrame) -> _Reals:
    """Float64 [n, columns]; NaN where the value is no finite number."""
    if any(dtype != np.float64 for dtype in columns.dtypes):
        columns = columns.apply(pd.to_numeric, errors="coerce")
    values = columns.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _scaled(values: _Reals, features: Sequence[NumberEncoding | NumberFeature]) -> _Reals:
    """Clipped to the bounds and scaled as declared [n, features]."""
    low = _of(features, "min")
    clipped = values.clip(low, _of(features, "max"))
    logs = np.array([f.scale == "log" for f in features])
    clipped[:, logs] = np.log1p(clipped[:, logs] - low[logs])
    return clipped


def _of(features: Sequence[NumberEncoding | NumberFeature], name: str) -> _Reals:
    return np.array([getattr(feature, name) for feature in features], dtype=np.float64)


def _positions(column: "pd.Series[Any]", allowed: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Position of each value in `allowed`; -1 where it is missing or not allowed."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        known = _index_of(allowed).get_indexer(column.cat.categories.astype(str))
        return np.append(known, -1)[column.cat.codes].astype(np.int64)
    found = _index_of(allowed).get_indexer(pd.Index(column.astype(str)))
    return found.astype(np.int64)


@lru_cache(maxsize=1024)
def _index_of(names: tuple[str, ...]) -> "pd.Index[str]":
    # Kept, with the table that it looks names up in: rows are encoded a few at a time.
    return pd.Index(names)


def _pixels(column: "pd.Series[Any]", n_bytes: int, max_value: int) -> Matrix:
    """[n, n_bytes], 0 to 1; a row of NaN where the value is not that many bytes."""
    blank = bytes(n_bytes)
    right = [isinstance(value, bytes) and len(value) == n_bytes for value in column]
    whole = b"".join(v if ok else blank for v, ok in zip(column, right, strict=True))
    pixels = np.frombuffer(whole, dtype=np.uint8).reshape(len(column), n_bytes)
    scaled = np.minimum(pixels, max_value).astype(np.float32) / np.float32(max_value)
    scaled[~np.array(right, dtype=bool)] = np.nan
    return scaled


def _nine_digits(value: float) -> float:
    # log1p and sums differ in the last bits between processors; stored bytes must not.
    return float(f"{value:.9g}")


def _require_columns(frame: pd.DataFrame, names: list[str]) -> None:
    if missing := [name for name in names if name not in frame.columns]:
        raise BatchRefusedError(
            "missing_column",
            f"Expected the columns of the pipeline file, found none named {missing}."
            " Deliver the missing columns, or change the pipeline file.",
        )


def _value_fault(name: str, n_wrong: int, n_rows: int) -> BatchRefusedError:
    return BatchRefusedError(
        "value_fault",
        f"Column {name!r}: {n_wrong} of {n_rows} values are not what the pipeline file declares"
        " (a finite number, a declared category or class, an image of that size)."
        " Correct them, or leave these rows out.",
    )
