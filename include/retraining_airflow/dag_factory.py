"""A pipeline file becomes a DAG.

pin → ingest → provenance (both per source) → screen → train → validate → gate → promote.

Parsed again and again by Airflow, so it imports nothing that takes long and asks no server: what is
slow belongs into `run_step` of an operator.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task_group

from retraining.errors import SpecError
from retraining.settings import Settings
from retraining.spec import PipelineSpec, find_specs, load_spec
from retraining_airflow import task_docs
from retraining_airflow.notifications import OnFailure
from retraining_airflow.operators import (
    GateOperator,
    IngestOperator,
    PinOperator,
    PromoteOperator,
    ProvenanceOperator,
    ScreenOperator,
    TrainOperator,
    ValidateOperator,
)
from retraining_airflow.settings import DagSettings

_WEEK = r"\d{4}-W(0[1-9]|[1-4]\d|5[0-3])"
_END = r"$(?!\n)"  # Python's $ also matches before a last line break
_MIN_REASON_CHARACTERS = 3
_TRAINING_OVERHEAD = timedelta(minutes=10)  # reading rows, planning and storing, around the child

log = logging.getLogger(__name__)


def build_dags() -> dict[str, DAG]:
    """Return the DAG of every pipeline file that is right, by id.

    A wrong one is left out, so that the other models keep running; `check_pipeline_files` reports
    it.
    """
    settings = DagSettings.load()
    dags = {}
    for path in find_specs(Settings.load().pipelines):
        try:
            dag = build_dag(load_spec(path), settings)
        except SpecError as error:
            log.error("%s", error)
        else:
            dags[dag.dag_id] = dag
    return dags


def check_pipeline_files() -> None:
    """Raise one SpecError that lists every mistake in every pipeline file."""
    mistakes = []
    for path in find_specs(Settings.load().pipelines):
        try:
            load_spec(path)
        except SpecError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SpecError("\n".join(mistakes))


def build_dag(spec: PipelineSpec, settings: DagSettings | None = None) -> DAG:
    """Return the weekly DAG of one model; raises ConfigError for a wrong setting."""
    settings = settings or DagSettings.load()
    with DAG(
        f"secure_retraining__{spec.model}",
        description=spec.description,
        doc_md=task_docs.dag_doc(spec),
        schedule=spec.schedule,
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        params=_form(spec),
        tags={"secure-retraining", spec.model},
        default_args={
            "owner": spec.owner,
            "retries": 2,  # for infrastructure; what is bound to fail again is not tried again
            "retry_delay": timedelta(seconds=settings.retry_seconds),
            "retry_exponential_backoff": 2.0,
            "on_failure_callback": OnFailure(spec.notifications),
        },
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
    train = TrainOperator(
        task_id="train",
        run=run,
        screening=screen.output,
        pool=settings.training_pool,
        execution_timeout=timedelta(seconds=spec.training.limit_seconds) + _TRAINING_OVERHEAD,
        doc_md=task_docs.TRAIN,
    )
    validate = ValidateOperator(
        task_id="validate", run=run, training=train.output, doc_md=task_docs.VALIDATE
    )
    gate = GateOperator(
        task_id="gate",
        run=run,
        provenance=provenance,
        screening=screen.output,
        training=train.output,
        validation=validate.output,
        doc_md=task_docs.GATE,
    )
    PromoteOperator(
        task_id="promote", model=spec.model, decision=gate.output, doc_md=task_docs.PROMOTE
    )


def _form(spec: PipelineSpec) -> dict[str, Param]:
    """What whoever starts a run by hand is asked."""
    sources = [source.name for source in spec.sources]
    return {
        "reason": _reason(scheduled=spec.schedule is not None),
        "week": Param(
            None,
            type=["null", "string"],
            pattern=f"^({_WEEK})?{_END}",
            title="Week",
            description="ISO week, such as 2026-W07; empty: the last full one.",
        ),
        "leave_out": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "pattern": f"^({'|'.join(sources)})(@{_WEEK})?{_END}"},
            examples=sources,
            title="Sources to leave out",
            description="Goes on record. Through the API also for one week only: source@2026-W07.",
        ),
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Decide, but promote nothing."
        ),
    }


def _reason(*, scheduled: bool) -> Param:
    """A text that a person has to give and the scheduler does not."""
    about: dict[str, Any] = {
        "title": "Reason",
        "description": "Why you start this run by hand. Goes on record.",
        "minLength": _MIN_REASON_CHARACTERS,
    }
    if not scheduled:
        return Param(type="string", **about)
    # A DAG with a schedule needs a default that its schema accepts, and null is the one value for
    # which the form still demands an entry. The form takes a field as optional if "null" is among
    # its types; the third draft of JSON Schema can say the same as "any, but neither of these".
    return Param(
        None,
        type=["string", "any"],
        disallow=["boolean", "number", "array", "object"],
        **about,
        **{"$schema": "http://json-schema.org/draft-03/schema#"},
    )
