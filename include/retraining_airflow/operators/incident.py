"""The steps of an incident: poison found late, from the trace to the rollback."""

import shlex
from typing import TYPE_CHECKING, Any

from retraining.errors import ConfigError, NothingToDo, ReviewRefusedError
from retraining.records import RollbackRequest
from retraining_airflow.operators.base import RetrainingOperator
from retraining_airflow.operators.rollback import RestoreOperator
from retraining_airflow.xcom import digests_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from retraining.records import ReviewSubject
    from retraining.steps import StepRunner
    from retraining.steps.incident import IncidentPlan


class _OfForm(RetrainingOperator):
    """Reads the form that both tasks go by."""

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def reason(self, form: Any) -> str:
        """Why it is poison; raises ConfigError when the form does not say."""
        reason = form.get("reason")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError("Say why this is poison: the form has no reason.")
        return reason

    def about(self, steps: "StepRunner", form: Any) -> "tuple[ReviewSubject, ...]":
        """What the form names; raises ReviewRefusedError when that is not one thing."""
        from retraining.records import BatchId, ReviewSubject, SourceUser
        from retraining.subjects import batches_of, pattern_of

        source, week, user, screening = (
            str(form.get(name) or "").strip() for name in ("source", "week", "user", "screening")
        )
        if bool(source) == bool(screening) or (week and (user or not source)):
            raise ReviewRefusedError(
                "Name one thing: a source, a source and a week, a source and one of its users, or"
                " a screening and the number of its pattern."
            )
        if screening:
            number = form.get("pattern")
            if user or not isinstance(number, int) or isinstance(number, bool):
                raise ReviewRefusedError("Give the number of the screening's pattern, from 1.")
            digest, found = pattern_of(steps, self.model, screening, number)
            return (ReviewSubject(screening=digest, pattern=found),)
        if user:
            return (ReviewSubject(user=SourceUser(source=source, user=user)),)
        if week:
            return (ReviewSubject(batch=BatchId(source=source, week=week)),)
        return batches_of(steps, self.model, source)


class TraceIncidentOperator(_OfForm):
    """Says who learned from it; signs nothing."""

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Trace what the form names through all concluded runs."""
        form = context["params"]
        about = self.about(steps, form)
        done = steps.incident(
            self.model,
            about,
            why=self.reason(form),
            withdraw=form.get("withdraw") is True,
            dry_run=True,
        )
        self._say(done.plan)
        return ""

    def _say(self, plan: "IncidentPlan") -> None:
        learned = ", ".join(map(str, plan.learned)) or "none"
        self.log.info("Versions that learned from it and are not convicted: %s.", learned)
        if plan.restore_to:
            self.log.info("Version %s would serve, in place of %s.", plan.restore_to, plan.serving)
        elif plan.withdraws:
            self.log.info(
                "No version is left that did not learn from it: none would serve, in place of %s.",
                plan.serving,
            )
        elif plan.stuck:
            self.log.info("%s", plan.stuck_sentence)
        else:
            self.log.info("Version %s serves on: it did not learn from it.", plan.serving)


class IncidentOperator(_OfForm):
    """Confirms, records, and asks for the rollback; the next task carries that out.

    A reviewer's key is rarely on a worker, and then nothing is signed here: the task is red, and
    says the command that does the same where the key is.
    """

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Confirm what the form names; returns the request for the rollback, or nothing."""
        form = context["params"]
        reason = self.reason(form)
        if form.get("dry_run") is not False:
            raise NothingToDo("A dry run signs nothing: the task before says who learned from it.")
        command = self._command(form, reason)
        if not steps.keys.holds("reviewer", steps.trust.latest):
            raise ConfigError(
                "Nothing was signed: this worker holds no reviewer's key. On a reviewer's machine:"
                f" {command} --key REVIEWER.pem"
            )
        done = steps.incident(
            self.model,
            self.about(steps, form),
            why=reason,
            withdraw=form.get("withdraw") is True,
        )
        if done.missing == "pipeline":
            raise ConfigError(
                f"Confirmed and on record, but version {done.plan.serving} still serves: this"
                f" worker does not hold the pipeline's key. Where it is: {command}"
            )
        if done.plan.stuck:
            raise ConfigError(f"Confirmed and on record. {done.plan.stuck_sentence}")
        asked = done.entry.record.rollback if done.entry else None
        return digests_of([steps.open_any("rollback", asked, RollbackRequest)]) if asked else ""

    def _command(self, form: Any, reason: str) -> str:
        options = [
            f"--{name} {shlex.quote(str(form[name]))}"
            for name in ("source", "week", "user", "screening", "pattern")
            if form.get(name)
        ]
        if form.get("withdraw") is True:
            options.append("--withdraw")
        why = f"--why {shlex.quote(reason)}"
        return " ".join(["retraining incident", self.model, *options, why])


class RestoreAfterIncidentOperator(RestoreOperator):
    """As `RestoreOperator`; skipped when the incident asked for no rollback."""

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Let the last version serve that did not learn from it, or none."""
        if not self.request:
            raise NothingToDo("The version that serves did not learn from it, so it serves on.")
        return super().run_step(steps, context)
