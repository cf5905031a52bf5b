"""People decide about a week that the gate held: Airflow asks, and waits.

Airflow is where the question stands, and not where the answer counts: the task looks into the
signed approvals, and promotion verifies them again. Only where the pipeline file says so (`in_ui`)
is the answer itself put on record, by Airflow's login, and named as the weaker form.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, TriggerRule
from airflow.sdk.definitions.param import ParamsDict

from retraining.errors import ApprovalRefusedError, NothingToDo
from retraining_airflow.notifications import GateRefused
from retraining_airflow.operators.base import RetrainingOperator, shown_in_log
from retraining_airflow.xcom import one_digest

if TYPE_CHECKING:
    from airflow.sdk import Context

    from retraining.steps import StepRunner
    from retraining.steps.approving import AskedWeek

SIGNED = "It is signed"
APPROVE = "Approve"
LEAVE = "Leave it"


class ApproveOperator(RetrainingOperator, HITLOperator):
    """Asks whether a held week is promoted after all; green only when enough people said so.

    Skipped when the run's decision is none that people may approve. A silence is no yes: the task
    fails when the time is over.
    """

    template_fields = ("run",)

    def __init__(self, *, run: Any, expires_hours: int, **kwargs: Any) -> None:
        kwargs.setdefault("trigger_rule", TriggerRule.ONE_FAILED)
        super().__init__(
            subject="Promote a week that the gate held?",
            options=[SIGNED, LEAVE],  # what stands in the store decides about the words
            response_timeout=timedelta(hours=expires_hours),
            **kwargs,
        )
        self.run = run

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Return the decision when it is approved already; else ask, which parks the task."""
        asked = self._asked(steps)
        if asked.counted.complete:
            return self._approved(asked)
        self._word(asked)
        HITLOperator.execute(self, context)  # leaves by raising
        raise AssertionError("Airflow did not park the task")

    def execute_complete(self, context: "Context", event: Mapping[str, Any]) -> str:
        """Take the answer: from the server, and not from XCom, which anybody may write."""
        return self.in_step(context, lambda steps, _: self._answered(steps, event))

    def _answered(self, steps: "StepRunner", event: Mapping[str, Any]) -> str:
        if "error" in event:
            raise GateRefused(
                shown_in_log(
                    "Nobody approved in time, and a silence is no yes: nothing was promoted. Clear"
                    " this task to ask again, or start the week again."
                )
            )
        who = _name_of(event.get("responded_by_user"))
        chosen = list(event.get("chosen_options") or ())
        if chosen == [LEAVE]:
            raise NothingToDo(f"{who or 'Somebody'} chose to leave it: nothing is promoted.")
        asked = self._asked(steps)
        if chosen == [APPROVE] and asked.counted.reviewers_lacking:
            # Airflow does not check the form, and a short word of it must not lose the answer.
            typed = str((event.get("params_input") or {}).get("why") or "").strip()
            why = f"chose {APPROVE} in Airflow" + (f": {typed}" if typed else "")
            steps.approve_in_ui(asked.decision, user=who, why=why)
            asked = self._asked(steps)
        if not asked.counted.complete:
            raise GateRefused(
                shown_in_log(
                    f"Not enough people have signed it, whatever the answer here says. Still"
                    f" needed: {asked.commands}; then clear this task."
                )
            )
        return self._approved(asked)

    def _asked(self, steps: "StepRunner") -> "AskedWeek":
        """The held week of this very run, from the registry; raises NothingToDo."""
        if not self.run:
            raise NothingToDo("Nothing to approve: the run was not pinned.")
        try:
            decision = steps.held_decision(one_digest("pin", self.run))
            if decision is None:
                raise NothingToDo("Nothing to approve: this run left no decision that waits.")
            return steps.asked_week(decision)
        except ApprovalRefusedError as error:
            raise NothingToDo(str(error)) from None

    def _approved(self, asked: "AskedWeek") -> str:
        people = ", ".join(link.record.approver for link in asked.counted.links)
        self.log.info("Approved by %s.", people)
        return str(asked.decision)

    def _word(self, asked: "AskedWeek") -> None:
        """What the page shows: the failed checks, and what a yes is worth."""
        report = asked.report
        in_ui = asked.policy.in_ui and asked.counted.reviewers_lacking > 0
        self.subject = f"Promote {report.model} {report.week}, although the gate says HOLD?"
        self.options = [APPROVE if in_ui else SIGNED, LEAVE]
        rows = "\n".join(
            f"| {_cell(c.name)} | {_cell(c.observed)} | {_cell(c.allowed)} |"
            for c in report.failed()
        )
        how = (
            f"**{APPROVE}** is recorded under your login, without a key of yours: the weaker form."
            if in_ui
            else f"Sign it on your own machine, then choose **{SIGNED}**; a click alone counts for"
            " nothing."
        )
        self.body = (
            f"| check | found | allowed |\n| --- | --- | --- |\n{rows}\n\n"
            f"Look first: `retraining gate-report {asked.decision}`\n\n{how}\n\n"
            f"`{asked.commands}`\n\n**{LEAVE}** ends the run; the champion keeps serving."
        )
        if in_ui:
            why = Param("", type="string", title="Why", description="It goes on record.")
            self.params = ParamsDict({"why": why})


def _name_of(user: Any) -> str:
    """Whoever answered, as Airflow's server says; empty when it does not."""
    if not isinstance(user, Mapping):
        return ""
    name, user_id = str(user.get("name") or ""), str(user.get("id") or "")
    return name if name == user_id or not user_id else f"{name} ({user_id})".strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")
