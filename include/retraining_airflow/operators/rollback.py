"""The two steps of a rollback: somebody asks, signed, and an older version serves again."""

from typing import TYPE_CHECKING, Any

from retraining.errors import ConfigError, EvidenceError, RetrainingError
from retraining.records import RollbackRequest
from retraining_airflow.operators.base import RetrainingOperator, champion_asset
from retraining_airflow.xcom import digests_of, one_digest

if TYPE_CHECKING:
    from airflow.sdk import Context

    from retraining.steps import StepRunner


class RequestRollbackOperator(RetrainingOperator):
    """Puts on record, signed, who wants which version to serve, and why."""

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Sign the request that the form describes."""
        form = context["params"]
        reason, version = form.get("reason"), form.get("to_version")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError("Say why the model is rolled back: the form has no reason.")
        if not isinstance(version, int) or isinstance(version, bool):
            raise ConfigError("Say which version shall serve: the form has no number of one.")
        result = steps.request_rollback(
            self.model, to_version=version, reason=reason, convict=form.get("convict") is True
        )
        return digests_of([result])


class RestoreOperator(RetrainingOperator):
    """Lets the version serve that a signed request asks for, after verifying both."""

    template_fields = ("request",)

    def __init__(self, *, model: str, request: Any, **kwargs: Any) -> None:
        kwargs.setdefault("outlets", [champion_asset(model)])
        super().__init__(**kwargs)
        self.model = model
        self.request = request

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Restore, and tell whoever is scheduled on the champion."""
        try:
            digest = one_digest("request", self.request)
            asked = steps.open_any("rollback", digest, RollbackRequest).report
        except RetrainingError as error:
            if error.retryable:
                raise
            raise EvidenceError(
                f"Nothing signed asks for a rollback, so {self.model} keeps its champion: {error}"
            ) from None
        if asked.model != self.model:
            raise EvidenceError(
                f"Nothing signed asks for a rollback of {self.model}: the task `request` names one"
                f" of {asked.model}."
            )
        entry = steps.restore(digest)
        context["outlet_events"][champion_asset(self.model)].extra = {
            "version": entry.record.version,
            "model": str(entry.record.champion) if entry.record.champion else None,
            "week": entry.record.week,
            "registry_entry": str(entry.digest),
            "convicted": list(entry.record.convicted),
        }
        self.log.info("%s: version %s serves.", self.model, entry.record.version or "none")
        return str(entry.digest)
