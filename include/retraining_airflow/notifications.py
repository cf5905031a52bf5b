"""Tells people of a red task or of an incident, through notifiers that the pipeline file names.

A notifier's class is imported when it is needed, never while a DAG file is parsed. That would let a
wrong import path go unnoticed until the night when it matters, so the first task of every run
imports them as well (`check_notifiers`).
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from logging import Logger
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout

from retraining.errors import RetrainingError, SpecError
from retraining.spec import NotificationPolicy, NotifierSpec

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

_SECONDS_TO_SEND = 60  # of one message; a service that never answers must not hold the task
_APPRISE = "airflow.providers.apprise.notifications.apprise"


class NotSentError(Exception):
    """A service did not take a message, and its notifier did not say so by itself."""


class GateRefused(AirflowFailException):
    """The decision is HOLD or REJECT. Its message is the first thing that the on-call reads."""


@dataclass(frozen=True)
class OnFailure:
    """Airflow's `on_failure_callback` of every task: after the last try, once.

    Arguments of a notifier may be templates, such as `{{ exception }}`, where its class says so.
    """

    policy: NotificationPolicy

    def __call__(self, context: "Context") -> None:
        """Send each notification; one that cannot be sent does not keep back the others."""
        refused = isinstance(context.get("exception"), GateRefused)
        for spec in self.policy.on_refused_gate if refused else self.policy.on_failed_task:
            try:
                open_notifier(spec)(context)
            except RetrainingError as error:
                context["ti"].log.error("Nobody was notified: %s", error)


class IncidentMessages:
    """Sends one message per incident through each notifier of `on_incident`.

    A notifier that failed once is not asked again: what keeps one message from being sent keeps
    the next one, too, and each try may take a minute.
    """

    def __init__(self, policy: NotificationPolicy, log: Logger) -> None:
        self._log = log
        self._working = list(policy.on_incident)

    def send(self, incident: Mapping[str, str], context: "Context") -> bool:
        """Send a message; return whether any service took it. Nothing that happens there is raised.

        Args:
            incident: Fields for the notifier's templates, such as `{{ incident.observed }}`.
            context: Of the task.
        """
        if not self._working:
            self._log.error("No message on %s was sent, either.", incident["name"])
        self._working = [n for n in self._working if self._sent(n, incident, context)]
        return bool(self._working)

    def _sent(self, spec: NotifierSpec, incident: Mapping[str, str], context: "Context") -> bool:
        from airflow.sdk.execution_time.timeout import timeout

        try:
            notifier = open_notifier(spec)
            # Not by calling it: what `notify` raises would be logged and forgotten there.
            with timeout(_SECONDS_TO_SEND, f"{_SECONDS_TO_SEND} seconds went by"):
                rendered: Any = {**context, "incident": dict(incident)}
                notifier.render_template_fields(rendered)
                _notify(notifier, rendered)
        except (Exception, AirflowTaskTimeout) as error:  # whatever a stranger's notifier raises
            self._log.error(
                "%s: no message on %s was sent (%s: %s). It is tried again on the next day.",
                spec.notifier,
                incident["name"],
                type(error).__name__,
                error,
            )
            return False
        self._log.info("%s: sent a message on %s.", spec.notifier, incident["name"])
        return True


def _notify(notifier: "BaseNotifier", context: "Context") -> None:
    """Send; raises when the service did not take it."""
    apprise = sys.modules.get(_APPRISE)  # loaded, if the notifier is one of its
    if apprise is None or not isinstance(notifier, apprise.AppriseNotifier):
        notifier.notify(context)
        return
    # Apprise answers False where others raise, and Airflow's hook drops the answer.
    from apprise import Apprise

    services, hook = Apprise(), notifier.hook
    if notifier.config:
        services.add(notifier.config)
    else:
        hook.set_config_from_conn(hook.get_connection(notifier.apprise_conn_id), services)
    if not services.notify(
        body=notifier.body,
        title=notifier.title or "",
        notify_type=notifier.notify_type,
        body_format=notifier.body_format,
        tag=notifier.tag,
        attach=notifier.attach,
        interpret_escapes=notifier.interpret_escapes,
    ):
        raise NotSentError("no service took it; Apprise says why in the lines above, if it does")


def check_notifiers(policy: NotificationPolicy) -> None:
    """Raise SpecError for the first notifier that could not be sent."""
    for spec in (*policy.on_refused_gate, *policy.on_failed_task, *policy.on_incident):
        open_notifier(spec)


def open_notifier(spec: NotifierSpec) -> "BaseNotifier":
    """Import and build one notifier.

    Raises:
        SpecError: There is no such class, it is no notifier, or it does not take these arguments.
    """
    from airflow.sdk import BaseNotifier

    found = _import(spec.notifier)
    # Any class would be built with arguments from the file, so only notifiers are.
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise SpecError(
            f"notifications: {spec.notifier} is not an Airflow notifier; allowed are classes that"
            " derive from airflow.sdk.BaseNotifier."
        )
    try:
        return found(**spec.arguments)
    except Exception as error:  # whatever a stranger's constructor raises
        raise SpecError(
            f"notifications: {spec.notifier} does not take the arguments"
            f" {_listed(spec.arguments)} ({type(error).__name__}: {error})."
        ) from None


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"notifications: {path} cannot be imported ({error}). Correct the path, or install the"
            " package that has it."
        ) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"
