"""Runs one step: inputs by digest in, one signed record and its artefacts out.

Airflow's operators and the command line both call this package and nothing deeper, so a week run
by hand and a week run by the scheduler leave the same records. What a step *concludes* is decided
by a pure function in the module of its name (`retraining.ingest` and so on); here is everything
around it, in pipeline order: `pinning`, `receiving`, `screening`, `training`, `validating`,
`purge`, `concluding`.
"""

from retraining.evidence import public_key_of
from retraining.mirror import open_mirror
from retraining.recording import StepResult
from retraining.settings import Settings
from retraining.steps import (
    approving,
    concluding,
    feedback,
    incident,
    incident_messages,
    monitoring,
    pinning,
    purge,
    receiving,
    reviewing,
    rollback,
    screening,
    tracing,
    training,
    validating,
)
from retraining.steps.concluding import RoundDigests
from retraining.steps.workbench import Log, Workbench
from retraining.store import S3ClientFactory, open_store
from retraining.trust_history import TrustHistory

__all__ = ["RoundDigests", "StepResult", "StepRunner", "open_step_runner"]


class StepRunner(Workbench):
    """The steps of one model's weekly run, each recorded in the same way."""

    pin = pinning.pin
    unsigned_spec = pinning.unsigned_spec
    ingest = receiving.ingest
    verify_provenance = receiving.verify_provenance
    screen_shard = screening.screen_shard
    screen = screening.screen
    train = training.train
    validate = validating.validate
    purge = purge.purge
    decide = concluding.decide
    promote = concluding.promote
    asked_week = approving.asked_week
    commands_to_approve = approving.commands_to_approve
    held_decision = approving.held_decision
    approve = approving.approve
    approve_in_ui = approving.approve_in_ui
    sign_spec = approving.sign_spec
    close_feedback = feedback.close_feedback
    request_rollback = rollback.request_rollback
    restore = rollback.restore
    review = reviewing.review
    trace = tracing.trace
    incident = incident.incident
    monitor = monitoring.monitor
    newest_monitored = incident_messages.newest_monitored
    unsent_incidents = incident_messages.unsent_incidents
    note_sent = incident_messages.note_sent


def open_step_runner(
    settings: Settings,
    *,
    run_id: str,
    requested_by: str,
    log: Log,
    client_factory: S3ClientFactory | None = None,
) -> StepRunner:
    """Open store, trust list and mirror of an installation.

    Args:
        run_id: Names the run in attestations.
        requested_by: Who asked for it, as Airflow or the shell says.
        log: Gets one line per concluded step and the trainer's progress.
        client_factory: Makes the S3 client; without it the usual AWS chain does.

    Raises:
        ConfigError: A key, the trust list or the store is missing or wrong.
    """
    store = open_store(settings.store, client_factory=client_factory)
    return StepRunner(
        settings,
        store,
        TrustHistory.load(store, public_key_of(settings.root_key, "root")),
        run_id=run_id,
        requested_by=requested_by,
        log=log,
        mirror=open_mirror(settings.mlflow_tracking_uri, store_uri=store.uri, log=log),
        client_factory=client_factory,
    )
