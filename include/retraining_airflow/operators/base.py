"""The base of all operators: one step, and its outcome as the state of a task."""

import textwrap
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from retraining.errors import ConfigError, NothingToDo, RetrainingError
from retraining_airflow.settings import s3_client_factory

if TYPE_CHECKING:
    from airflow.sdk import Context

    from retraining.steps import StepRunner

SCHEDULER = "scheduler"  # who asked for a run that nobody started by hand

_LOG_COLUMNS = 88  # what an exception has in the log view, in a window of 1,500 pixels


class RetrainingOperator(BaseOperator):
    """Opens the installation, runs one step, and turns its outcome into a task state."""

    _running = False

    @abstractmethod
    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Make the step's one call and return the digests of its records."""

    def execute(self, context: "Context") -> str:
        """Run the step; what it returns is the task's XCom."""
        return self.in_step(context, self.run_step)

    def in_step(self, context: "Context", step: Callable[["StepRunner", "Context"], str]) -> str:
        """Open the installation and call `step`, its outcome translated."""
        self._running = True
        try:
            with _airflow_exceptions():
                return step(self._open_steps(context), context)
        finally:
            self._running = False

    def on_kill(self) -> None:
        """Leave the step when the task is told to stop (marked by hand, worker shut down).

        Airflow calls this in its handler of SIGTERM and otherwise lets the task run on. Raising
        here unwinds the step, so that `finally` ends its child process and removes its rows.
        """
        if self._running:
            self._running = False
            raise AirflowException("The task was told to stop, so its step was left unfinished.")

    def _open_steps(self, context: "Context") -> "StepRunner":
        # Here and not above: it loads pandas and scikit-learn, seconds that no parse should take.
        from retraining.settings import Settings
        from retraining.steps import open_step_runner

        settings = Settings.load()
        return open_step_runner(
            settings,
            run_id=context["run_id"],
            requested_by=context["dag_run"].triggering_user_name or SCHEDULER,
            log=lambda line: self.log.info("%s", line),
            client_factory=s3_client_factory(settings.store_connection),
        )


def reason_of(context: "Context") -> str:
    """Why this run was started: what the form says, or that the scheduler did it.

    Raises:
        ConfigError: Somebody started it by hand and says no reason.
    """
    run_type = context["dag_run"].run_type
    reason = str(context["params"].get("reason") or "").strip()
    if not reason and run_type == "manual":
        raise ConfigError("Say why this run is started by hand: its form has no reason.")
    # The enumeration's own text would be `DagRunType.SCHEDULED`.
    return reason or str(getattr(run_type, "value", run_type))


def champion_asset(model: str) -> Asset:
    """The asset that is updated when `model` has a new champion.

    A scheme with `x-` is a user's own: for any other, Airflow loads all its providers at parse, to
    see whether one of them knows it.
    """
    return Asset(name=f"{model}_champion", uri=f"x-retraining://{model}/champion")


def shown_in_log(text: str) -> str:
    """Break a message into lines that fit: the log view does not, and cuts off what is longer."""
    return textwrap.fill(text, _LOG_COLUMNS, break_long_words=False, break_on_hyphens=False)


@contextmanager
def _airflow_exceptions() -> Iterator[None]:
    """Translate what a step raises; the sentence alone, because the log view shows it first."""
    try:
        yield
    except NothingToDo as reason:
        raise AirflowSkipException(str(reason)) from None
    except RetrainingError as error:
        if error.retryable:
            raise error.with_traceback(None) from None
        raise AirflowFailException(shown_in_log(str(error))) from None
