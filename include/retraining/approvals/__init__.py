"""What people approved, and what it is worth: changed pipeline files, and weeks that were held.

`chain` is the append-only list that only reviewers, owners and, for answers in Airflow, the
promoter can write; `people` is what the gate needs to know of it; `counting` says which decisions
may be approved at all, and how many approvals of one count.
"""

from retraining.approvals.chain import Approvals, approval_chain
from retraining.approvals.counting import (
    Counted,
    asked_of,
    count,
    needs_owner,
    needs_reviewers,
    refuse_unapprovable,
    sign_spec_command,
)
from retraining.approvals.people import People, people_of, people_when

__all__ = [
    "Approvals",
    "Counted",
    "People",
    "approval_chain",
    "asked_of",
    "count",
    "needs_owner",
    "needs_reviewers",
    "people_of",
    "people_when",
    "refuse_unapprovable",
    "sign_spec_command",
]
