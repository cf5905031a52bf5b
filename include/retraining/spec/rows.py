"""What a row is: its columns, and what each may hold."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from retraining.spec.base import Column, Frozen


class LabelSpec(Frozen):
    """The column that holds the truth, and the classes it may name."""

    column: Column
    classes: tuple[str, ...] = Field(min_length=2, max_length=1000)
    positive: str | None = Field(
        default=None, description="Class that precision, recall, F1 and AUC are about (2 classes)."
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        # YAML reads 0 and 1 as numbers; class names are text everywhere else.
        return [str(item) for item in value] if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from one another")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive must be one of {list(self.classes)}")
        if self.positive is not None and len(self.classes) != 2:
            raise ValueError("positive is for two classes; leave it out for more")
        return self


class NumberFeature(Frozen):
    """A number between declared bounds, both inclusive, in the unit of the data."""

    kind: Literal["number"]
    name: Column
    min: float
    max: float
    scale: Literal["linear", "log"] = Field(
        default="linear", description="log: log(1 + x - min), for counts and amounts."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.min < self.max:
            raise ValueError(f"min must be below max, found {self.min:g} and {self.max:g}")
        return self


class CategoryFeature(Frozen):
    """One of a declared list of values."""

    kind: Literal["category"]
    name: Column
    categories: tuple[str, ...] = Field(min_length=2, max_length=1000)

    @field_validator("categories", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return [str(item) for item in value] if isinstance(value, list | tuple) else value


class ImageFeature(Frozen):
    """A binary column of height x width x channels bytes, row by row, channel last."""

    kind: Literal["image"]
    name: Column
    height: int = Field(ge=1, le=512)
    width: int = Field(ge=1, le=512)
    channels: int = Field(default=1, ge=1, le=4)
    max_value: int = Field(default=255, ge=1, le=255)

    @property
    def n_bytes(self) -> int:
        """Length of one value, in bytes."""
        return self.height * self.width * self.channels


Feature = Annotated[NumberFeature | CategoryFeature | ImageFeature, Field(discriminator="kind")]


class Table(Frozen):
    """Columns that a delivered file has to have, and what each may hold.

    Attributes:
        row_id: Names its row and stands once; None where rows have no name of their own.
        texts: Free text of at most 256 bytes, such as the name of a user.
        features: Columns of a declared kind.
        optional: Of `texts` and `features`, those that may be missing, whole or in single rows.
    """

    row_id: Column | None = None
    event_time: Column | None = None
    texts: tuple[Column, ...] = ()
    features: tuple[Feature, ...] = ()
    label: LabelSpec | None = None
    optional: tuple[Column, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column, in a fixed order."""
        first = [name for name in (self.row_id, self.event_time) if name]
        last = [self.label.column] if self.label else []
        return (*first, *self.texts, *(feature.name for feature in self.features), *last)
