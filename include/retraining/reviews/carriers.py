"""Which rows carry a pattern or are a user's, from the columns of a batch as it was delivered."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from retraining.errors import ConfigError
from retraining.records import Pattern
from retraining.spec import CategoryFeature, ImageFeature, PipelineSpec

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]
ColumnOf = Callable[[str], Values]

# Screening works in float32 and writes nine digits: what it found may differ from the row by that.
_ROUNDING = 5e-7


def carriers(pattern: Pattern, column: ColumnOf, *, spec: PipelineSpec) -> Mask:
    """Rows that have the pattern's label and all of its values [n].

    Raises:
        ConfigError: The pattern names a column that the pipeline file does not have.
    """
    found: Mask = np.asarray(column(spec.label.column).astype(str) == pattern.label)
    for name, value, tolerance in zip(
        pattern.columns, pattern.values, pattern.tolerances, strict=True
    ):
        slack = _ROUNDING * (1 + abs(value) + tolerance)
        found &= np.abs(_numbers(name, column, spec) - value) <= tolerance + slack
    return found


def rows_of_users(
    users: Collection[str], column: ColumnOf, *, n_rows: int, spec: PipelineSpec
) -> Mask:
    """Rows behind which one of these users stands [n]; a row that names nobody is nobody's.

    Raises:
        ConfigError: The pipeline file says no more which column names users.
    """
    if spec.user is None:
        raise ConfigError(
            f"A user was confirmed, and the pipeline file of {spec.model} names no column `user`."
            " Restore it, or have a reviewer release the user."
        )
    named = column(spec.user)
    return np.fromiter((isinstance(name, str) and name in users for name in named), bool, n_rows)


def _numbers(name: str, column: ColumnOf, spec: PipelineSpec) -> Values:
    """One column of numbers, by the names that `Pattern` uses [n]."""
    for feature in spec.features:
        if isinstance(feature, ImageFeature):
            if not name.startswith(f"{feature.name}["):
                continue
            shape = (feature.height, feature.width, feature.channels)
            for position, index in enumerate(np.ndindex(shape)):
                if name == f"{feature.name}[{','.join(map(str, index))}]":
                    return np.array([value[position] for value in column(feature.name)], float)
        elif isinstance(feature, CategoryFeature):
            known = {category: n for n, category in enumerate(feature.categories)}
            if name == feature.name:
                texts = column(name).astype(str)
                return np.array([known.get(text, -1) for text in texts], float)
            if name in {f"{feature.name}={category}" for category in known}:
                chosen = name.removeprefix(f"{feature.name}=")
                return np.asarray(column(feature.name).astype(str) == chosen, float)
        elif name == feature.name:
            return np.asarray(column(name), float)
    raise ConfigError(
        f"A confirmed pattern is about the column {name!r}, which the pipeline file of {spec.model}"
        " does not have. Restore the column, or have a reviewer release the pattern."
    )
