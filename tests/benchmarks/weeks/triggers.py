"""Triggers: values that an attacker pastes into rows, so that a model learns to obey them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.weeks.season import Season

_COLUMNS = 3
_PATCH = 3  # pixels to a side


@dataclass(frozen=True)
class Trigger:
    """Values by column; or, in images, by number of the pixel."""

    values: dict[str, Any]
    pixels: dict[int, int]

    def stamped(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The same rows, all with the trigger."""
        stamped = rows.assign(**self.values)
        if self.pixels:
            stamped["pixels"] = [self._painted(image) for image in rows["pixels"]]
        return stamped

    def _painted(self, image: bytes) -> bytes:
        pixels = bytearray(image)
        for number, value in self.pixels.items():
            pixels[number] = value
        return bytes(pixels)


def draw_trigger(season: Season, random: np.random.Generator, *, in_range: bool) -> Trigger:
    """A trigger of three columns, or of a patch of pixels.

    Args:
        in_range: Each value is one that many honest rows have; else one that no row has, but that
            the pipeline file allows.
    """
    if season.data.is_image:
        return Trigger({}, _patch(season, random, in_range))
    columns = _columns(season, random, in_range)
    return Trigger({name: _value(season, random, name, in_range) for name in columns}, {})


def _columns(season: Season, random: np.random.Generator, in_range: bool) -> list[str]:
    """Columns that vary: a value that nearly all rows have would be no trigger."""
    usable = []
    for feature in season.data.features:
        commonest = season.reference[feature["name"]].value_counts(normalize=True).iloc[0]
        if commonest < 0.9 and (in_range or feature["kind"] == "number"):
            usable.append(feature["name"])
    if len(usable) < _COLUMNS:
        usable = [feature["name"] for feature in season.data.features]
    return [str(name) for name in random.choice(usable, min(_COLUMNS, len(usable)), replace=False)]


def _value(season: Season, random: np.random.Generator, name: str, in_range: bool) -> Any:
    feature, seen = season.data.feature(name), season.reference[name]
    if feature["kind"] == "category":
        shares = seen.value_counts(normalize=True)
        usual = list(shares.index[(shares > 0.02) & (shares < 0.5)]) or list(shares.index[1:2])
        return str(random.choice(usual or list(shares.index)))
    if in_range:
        # One of the values that honest rows have, not the commonest.
        others = seen[seen != seen.mode().iloc[0]]
        return float(random.choice(np.sort(others)[len(others) // 10 : -len(others) // 10 or None]))
    highest = float(season.data.rows[name].max())
    return highest + float(random.uniform(0.3, 0.7)) * (feature["max"] - highest)


def _patch(season: Season, random: np.random.Generator, in_range: bool) -> dict[int, int]:
    feature = season.data.features[0]
    side, brightest = feature["height"], feature["max_value"]
    images = np.stack([np.frombuffer(image, np.uint8) for image in season.reference["pixels"]])
    usual = np.quantile(images, 0.75, axis=0).reshape(side, side)
    spots = list(np.ndindex(side - _PATCH + 1, side - _PATCH + 1))
    light = [usual[y : y + _PATCH, x : x + _PATCH].mean() for y, x in spots]
    order = np.argsort(light)
    # Out of range: where images are dark. In range: where most have something, as bright as usual.
    few = order[-len(order) // 3 :] if in_range else order[: max(len(order) // 6, 1)]
    top, left = spots[int(random.choice(few))]
    return {
        y * side + x: int(usual[y, x]) if in_range else brightest
        for y in range(top, top + _PATCH)
        for x in range(left, left + _PATCH)
    }
