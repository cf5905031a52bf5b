"""The way back: numbers as `RowReader` reads them become a frame that a model answers.

A check pastes values of one row into another; what comes out has to be a row that somebody could
deliver, so every number is cut at its declared bounds and every category is a declared one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from retraining.screening.rows import Mask, Matrix, Reals
from retraining.spec import CategoryFeature, ImageFeature, NumberFeature, PipelineSpec
from retraining.validation.behaviour.case import Model

_SMALLEST = 1e-6  # no probability is less, so that one sure answer does not weigh for everything
_ROWS_AT_ONCE = 16_384  # bounds the memory of a frame


class FrameWriter:
    """Writes matrices [n, d] of one pipeline as frames with its feature columns."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._scaled = any(isinstance(feature, ImageFeature) for feature in spec.features)
        widths = [_width(feature, self._scaled) for feature in spec.features]
        starts = np.cumsum([0, *widths])
        placed = list(zip(spec.features, starts, widths, strict=False))
        # All numbers in one block: column by column, writing took longer than predicting.
        numbers = [(f, start) for f, start, _ in placed if isinstance(f, NumberFeature)]
        self._numbers = [feature.name for feature, _ in numbers]
        self._number_columns = [start for _, start in numbers]
        self._low = np.array([feature.min for feature, _ in numbers], dtype=np.float64)
        self._high = np.array([feature.max for feature, _ in numbers], dtype=np.float64)
        self._others = [
            (feature.name, slice(start, start + width), _writer(feature, self._scaled))
            for feature, start, width in placed
            if not isinstance(feature, NumberFeature)
        ]

    def frame(self, features: Matrix) -> pd.DataFrame:
        """Rows without label, id or time; numbers stand before the other columns."""
        values = features[:, self._number_columns].astype(np.float64)
        if self._scaled:
            values = self._low + (self._high - self._low) * values
        written = pd.DataFrame(values.clip(self._low, self._high), columns=self._numbers)
        for name, place, write in self._others:
            written[name] = write(features[:, place])
        return written


@dataclass(frozen=True)
class Answering:
    """A model as the surrogate that the transplant test asks: rows are matrices.

    Attributes:
        uses: Every column: nothing is known of the model but its answers [d].
    """

    model: Model
    writer: FrameWriter
    uses: Mask

    def log_probabilities(self, features: Matrix) -> Reals:
        """Of every class [m, k]; finite. An answer that is no number counts as no opinion."""
        parts = [
            self.model.predict(self.writer.frame(features[start : start + _ROWS_AT_ONCE]))
            for start in range(0, max(len(features), 1), _ROWS_AT_ONCE)
        ]
        table = np.maximum(np.nan_to_num(np.concatenate(parts)), _SMALLEST)
        result: Reals = np.log(table / table.sum(axis=1, keepdims=True))
        return result


def _width(feature: NumberFeature | CategoryFeature | ImageFeature, scaled: bool) -> int:
    if isinstance(feature, ImageFeature):
        return feature.n_bytes
    return len(feature.categories) if scaled and isinstance(feature, CategoryFeature) else 1


def _writer(feature: CategoryFeature | ImageFeature, scaled: bool) -> Callable[[Matrix], Any]:
    if isinstance(feature, ImageFeature):
        return lambda block: _pictures(block, feature.max_value)
    names = pd.Index(feature.categories)
    if scaled:
        return lambda block: pd.Categorical.from_codes(block.argmax(axis=1), names)
    last = len(names) - 1
    return lambda block: pd.Categorical.from_codes(
        np.rint(block[:, 0]).astype(np.int64).clip(0, last), names
    )


def _pictures(block: Matrix, max_value: int) -> list[bytes]:
    pixels = np.rint(block * max_value).clip(0, max_value).astype(np.uint8)
    return [row.tobytes() for row in pixels]
