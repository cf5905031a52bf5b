"""What a pipeline file may say of feedback."""

from typing import Any

import pytest

from retraining.errors import SpecError
from retraining.spec import PipelineSpec, parse_spec
from tests.retraining.feedback.users import feedback_spec


def with_source(**changes: Any) -> PipelineSpec:
    raw = feedback_spec().model_dump(mode="json")
    raw["sources"][0] |= changes
    return parse_spec(raw, origin="small.yaml")


def test_json_lines_are_the_default() -> None:
    policy = feedback_spec().feedback
    assert policy is not None
    assert (policy.format, policy.max_lines) == ("json_lines", 1_000_000)


def test_a_batch_is_parquet() -> None:
    with pytest.raises(SpecError, match="give user_feedback format: parquet"):
        with_source(format="csv")


def test_a_batch_fits_its_source() -> None:
    with pytest.raises(SpecError, match=r"at most the max_rows of user_feedback \(150\)"):
        with_source(max_rows=150)


def test_a_batch_has_room_for_what_it_needs_at_least() -> None:
    with pytest.raises(SpecError, match=r"expected at least min_items \(20\)"):
        feedback_spec(max_items=10)


def test_newcomers_are_never_all_of_the_support() -> None:
    with pytest.raises(SpecError, match="max_newcomer_share"):
        feedback_spec(max_newcomer_share=1.0)
