"""`rollback__<model>`: by hand only, an older version serves again."""

from airflow.sdk import DAG, Param

from retraining.spec import PipelineSpec
from retraining_airflow import rollback_docs
from retraining_airflow.dag_factory.common import new_dag, on_queue
from retraining_airflow.dag_factory.forms import reason
from retraining_airflow.operators import RequestRollbackOperator, RestoreOperator
from retraining_airflow.settings import DagSettings


def build_rollback(spec: PipelineSpec, settings: DagSettings) -> DAG:
    """Return the rollback DAG of one model."""
    with new_dag(
        "rollback",
        spec,
        settings,
        description=f"Lets an older version of {spec.model} serve again.",
        doc_md=rollback_docs.dag_doc(spec),
        schedule=None,
        params=_form(),
    ) as dag:
        request = RequestRollbackOperator(
            task_id="request", model=spec.model, doc_md=rollback_docs.REQUEST
        )
        RestoreOperator(
            task_id="restore",
            model=spec.model,
            request=request.output,
            doc_md=rollback_docs.RESTORE,
            **on_queue(settings.promotion_queue),
        )
    return dag


def _form() -> dict[str, Param]:
    return {
        "to_version": Param(
            type="integer",
            minimum=0,
            title="Version",
            description="The version that shall serve, as `retraining champions` numbers them;"
            " 0: none, the model is withdrawn.",
        ),
        "reason": reason(scheduled=False),
        "convict": Param(
            False,
            type="boolean",
            title="Convict the versions above it of poison",
            description="None of them ever serves again, and the rows that they added are trained"
            " on no longer. Cannot be taken back.",
        ),
    }
