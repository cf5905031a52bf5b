"""What a form asks whoever starts a run by hand."""

from typing import Any

from airflow.sdk import Param

END = r"$(?!\n)"  # Python's $ also matches before a last line break
WEEK = r"\d{4}-W(0[1-9]|[1-4]\d|5[0-3])"
_MIN_REASON_CHARACTERS = 3


def reason(*, scheduled: bool) -> Param:
    """A text that a person has to give and the scheduler does not."""
    about: dict[str, Any] = {
        "title": "Reason",
        "description": "Why you start this run by hand. Goes on record.",
        "minLength": _MIN_REASON_CHARACTERS,
    }
    if not scheduled:
        return Param(type="string", **about)
    # A DAG with a schedule needs a default that its schema accepts, and null is the one value for
    # which the form still demands an entry. The form takes a field as optional if "null" is among
    # its types; the third draft of JSON Schema can say the same as "any, but neither of these".
    return Param(
        None,
        type=["string", "any"],
        disallow=["boolean", "number", "array", "object"],
        **about,
        **{"$schema": "http://json-schema.org/draft-03/schema#"},
    )
