"""When people decide: what a pipeline file asks a reviewer, and its owner."""

from typing import Literal, Self

from pydantic import Field, model_validator

from retraining.spec.base import Frozen

AskWhen = Literal["always", "on_hold", "on_purge", "on_changed_spec"]


class ApprovalPolicy(Frozen):
    """When a person is asked, who counts, and for how long.

    A REJECT is never asked about, nor is a chain that does not verify.
    """

    ask: tuple[AskWhen, ...] = Field(
        default=("on_hold", "on_purge", "on_changed_spec"),
        description="always: nothing is promoted without approval; on_hold: a HOLD may be approved;"
        " on_purge: so may a challenger that was trained again without what was traced;"
        " on_changed_spec: a changed pipeline file is HOLD until an owner signs it. []: never.",
    )
    reviewers: Literal[1, 2] = Field(
        default=1, description="Different reviewers' keys that have to sign."
    )
    expires_hours: int = Field(
        default=72, ge=1, le=720, description="How long an approval, and the question, stands."
    )
    in_ui: bool = Field(
        default=False,
        description="An answer in Airflow counts, too. Weaker: behind it is a login and no key.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.ask)) != len(self.ask):
            raise ValueError(f"ask: each at most once, found {list(self.ask)}")
        if self.in_ui and self.reviewers > 1:
            raise ValueError(
                "in_ui: an answer in Airflow is no key, so it cannot be one of two; give"
                " in_ui: false or reviewers: 1"
            )
        return self
