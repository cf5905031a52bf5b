"""Where rows come from: sources, and vetted files."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from retraining.digests import Digest
from retraining.spec.base import Fraction, Frozen, Name


class CsvDialect(Frozen):
    """How a source writes CSV; nothing is guessed."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', min_length=1, max_length=1)
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    decimal: Literal[".", ","] = "."

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, mark in (("delimiter", self.delimiter), ("quote", self.quote)):
            if not (mark == "\t" or (mark.isascii() and mark.isprintable() and mark != " ")):
                raise ValueError(f"{name} must be a tab or a printable ASCII character")
        if self.delimiter == self.quote:
            raise ValueError("delimiter and quote must differ")
        return self


class CsvFormat(Frozen):
    """`format: {csv: {…}}`."""

    csv: CsvDialect


Format = Literal["parquet"] | CsvFormat


def csv_shorthand(value: Any) -> Any:
    """`format: csv` is CSV in its usual dialect."""
    return {"csv": {}} if value == "csv" else value


FileFormat = Annotated[
    Format,
    BeforeValidator(csv_shorthand, json_schema_input_type=Literal["parquet", "csv"] | CsvFormat),
]


class SourceSpec(Frozen):
    """A place that rows come from, with an owner's key, a trust tier and limits."""

    name: Name
    uri: str = Field(description="Folder or file per week: path or s3://, with {week} in it.")
    format: FileFormat = "parquet"
    trust: Literal["trusted", "known", "untrusted"]
    key_id: str | None = Field(default=None, description="The provider's key in the trust list.")
    signature: Literal["required", "none"] = "required"
    on_refusal: Literal["stop", "leave_out"] = "leave_out"
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    max_rows: int = Field(default=1_000_000, ge=1)
    min_rows: int = Field(default=1, ge=1)
    max_share_of_batch: Fraction = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "{week}" not in self.uri:
            raise ValueError("uri must contain {week}, so that each week has files of its own")
        if self.signature == "required" and self.key_id is None:
            raise ValueError(
                "key_id is missing; a source that cannot sign is declared so: signature: none"
            )
        if self.signature == "none" and self.key_id is not None:
            raise ValueError("signature: none and a key_id contradict each other; keep one")
        if self.min_rows > self.max_rows:
            raise ValueError("min_rows must not exceed max_rows")
        return self


class PinnedData(Frozen):
    """A vetted file, pinned by the digest of all its bytes."""

    uri: str
    format: FileFormat = "parquet"
    digest: Digest
