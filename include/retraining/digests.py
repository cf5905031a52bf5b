"""Content digests and the one way in which we write JSON.

A digest names an artefact for ever, so both are strict: a digest is SHA-256 over *all* bytes,
and a JSON text has exactly one canonical form.
"""

import hashlib
import json
import re
from typing import Any, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from retraining.errors import EvidenceError

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")


class Digest(str):
    """`sha256:` followed by 64 lower-case hexadecimal digits.

    A string, so that it travels through JSON, XCom and file names unchanged; checked when it is
    built, so that nothing else can pose as one.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check and keep `text`; raises EvidenceError when it is not a digest."""
        if not _PATTERN.fullmatch(text):
            raise EvidenceError(
                f"Expected a digest such as sha256:0123…, found {text[:80]!r}."
                " Copy the digest whole, prefix included."
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def from_hex(cls, hexadecimal: str) -> Self:
        """Digest from its 64 hexadecimal digits."""
        return cls(f"sha256:{hexadecimal}")

    @property
    def hex(self) -> str:
        """The 64 hexadecimal digits, without prefix."""
        return self[len("sha256:") :]

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def build(text: str) -> Digest:
            try:
                return cls(text)
            except EvidenceError as error:
                raise ValueError(str(error)) from error

        return core_schema.no_info_after_validator_function(
            build, core_schema.str_schema(), serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_PATTERN.pattern}$"}


def canonical_json(value: Any) -> bytes:
    """Return the one canonical form of `value`: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def parse_json(data: bytes) -> Any:
    """Parse JSON strictly: duplicate keys, NaN and Infinity raise EvidenceError.

    `json.loads` accepts all three, and two readers that disagree about a duplicate key would
    read two different records under one signature.
    """
    try:
        return json.loads(
            data, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"Expected one JSON document: {error}.") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
