"""What every part of a pipeline file is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Column = Annotated[str, Field(min_length=1, max_length=200)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Cron = Annotated[str, Field(pattern=r"^\S+( \S+){4}$", description="Five cron fields.")]


class Frozen(BaseModel):
    """A part of a pipeline file: read once, never changed, and closed to misspelt fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
