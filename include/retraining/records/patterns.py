"""Values that rows share, as screening or the gate found them, or as a reviewer confirmed them."""

from typing import Self

from pydantic import Field, model_validator

from retraining.records.base import Record


class Pattern(Record):
    """Values that rows share: a trigger, or a region.

    A row carries it when each column lies within the tolerance of its value and the label is that.

    Attributes:
        columns: Of numbers, by name; of categories, by name (the value is the position in the
            declared list) or `name=category` (1 or 0); of pixels, `name[row,column,channel]`.
        values: As delivered: a pixel is a byte.
        tolerances: In the unit of the values, both ends inclusive.
    """

    columns: tuple[str, ...] = Field(min_length=1)
    values: tuple[float, ...]
    tolerances: tuple[float, ...]
    label: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.columns) == len(self.values) == len(self.tolerances):
            raise ValueError("each column needs one value and one tolerance")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("a column stands once")
        if min(self.tolerances) < 0:
            raise ValueError("a tolerance is 0 or more")
        return self
