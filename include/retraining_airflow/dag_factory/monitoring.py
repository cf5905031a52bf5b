"""`model_monitoring__<model>`: every day, how the champion does, and who has to hear of it."""

from airflow.sdk import DAG, Param

from retraining.spec import PipelineSpec
from retraining_airflow import monitoring_docs
from retraining_airflow.dag_factory.common import new_dag
from retraining_airflow.dag_factory.forms import END, reason
from retraining_airflow.operators import AlertOperator, MonitorOperator
from retraining_airflow.settings import DagSettings

_DAY = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"


def build_monitoring(spec: PipelineSpec, settings: DagSettings) -> DAG | None:
    """Return the monitoring DAG of one model; None when its file has no `monitoring`."""
    if spec.monitoring is None:
        return None
    with new_dag(
        "model_monitoring",
        spec,
        settings,
        description=f"Watches the champion of {spec.model} day by day.",
        doc_md=monitoring_docs.dag_doc(spec, spec.monitoring),
        schedule=spec.monitoring.schedule,
        params=_form(scheduled=spec.monitoring.schedule is not None),
    ) as dag:
        measure = MonitorOperator(
            task_id="measure", model=spec.model, doc_md=monitoring_docs.MEASURE
        )
        alert = AlertOperator(task_id="alert", model=spec.model, doc_md=monitoring_docs.ALERT)
        measure >> alert
    return dag


def _form(*, scheduled: bool) -> dict[str, Param]:
    return {
        "reason": reason(scheduled=scheduled),
        "day": Param(
            None,
            type=["null", "string"],
            pattern=f"^({_DAY})?{END}",
            title="Day",
            description="UTC, such as 2026-02-14; empty: yesterday. Days are measured in order,"
            " each once.",
        ),
    }
