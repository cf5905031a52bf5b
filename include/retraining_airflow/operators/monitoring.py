"""Monitoring: a day of the champion measured, and somebody told of what is not acceptable."""

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule

from retraining.errors import NothingToDo
from retraining.spec import NotificationPolicy, load_spec
from retraining_airflow.notifications import IncidentMessages, check_notifiers
from retraining_airflow.operators.base import RetrainingOperator, reason_of
from retraining_airflow.xcom import digests_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from retraining.steps import StepRunner


class MonitorOperator(RetrainingOperator):
    """Measures the day before the run, or the one that the form names."""

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Measure; skipped when there is nothing to measure. Green whatever the numbers are."""
        form, dag_run = context["params"], context["dag_run"]
        reason = reason_of(context)
        check_notifiers(_notifications(steps, self.model))
        yesterday = dag_run.run_after.astimezone(UTC).date() - timedelta(days=1)
        day = form.get("day") or str(yesterday)
        return digests_of([steps.monitor(self.model, day, reason=reason)])


class AlertOperator(RetrainingOperator):
    """Sends one message per incident that is open and that nobody was told of yet.

    What is open stands in the signed chain of monitored days, so no XCom is read. A notification
    service that is dead never turns the task red: the message is tried again on the next day.
    """

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        # Also when there was nothing to measure: a message of yesterday may still be due.
        kwargs.setdefault("trigger_rule", TriggerRule.NONE_FAILED)
        super().__init__(**kwargs)
        self.model = model

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Tell; skipped when no message is due. Returns the incidents that were told of."""
        entry = steps.newest_monitored(self.model)
        due = steps.unsent_incidents(entry) if entry else []
        if entry is None or not due:
            n_open = len(entry.incidents) if entry else 0
            raise NothingToDo(f"No message is due: {n_open} incident(s) open, all told of.")
        policy = _notifications(steps, self.model)
        names = ", ".join(incident.name for incident in due)
        if not policy.on_incident:
            raise NothingToDo(
                f"Nobody is told of {names}: notifications.on_incident names no notifier."
            )
        messages, told = IncidentMessages(policy, self.log), []
        for incident in due:
            fields = incident.model_dump(mode="json") | {"model": self.model, "day": entry.day}
            if messages.send(fields, context):
                steps.note_sent(self.model, incident)
                told.append(incident.name)
        return ", ".join(told)


def _notifications(steps: "StepRunner", model: str) -> NotificationPolicy:
    return load_spec(steps.settings.pipelines / f"{model}.yaml").notifications
