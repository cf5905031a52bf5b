"""What all our DAGs have in common."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from retraining.spec import PipelineSpec
from retraining_airflow.naming import dag_id_of
from retraining_airflow.notifications import OnFailure
from retraining_airflow.settings import DagSettings


def on_queue(queue: str) -> dict[str, str]:
    """Arguments of an operator whose tasks run on `queue`; none for the default queue."""
    return {"queue": queue} if queue else {}


def new_dag(prefix: str, spec: PipelineSpec, settings: DagSettings, **kwargs: Any) -> DAG:
    """Return an empty DAG `<prefix>__<model>`: one run at a time, no catching up, our retries.

    Args:
        kwargs: As for `DAG`: description, doc_md, schedule, params.
    """
    return DAG(
        dag_id_of(prefix, spec.model),
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags={"secure-retraining", spec.model},
        default_args={
            "owner": spec.owner,
            "retries": 2,  # for infrastructure; what is bound to fail again is not tried again
            "retry_delay": timedelta(seconds=settings.retry_seconds),
            "retry_exponential_backoff": 2.0,
            "on_failure_callback": OnFailure(spec.notifications),
        },
        **kwargs,
    )
