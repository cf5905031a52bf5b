"""Tells people of a red task, through the Airflow notifiers that the pipeline file names.

A notifier's class is imported when it is needed, never while a DAG file is parsed. That would let a
wrong import path go unnoticed until the night when it matters, so the first task of every run
imports them as well (`check_notifiers`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from retraining.errors import RetrainingError, SpecError
from retraining.spec import NotificationPolicy, NotifierSpec

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context


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


def check_notifiers(policy: NotificationPolicy) -> None:
    """Raise SpecError for the first notifier that could not be sent."""
    for spec in (*policy.on_refused_gate, *policy.on_failed_task):
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
