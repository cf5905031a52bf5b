"""`feedback_batch__<model>`: a week of what users say, closed into one more untrusted source."""

from airflow.sdk import DAG, Param

from retraining.spec import PipelineSpec
from retraining_airflow.dag_factory.common import new_dag
from retraining_airflow.dag_factory.forms import END, WEEK, reason
from retraining_airflow.operators import CloseFeedbackOperator
from retraining_airflow.settings import DagSettings

_CLOSE = """Reads the week's feedback and the lines that wait from the weeks before; holds every
vote against its user's record, the other votes and the champion; and hands what is decided to the
weekly run, signed, as one more untrusted source.

Green: a batch was closed, and the log says how many items it has. **Skipped: nothing was closed**,
and the log says why: too little is decided, the week is not over or closed already, the last batch
is too recent. Nothing is lost then: the lines are looked at again next week.

When red, it broke: read the first line of the log, mend that, and clear the task. A batch that was
closed and not handed over is handed over by the next try; no vote is ever counted twice."""


def build_feedback(spec: PipelineSpec, settings: DagSettings) -> DAG | None:
    """Return the feedback DAG of one model; None when its file asks for no feedback."""
    if spec.feedback is None:
        return None
    with new_dag(
        "feedback_batch",
        spec,
        settings,
        description=f"Closes a week of users' feedback for {spec.model}.",
        doc_md=_page(spec),
        schedule=spec.feedback.schedule,
        params={
            "reason": reason(scheduled=spec.feedback.schedule is not None),
            "week": Param(
                None,
                type=["null", "string"],
                pattern=f"^({WEEK})?{END}",
                title="Week",
                description="ISO week, such as 2026-W07; empty: the last full one.",
            ),
        },
    ) as dag:
        CloseFeedbackOperator(task_id="close_batch", model=spec.model, doc_md=_CLOSE)
    return dag


def _page(spec: PipelineSpec) -> str:
    policy = spec.feedback
    assert policy is not None  # noqa: S101 - for the type checker
    return f"""Closes a week of users' feedback into a batch of the source `{policy.source}`, which
`secure_retraining__{spec.model}` of the same week takes like any other: screened, and left out when
it would do harm. Run it before that one.

Owner: {spec.owner}. At most one batch every {policy.min_weeks_between_batches} week(s), of at least
{policy.min_items} items, with at most {policy.max_changes_per_class} per class that contradict the
champion. Without a week in the form, the last full ISO week (UTC) is taken."""
