"""What became of each week: read from the signed registry, never from Airflow's colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from demo.cut_data import WEEKS
from retraining.chains import registry_chain
from retraining.evidence import public_key_of
from retraining.recording import open_result
from retraining.records import GateDecision, RegistryEntry, RollbackRequest, TrainingReport
from retraining.registry import HeadMemory, Registry
from retraining.settings import Settings
from retraining.signed_chain import Link
from retraining.store import Store, open_store
from retraining.trust_history import TrustHistory

_COLOURS = {"PROMOTE": "green", "HOLD": "yellow", "REJECT": "red", "ROLLBACK": "blue"}


@dataclass(frozen=True)
class WeekOutcome:
    """One concluded week.

    Attributes:
        why: The first check that failed; how the challenger did, when none did.
        champion: Version that serves after this week, and whether it is new.
        epsilon: Of the week's training run; None when nothing was trained.
    """

    entry: RegistryEntry
    why: str
    champion: str
    epsilon: float | None


def conclusions(settings: Settings, model: str) -> list[WeekOutcome]:
    """Every conclusion so far, oldest first, from verified entries."""
    store = open_store(settings.store)
    trust = TrustHistory.load(store, public_key_of(settings.root_key, "root"))
    registry = Registry(model, tuple(registry_chain(store, trust, model).load()))
    HeadMemory(settings.memory).check(registry)
    return [_outcome(store, trust, link) for link in registry.links]


def as_promised(outcomes: Sequence[WeekOutcome], poisoned_week: str) -> bool:
    """Whether every clean week was promoted at once, and the poisoned one was not.

    What somebody did afterwards, such as the poisoned week again without its poisoner, is theirs.
    """
    first: dict[str, RegistryEntry] = {}
    champion = None
    for outcome in outcomes:
        entry = outcome.entry
        if entry.week not in first:
            first[entry.week] = entry
            kept = entry.champion == champion
            if (entry.verdict == "PROMOTE") == kept or kept != (entry.week == poisoned_week):
                return False
        champion = entry.champion
    return set(first) == set(WEEKS)


def table(outcomes: Sequence[WeekOutcome], seconds: Mapping[str, float]) -> Table:
    """The table that people came for."""
    shown = Table("week", "verdict", "why", "champion", "epsilon", "seconds")
    for outcome in outcomes:
        entry = outcome.entry
        colour = _COLOURS[entry.verdict]
        again = f" (attempt {entry.attempt})" if entry.attempt > 1 else ""
        first = entry.attempt == 1 and entry.verdict != "ROLLBACK"
        took = seconds.get(entry.week) if first else None
        shown.add_row(
            f"{entry.week}{again}",
            f"[bold {colour}]{entry.verdict}[/]",
            escape(outcome.why),
            outcome.champion,
            "-" if outcome.epsilon is None else f"{outcome.epsilon:.2f}",
            "-" if took is None else f"{took:.0f}",
        )
    return shown


def _outcome(store: Store, trust: TrustHistory, link: Link[RegistryEntry]) -> WeekOutcome:
    entry = link.record
    known = trust.named(entry.trust_list)
    if entry.verdict == "ROLLBACK":
        asked = open_result(store, known, "rollback", entry.decision).expect(RollbackRequest)
        return WeekOutcome(entry, asked.report.reason, f"version {entry.version}", None)
    gate = open_result(store, known, "gate", entry.decision)
    decision = gate.expect(GateDecision).report
    epsilon = None
    if trained := gate.attestation.inputs.get("training"):
        epsilon = (
            open_result(store, known, "training", trained).expect(TrainingReport).report.epsilon
        )
    new = entry.verdict == "PROMOTE"
    serves = f"version {entry.version}{' (new)' if new else ''}" if entry.version else "none"
    return WeekOutcome(entry, _why(decision), serves, epsilon)


def _why(decision: GateDecision) -> str:
    if failed := decision.failed():
        return f"{failed[0].name}: {failed[0].observed}"
    measured = [f"{c.name} {c.observed}" for c in decision.checks if c.name == "accuracy"]
    return next(iter(measured), f"passed all {len(decision.checks)} checks")
