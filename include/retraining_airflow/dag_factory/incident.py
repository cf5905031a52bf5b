"""`incident__<model>`: by hand only, poison that was found late is traced and taken back."""

from airflow.sdk import DAG, Param

from retraining.spec import PipelineSpec
from retraining_airflow import incident_docs
from retraining_airflow.dag_factory.common import new_dag, on_queue
from retraining_airflow.dag_factory.forms import END, WEEK, reason
from retraining_airflow.operators import (
    IncidentOperator,
    RestoreAfterIncidentOperator,
    TraceIncidentOperator,
)
from retraining_airflow.settings import DagSettings


def build_incident(spec: PipelineSpec, settings: DagSettings) -> DAG:
    """Return the incident DAG of one model."""
    with new_dag(
        "incident",
        spec,
        settings,
        description=f"Traces poison that {spec.model} learned, and takes it back.",
        doc_md=incident_docs.dag_doc(spec),
        schedule=None,
        params=_form(spec),
    ) as dag:
        trace = TraceIncidentOperator(task_id="trace", model=spec.model, doc_md=incident_docs.TRACE)
        incident = IncidentOperator(
            task_id="incident", model=spec.model, doc_md=incident_docs.INCIDENT
        )
        restore = RestoreAfterIncidentOperator(
            task_id="restore",
            model=spec.model,
            request=incident.output,
            doc_md=incident_docs.RESTORE,
            **on_queue(settings.promotion_queue),
        )
        trace >> incident >> restore
    return dag


def _form(spec: PipelineSpec) -> dict[str, Param]:
    sources = [source.name for source in spec.sources]
    return {
        "reason": reason(scheduled=False),
        "source": Param(
            None,
            type=["null", "string"],
            examples=sources,
            title="Source",
            description="Alone: all its batches so far.",
        ),
        "week": Param(
            None,
            type=["null", "string"],
            pattern=f"^{WEEK}{END}",
            title="Week",
            description="With a source: its batch of this week only, such as 2026-W05.",
        ),
        "user": Param(
            None,
            type=["null", "string"],
            title="User",
            description="With a source: all rows of this user, past and to come.",
        ),
        "screening": Param(
            None,
            type=["null", "string"],
            title="Screening",
            description="First digits of a screening, or of a decision, that found the pattern.",
        ),
        "pattern": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Pattern",
            description="Number of the pattern that the screening found, from 1.",
        ),
        "withdraw": Param(
            False,
            type="boolean",
            title="Withdraw where no clean version is left",
            description="Then none serves until a week is promoted again. Without it the version"
            " that learned from it serves on.",
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description="Only say who learned from it; sign nothing, change nothing.",
        ),
    }
