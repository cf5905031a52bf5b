"""`make demo ARGS=--tour`: the rest of the road, after the three weeks.

A week of production is simulated, with a ring of liars among the users; their feedback is closed
into a batch; a day is monitored; the poisoned week is run again as its red gate advises, without
the poisoner and with the feedback; and that promotion is taken back. What each came to is read from
signed records, never from Airflow.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from demo.airflow_api import AirflowApi
from demo.following import STEPS, Run, follow, wait_for_dag
from demo.layout import POISON, POISONED_WEEK
from demo.simulator import Crowd, days_of, simulate_week
from demo.workspace_lock import Notebook
from retraining.chains import feedback_chain, monitoring_chain, registry_chain
from retraining.evidence import public_key_of
from retraining.recording import open_result
from retraining.records import (
    FeedbackReport,
    MonitoringReport,
    RollbackRequest,
    ScreeningReport,
)
from retraining.settings import Settings
from retraining.store import Store, open_store
from retraining.trust_history import TrustHistory

Told = Callable[[str], None]

MONITORED_DAY = str(days_of(POISONED_WEEK)[-1])
_CROWD = Crowd(
    n_liars=40,
    victim=POISON["spam_filter"].victim,
    target=POISON["spam_filter"].target,
)
_RESTORED = 2


@dataclass(frozen=True)
class Stop:
    """One stop of the tour.

    Attributes:
        said: What came of it, from a signed record.
    """

    name: str
    said: str


class Tour:
    """What the tour does on a workspace in which the three weeks are concluded."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._settings = settings
        self._model = model

    def finished(self) -> bool:
        """Whether every stop has its record."""
        return len(self.stops()) == len(self._runs())

    def stops(self) -> list[Stop]:
        """Every stop that has its record, in order."""
        if not (self._settings.home / "store").is_dir():
            return []
        store = open_store(self._settings.store)
        if not store.names("trust"):
            return []  # nothing was laid out yet
        trust = TrustHistory.load(store, public_key_of(self._settings.root_key, "root"))
        found = [
            _feedback(store, trust, self._model),
            _monitoring(store, trust, self._model),
            _second_attempt(store, trust, self._model),
            _rollback(store, trust, self._model),
        ]
        return [stop for stop in found if stop is not None]

    def run(self, api: AirflowApi, notebook: Notebook, told: Told) -> None:
        """Run what has no record yet; raises RetrainingError when a task breaks."""
        done = {stop.name for stop in self.stops()}
        if not done:
            simulated = simulate_week(self._settings, self._model, POISONED_WEEK, _CROWD)
            told(
                f"{POISONED_WEEK}  production simulated: {simulated.n_rows} rows answered by"
                f" version {simulated.version}, {simulated.n_audited} audited later,"
                f" {simulated.n_votes} votes, {simulated.n_lies} of them by a ring of liars"
            )
        for run in self._runs():
            if run.name in done:
                continue
            wait_for_dag(api, run.dag_id)
            notebook.note(run.name, run_id=run.run_id)
            notebook.note(run.name, run_id=run.run_id, seconds=follow(api, run, told=told))

    def table(self, notebook: Notebook) -> Table:
        """What each stop came to."""
        shown = Table("tour", "what came of it", "seconds")
        for stop in self.stops():
            seconds = notebook.seconds().get(stop.name)
            shown.add_row(
                stop.name, escape(stop.said), "-" if seconds is None else f"{seconds:.0f}"
            )
        return shown

    def _runs(self) -> Sequence[Run]:
        reason = "make demo, the tour"
        return (
            self._new("feedback", "feedback_batch", ("close_batch",), week=POISONED_WEEK),
            self._new("monitoring", "model_monitoring", ("measure", "alert"), day=MONITORED_DAY),
            self._new(
                *("second attempt", "secure_retraining", STEPS),
                week=POISONED_WEEK,
                leave_out=[POISON["spam_filter"].source],
                reason="The gate advised it: without the poisoner, with the users' feedback",
            ),
            self._new(
                *("rollback", "rollback", ("request", "restore")),
                to_version=_RESTORED,
                reason=f"{reason}: taking the newest promotion back",
            ),
        )

    def _new(self, name: str, dag: str, steps: Sequence[str], **form: object) -> Run:
        return Run(
            dag_id=f"{dag}__{self._model}",
            run_id=f"demo__{name.replace(' ', '_')}__{secrets.token_hex(4)}",
            form={"reason": "make demo, the tour"} | form,
            name=name,
            steps=steps,
        )


def _feedback(store: Store, trust: TrustHistory, model: str) -> Stop | None:
    links = feedback_chain(store, trust, model).load()
    if not links:
        return None
    entry = links[-1].record
    known = trust.named(entry.trust_list)
    result = open_result(store, known, "feedback", entry.attestation).expect(FeedbackReport)
    report = result.report
    set_aside = sum(report.set_aside.values())
    return Stop(
        "feedback",
        f"{report.n_lines} lines: {set_aside} set aside ({_counts(report.set_aside)});"
        f" {report.n_applied} items become a signed batch, {sum(report.held.values())} are held",
    )


def _monitoring(store: Store, trust: TrustHistory, model: str) -> Stop | None:
    links = monitoring_chain(store, trust, model).load()
    if not links:
        return None
    entry = links[-1].record
    known = trust.named(entry.trust_list)
    result = open_result(store, known, "monitoring", entry.attestation).expect(MonitoringReport)
    report = result.report
    measured = [
        f"{value.name} {value.measured.value:.3f}"
        for value in report.values
        if value.measured is not None and ":" not in value.name
    ]
    incidents = ", ".join(incident.name for incident in report.incidents) or "no incident"
    return Stop("monitoring", f"{report.day}: {', '.join(measured)}; {incidents}")


def _second_attempt(store: Store, trust: TrustHistory, model: str) -> Stop | None:
    links = registry_chain(store, trust, model).load()
    of_week = [
        link.record
        for link in links
        if link.record.week == POISONED_WEEK and link.record.verdict == "PROMOTE"
    ]
    if not of_week:
        return None
    entry, known = of_week[-1], trust.named(of_week[-1].trust_list)
    gate = open_result(store, known, "gate", entry.decision).attestation
    screened = open_result(store, known, "screening", gate.inputs["screening"])
    effect = screened.expect(ScreeningReport).report.feedback
    changed = "no feedback"
    if effect is not None:
        changed = (
            f"feedback of {effect.n_feedback} rows"
            f" {'left out' if effect.left_out else 'kept'}: accuracy of a surrogate"
            f" {effect.without_feedback.value:.3f} without, {effect.with_feedback.value:.3f} with"
        )
    return Stop("second attempt", f"PROMOTE, version {entry.version}; {changed}")


def _rollback(store: Store, trust: TrustHistory, model: str) -> Stop | None:
    newest = registry_chain(store, trust, model).load()[-1:]
    if not newest or newest[0].record.verdict != "ROLLBACK":
        return None
    entry = newest[0].record
    known = trust.named(entry.trust_list)
    asked = open_result(store, known, "rollback", entry.decision).expect(RollbackRequest).report
    return Stop("rollback", f"version {asked.gives_up} gave way, version {entry.version} serves")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda i: -i[1]))
