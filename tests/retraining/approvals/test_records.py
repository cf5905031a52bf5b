"""What a pipeline file may ask, and what an approval may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from retraining.digests import Digest
from retraining.records import ApprovalEntry
from retraining.spec import ApprovalPolicy

DIGEST = Digest.of(b"any")
GOOD: dict[str, Any] = {
    "model": "small_filter",
    "sequence": 1,
    "previous": None,
    "decision": DIGEST,
    "registry_head": DIGEST,
    "why": "looked at it",
    "approver": "anna",
    "expires_on": "2026-02-09T08:00:00Z",
    "trust_list": DIGEST,
    "trust_version": 1,
}


def test_a_good_one_is_good() -> None:
    ApprovalEntry.model_validate(GOOD)
    ApprovalEntry.model_validate(GOOD | {"approver": "airflow:anna", "strength": "ui"})
    ApprovalEntry.model_validate(GOOD | {"decision": None, "spec": DIGEST, "expires_on": None})


@pytest.mark.parametrize(
    "said",
    [
        {"spec": DIGEST},
        {"decision": None},
        {"registry_head": None},
        {"expires_on": None},
        {"expires_on": "2026-02-09"},
        {"expires_on": "2026-2-9T08:00:00Z"},
        {"expires_on": "2026-02-09T08:00:00+01:00"},
        {"approver": "airflow:anna"},
        {"approver": "airflow:", "strength": "ui"},
        {"strength": "ui"},
        {"decision": None, "spec": DIGEST},
        {"decision": None, "spec": DIGEST, "strength": "ui", "expires_on": None},
        {"why": "x"},
        {"approver": ""},
    ],
)
def test_what_no_approval_says(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ApprovalEntry.model_validate(GOOD | said)


def test_by_default_people_are_asked_about_holds_purges_and_changed_files() -> None:
    policy = ApprovalPolicy()
    assert policy.ask == ("on_hold", "on_purge", "on_changed_spec")
    assert (policy.reviewers, policy.expires_hours, policy.in_ui) == (1, 72, False)


@pytest.mark.parametrize(
    "rules",
    [
        {"ask": ["sometimes"]},
        {"ask": ["on_hold", "on_hold"]},
        {"reviewers": 0},
        {"reviewers": 3},
        {"expires_hours": 0},
        {"expires_hours": 721},
        {"reviewers": 2, "in_ui": True},
    ],
)
def test_what_no_pipeline_file_asks(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ApprovalPolicy.model_validate(rules)
