"""`secure_retraining__<model>`: the weekly road from delivered bytes to the champion."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule, task_group

from retraining.spec import PipelineSpec
from retraining_airflow import task_docs
from retraining_airflow.dag_factory.common import new_dag, on_queue
from retraining_airflow.dag_factory.forms import END, WEEK, reason
from retraining_airflow.naming import WEEKLY
from retraining_airflow.operators import (
    ApproveOperator,
    GateOperator,
    IngestOperator,
    PinOperator,
    PromoteOperator,
    ProvenanceOperator,
    PurgeOperator,
    ScreenOperator,
    ScreenShardOperator,
    TrainOperator,
    ValidateOperator,
)
from retraining_airflow.settings import DagSettings

_TRAINING_OVERHEAD = timedelta(minutes=10)  # reading rows, planning and storing, around the child


def build_weekly(spec: PipelineSpec, settings: DagSettings) -> DAG:
    """Return the weekly DAG of one model."""
    with new_dag(
        WEEKLY,
        spec,
        settings,
        description=spec.description,
        doc_md=task_docs.dag_doc(spec),
        schedule=spec.schedule,
        params=_form(spec),
    ) as dag:
        _tasks(spec, settings)
    return dag


def _tasks(spec: PipelineSpec, settings: DagSettings) -> None:
    run = PinOperator(task_id="pin", model=spec.model, doc_md=task_docs.PIN).output
    verified: list[ProvenanceOperator] = []

    # One group per source, so that what happens to one source stops none of the others.
    @task_group(group_id="sources", prefix_group_id=False)
    def receive(source: str) -> None:
        ingest = IngestOperator(
            task_id="ingest",
            run=run,
            source=source,
            map_index_template="{{ task.source }}",
            doc_md=task_docs.INGEST,
        )
        verified.append(
            ProvenanceOperator(
                task_id="provenance",
                run=run,
                source=source,
                ingested=ingest.output,
                map_index_template="{{ task.source }}",
                doc_md=task_docs.PROVENANCE,
            )
        )

    receive.expand(source=[source.name for source in spec.sources])
    provenance = verified[0].output
    screen = ScreenOperator(
        task_id="screen", run=run, provenance=provenance, doc_md=task_docs.SCREEN
    )
    if spec.screening.shards > 1:
        shards = ScreenShardOperator.partial(
            task_id="screen_shard",
            run=run,
            provenance=provenance,
            map_index_template="{{ task.shard }}",
            doc_md=task_docs.SCREEN_SHARD,
        ).expand(shard=list(range(spec.screening.shards)))
        shards >> screen
    training = {
        "pool": settings.training_pool,
        "execution_timeout": timedelta(seconds=spec.training.limit_seconds) + _TRAINING_OVERHEAD,
        **on_queue(settings.training_queue),
    }
    promotion = on_queue(settings.promotion_queue)  # its machine measures what the gate believes
    train = TrainOperator(
        task_id="train", run=run, screening=screen.output, doc_md=task_docs.TRAIN, **training
    )
    validate = ValidateOperator(
        task_id="validate",
        run=run,
        training=train.output,
        doc_md=task_docs.VALIDATE,
        **promotion,
    )
    rounds = []
    measured = validate.output
    for number in range(1, 1 + spec.gate.most_purges):
        suffix = "" if number == 1 else f"_{number}"
        purge = PurgeOperator(
            task_id=f"purge{suffix}",
            run=run,
            validation=measured,
            doc_md=task_docs.PURGE,
            **promotion,
        )
        again = TrainOperator(
            task_id=f"train_again{suffix}",
            run=run,
            screening=screen.output,
            purge=purge.output,
            doc_md=task_docs.TRAIN_AGAIN,
            **training,
        )
        measured = ValidateOperator(
            task_id=f"validate_again{suffix}",
            run=run,
            training=again.output,
            doc_md=task_docs.VALIDATE,
            **promotion,
        ).output
        rounds.append([purge.output, again.output, measured])
    gate = GateOperator(
        task_id="gate",
        run=run,
        provenance=provenance,
        screening=screen.output,
        training=train.output,
        validation=validate.output,
        rounds=rounds,
        doc_md=task_docs.GATE,
        **promotion,
    )
    people: dict[str, Any] = {}
    if spec.approval.ask:
        approve = ApproveOperator(
            task_id="approve",
            run=run,
            expires_hours=spec.approval.expires_hours,
            doc_md=task_docs.APPROVE,
            **promotion,  # answers in the UI are signed with its key
        )
        gate >> approve
        people = {"approved": approve.output, "trigger_rule": TriggerRule.ONE_SUCCESS}
    PromoteOperator(
        task_id="promote",
        model=spec.model,
        decision=gate.output,
        doc_md=task_docs.PROMOTE,
        **people,
        **promotion,
    )


def _form(spec: PipelineSpec) -> dict[str, Param]:
    """What whoever starts a run by hand is asked."""
    sources = [source.name for source in spec.sources]
    return {
        "reason": reason(scheduled=spec.schedule is not None),
        "week": Param(
            None,
            type=["null", "string"],
            pattern=f"^({WEEK})?{END}",
            title="Week",
            description="ISO week, such as 2026-W07; empty: the last full one.",
        ),
        "leave_out": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "pattern": f"^({'|'.join(sources)})(@{WEEK})?{END}"},
            examples=sources,
            title="Sources to leave out",
            description="Goes on record. Through the API also for one week only: source@2026-W07.",
        ),
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Decide, but promote nothing."
        ),
    }
