"""Strict reading of small JSON documents; standard library only (the parent imports it too).

Every function names the key, what was found and what is allowed in one ContractError.
"""

import json
import re
from collections.abc import Mapping, Set
from typing import Any, NoReturn

SCHEMA = 1
MAX_JSON_BYTES = 65_536

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ContractError(Exception):
    """What was handed over breaks the contract; the message is one sentence, without row values."""


def document(
    where: str, text: str | bytes, required: Set[str], *, optional: Set[str] = frozenset()
) -> dict[str, Any]:
    """Parse one JSON object of our schema and return its members without `schema`.

    Args:
        where: How to call the document in messages, such as "The request".
        text: The document, at most MAX_JSON_BYTES.
        required: Keys that must be there, besides `schema`.
        optional: Keys that may be there.

    Raises:
        ContractError: Too large, not JSON, a key twice, NaN or Infinity, an unknown or a missing
            key, another schema.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ContractError(f"{where} is larger than {MAX_JSON_BYTES} bytes.")
    try:
        value = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{where} is not valid JSON ({type(error).__name__}).") from None
    found = members(where, value, required | {"schema"}, optional=optional)
    schema = found.pop("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise ContractError(
            f"{where} has schema {shown(schema)}, this side reads {SCHEMA};"
            " use the same release of dp_trainer on both sides."
        )
    return found


def members(
    where: str, value: object, required: Set[str], *, optional: Set[str] = frozenset()
) -> dict[str, Any]:
    """Return the members of a JSON object that has all required keys and no unknown one."""
    if not isinstance(value, Mapping):
        raise ContractError(f"{where} must be a JSON object, found {shown(value)}.")
    if unknown := sorted(set(value) - required - optional, key=str):
        known = ", ".join(sorted(required | optional))
        raise ContractError(f"{where} has the unknown key {shown(unknown[0])}; known are {known}.")
    if missing := sorted(required - set(value)):
        raise ContractError(f"{where} lacks the key {missing[0]!r}.")
    return dict(value)


def plain_name(key: str, value: object) -> str:
    """Return `value` if it names a file in the working folder and nothing else."""
    if not isinstance(value, str) or not _PLAIN_NAME.fullmatch(value):
        raise ContractError(
            f"{key} must be a plain file name in the working folder (letters, digits, '.', '_',"
            f" '-', at most 100, not starting with a dot), found {shown(value)}."
        )
    return value


def integer(key: str, value: object, *, low: int, high: int) -> None:
    """Check for an integer from `low` to `high`; true and 1.0 are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ContractError(f"{key} must be an integer from {low} to {high}, found {shown(value)}.")


def number(key: str, value: object, *, high: float) -> None:
    """Check for a number above 0 and at most `high`; NaN and infinity fail both comparisons."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= high:  # type: ignore[operator]
        raise ContractError(
            f"{key} must be a number above 0 and at most {high:g}, found {shown(value)}."
        )


def choice(key: str, value: object, allowed: tuple[str, ...]) -> None:
    """Check for one of the allowed words."""
    if value not in allowed:
        raise ContractError(f"{key} must be one of {', '.join(allowed)}, found {shown(value)}.")


def to_json(content: Mapping[str, Any]) -> str:
    """Return the document's text with our schema, the same for the same content."""
    return (
        json.dumps({"schema": SCHEMA, **content}, sort_keys=True, allow_nan=False, indent=2) + "\n"
    )


def shown(value: object) -> str:
    """Return a short form of a setting for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Which of the two values counts would depend on the reader.
        raise ContractError("A JSON object names the same key twice.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ContractError(f"{name} is not a number in JSON.")
