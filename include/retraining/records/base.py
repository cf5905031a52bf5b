"""What every record is: frozen, closed, with one canonical form."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import EvidenceError

Week = Annotated[str, Field(pattern=r"^\d{4}-W(0[1-9]|[1-4]\d|5[0-3])$")]
Verdict = Literal["PROMOTE", "HOLD", "REJECT"]
Day = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
Step = Literal[
    "pin",
    "ingest",
    "provenance",
    "screening_shard",
    "screening",
    "training",
    "validation",
    "purge",
    "gate",
    "promotion",
    "feedback",
    "monitoring",
    "rollback",
]


class Record(BaseModel):
    """Base of all records: frozen, closed, with one canonical form."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def to_json(self) -> bytes:
        """The canonical JSON of this record."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def identity(self) -> Digest:
        """The name of this record: SHA-256 over its canonical JSON."""
        return Digest.of(self.to_json())

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse strictly; raises EvidenceError when `data` is no such record."""
        try:
            return cls.model_validate(parse_json(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise EvidenceError(
                f"Expected a {cls.__name__}: {where or 'record'}: {first['msg']}."
            ) from error


class Refusal(Record):
    """Why a step did not use what it was given. A refusal is a conclusion, not a failure."""

    code: str
    sentence: str


class BatchId(Record):
    """What one source delivered for one week."""

    source: str
    week: Week

    def __str__(self) -> str:
        return f"{self.source} {self.week}"


class StoredFile(Record):
    """One delivered file, unchanged, in the store."""

    name: str
    digest: Digest
    n_bytes: int = Field(ge=0)


class Interval(Record):
    """A measured value with its confidence interval, both ends inclusive."""

    value: float
    low: float
    high: float
