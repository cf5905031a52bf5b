"""What the pages of the monitoring DAG and its tasks say."""

from retraining.spec import MonitoringPolicy, PipelineSpec

MEASURE = """Reads the day's predictions and the labels that arrived on it, measures the champion,
holds every value against its range and appends the signed report to the model's monitoring.

Green whatever the numbers are: whether anybody has to act stands in the incidents, and `alert`
tells of them. Skipped when the day was measured before, is not over, or nothing serves yet. When
red, it broke: read the first line of the log, mend that, and clear the task."""

ALERT = """Sends one message for each incident that is open and that nobody was told of yet,
through every notifier of `notifications.on_incident`.

Skipped when no message is due. Green also when a notification service was dead: the log says what
was not sent, and the next day tries again. To try at once, mend it and clear this task."""


def dag_doc(spec: PipelineSpec, policy: MonitoringPolicy) -> str:
    """The page of one model's monitoring DAG."""
    metrics = ", ".join(policy.measured)
    return f"""Watches the champion of `{spec.model}` day by day. It tells; it never retrains.

Owner: {spec.owner}. `measure → alert`

| value | what it says |
| --- | --- |
| {metrics} | answers against the labels that arrived; acceptable is what the pipeline file says, \
or what the champion had on the holdout at its promotion, less {policy.tolerance:g} |
| prediction_drift | answers against the champion's own on the rows that it learned from |
| feature_drift:… | a column against the rows that the champion learned from |
| unlike_champion | answers that the champion, asked again, does not give |
| other_versions | answers by a version that does not serve |
| faulty:…, missing:… | rows or files that are not what the pipeline file declares |

An **incident** opens when the whole interval of a value lies outside its range, goes on over days
that cannot tell, and ends on the first day on which the value is acceptable again. There is one
message per incident.

| colour | meaning |
| --- | --- |
| green | measured, or told |
| skipped | nothing to measure, or no message is due |
| red | it broke; the day was not measured |"""
