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
        scaled = any(isinstance(feature, ImageFeature) for feature in spec.features)
        self._columns: list[tuple[str, int, Callable[[Matrix], Any]]] = [
            (feature.name, _width(feature, scaled), _writer(feature, scaled))
            for feature in spec.features
        ]

    def frame(self, features: Matrix) -> pd.DataFrame:
        """Rows without label, id or time."""
        start, written = 0, {}
        for name, width, write in self._columns:
            written[name] = write(features[:, start : start + width])
            start += width
        return pd.DataFrame(written)


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


def _writer(
    feature: NumberFeature | CategoryFeature | ImageFeature, scaled: bool
) -> Callable[[Matrix], Any]:
    if isinstance(feature, ImageFeature):
        return lambda block: _pictures(block, feature.max_value)
    if isinstance(feature, CategoryFeature):
        names = np.array(feature.categories, dtype=object)
        if scaled:
            return lambda block: names[block.argmax(axis=1)]
        last = len(names) - 1
        return lambda block: names[np.rint(block[:, 0]).astype(np.int64).clip(0, last)]
    low, high = feature.min, feature.max
    if scaled:
        return lambda block: (low + (high - low) * block[:, 0].astype(float)).clip(low, high)
    return lambda block: block[:, 0].astype(np.float64).clip(low, high)


def _pictures(block: Matrix, max_value: int) -> list[bytes]:
    pixels = np.rint(block * max_value).clip(0, max_value).astype(np.uint8)
    return [row.tobytes() for row in pixels]
