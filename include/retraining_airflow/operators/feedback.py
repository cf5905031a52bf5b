"""The one step of a week's feedback."""

from typing import TYPE_CHECKING, Any

from retraining_airflow.operators.base import RetrainingOperator, reason_of
from retraining_airflow.xcom import digests_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from retraining.steps import StepRunner


class CloseFeedbackOperator(RetrainingOperator):
    """Closes a week of users' feedback into one signed batch of its source."""

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Close the week; skipped, with the reason, when nothing is closed."""
        from retraining.registry import previous_week, week_of

        form, dag_run = context["params"], context["dag_run"]
        result = steps.close_feedback(
            self.model,
            form.get("week") or previous_week(week_of(dag_run.run_after.date())),
            reason=reason_of(context),
        )
        return digests_of([result])
