"""What became of each week: read from the signed registry, never from Airflow's colours."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from demo.cut_data import WEEKS
from retraining.evidence import public_key_of
from retraining.recording import open_result
from retraining.records import GateDecision, RegistryEntry, TrainingReport
from retraining.registry import HeadMemory, Registry
from retraining.settings import Settings
from retraining.signed_chain import Link, TrustHistory, registry_chain
from retraining.store import Store, open_store


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


def concluded_weeks(settings: Settings, model: str) -> dict[str, WeekOutcome]:
    """Week to its newest conclusion, from verified entries."""
    store = open_store(settings.store)
    trust = TrustHistory.load(store, public_key_of(settings.root_key, "root"))
    registry = Registry(model, tuple(registry_chain(store, trust, model).load()))
    HeadMemory(settings.memory).check(registry)
    return {link.record.week: _outcome(store, trust, link) for link in registry.links}


def as_promised(outcomes: Mapping[str, WeekOutcome], poisoned_week: str) -> bool:
    """Whether every clean week was promoted and the poisoned one was not, its champion kept."""
    if set(outcomes) != set(WEEKS):
        return False
    verdicts = {week: outcome.entry.verdict for week, outcome in outcomes.items()}
    if any(verdicts[week] != "PROMOTE" for week in WEEKS if week != poisoned_week):
        return False
    last_clean = outcomes[max(week for week in WEEKS if week != poisoned_week)].entry
    refused = outcomes[poisoned_week].entry
    return refused.verdict != "PROMOTE" and refused.champion == last_clean.champion


def table(outcomes: Mapping[str, WeekOutcome], seconds: Mapping[str, float]) -> Table:
    """The table that people came for."""
    shown = Table("week", "verdict", "why", "champion", "epsilon", "seconds")
    for week in sorted(outcomes):
        outcome = outcomes[week]
        colour = {"PROMOTE": "green", "HOLD": "yellow", "REJECT": "red"}[outcome.entry.verdict]
        shown.add_row(
            week,
            f"[bold {colour}]{outcome.entry.verdict}[/]",
            outcome.why,
            outcome.champion,
            "-" if outcome.epsilon is None else f"{outcome.epsilon:.2f}",
            f"{seconds[week]:.0f}" if week in seconds else "-",
        )
    return shown


def _outcome(store: Store, trust: TrustHistory, link: Link[RegistryEntry]) -> WeekOutcome:
    entry = link.record
    known = trust.named(entry.trust_list)
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
