"""What `make demo ARGS=--once` calls a success, from registry entries alone."""

import pytest

from demo.cut_data import WEEKS
from demo.outcome import WeekOutcome, as_promised, table
from retraining.digests import Digest
from retraining.records import RegistryEntry, Verdict

POISONED = WEEKS[2]
SOME = Digest.of(b"")


def history(*verdicts: tuple[str, Verdict]) -> list[WeekOutcome]:
    """Entries as the registry would hold them: PROMOTE brings a new champion, nothing else does."""
    outcomes: list[WeekOutcome] = []
    version, champion = 0, None
    for number, (week, verdict) in enumerate(verdicts, start=1):
        if verdict == "PROMOTE":
            version, champion = version + 1, Digest.of(f"model {number}".encode())
        entry = RegistryEntry(
            model="spam_filter",
            sequence=number,
            previous=SOME if number > 1 else None,
            verdict=verdict,
            week=week,
            attempt=1 + sum(outcome.entry.week == week for outcome in outcomes),
            decision=SOME,
            decision_report=SOME,
            spec=SOME,
            policy=SOME,
            trust_list=SOME,
            trust_version=1,
            batches=(),
            ledger_head=None,
            champion=champion,
            version=version,
        )
        outcomes.append(WeekOutcome(entry, why="", champion="", epsilon=None))
    return outcomes


CLEAN = [(WEEKS[0], "PROMOTE"), (WEEKS[1], "PROMOTE")]


@pytest.mark.parametrize("verdict", ["HOLD", "REJECT"])
def test_clean_weeks_promoted_and_the_poisoned_one_refused_is_a_success(verdict: Verdict) -> None:
    assert as_promised(history(*CLEAN, (POISONED, verdict)), POISONED)


def test_what_happens_afterwards_does_not_count() -> None:
    later = history(*CLEAN, (POISONED, "HOLD"), (POISONED, "PROMOTE"))
    assert as_promised(later, POISONED)


@pytest.mark.parametrize(
    "verdicts",
    [
        [],
        CLEAN,
        [*CLEAN, (POISONED, "PROMOTE")],
        [*CLEAN, (POISONED, "PROMOTE"), (POISONED, "HOLD")],
        [(WEEKS[0], "HOLD"), (WEEKS[1], "PROMOTE"), (POISONED, "HOLD")],
        [(WEEKS[0], "PROMOTE"), (WEEKS[1], "REJECT"), (POISONED, "HOLD")],
        [(WEEKS[0], "HOLD"), (WEEKS[0], "PROMOTE"), CLEAN[1], (POISONED, "HOLD")],
    ],
    ids=["nothing", "unfinished", "poisoned", "too-late", "held", "rejected", "second-try"],
)
def test_everything_else_is_not(verdicts: list[tuple[str, Verdict]]) -> None:
    assert not as_promised(history(*verdicts), POISONED)


def test_a_promotion_that_changed_no_champion_is_not_believed() -> None:
    outcomes = history(*CLEAN, (POISONED, "HOLD"))
    same = outcomes[1].entry.model_copy(update={"champion": outcomes[0].entry.champion})
    outcomes[1] = WeekOutcome(same, "", "", None)
    assert not as_promised(outcomes, POISONED)


def test_a_refused_week_that_changed_the_champion_is_not_believed() -> None:
    outcomes = history(*CLEAN, (POISONED, "HOLD"))
    other = outcomes[2].entry.model_copy(update={"champion": SOME})
    outcomes[2] = WeekOutcome(other, "", "", None)
    assert not as_promised(outcomes, POISONED)


def test_the_table_shows_every_attempt_and_takes_no_markup_from_records() -> None:
    outcomes = history(*CLEAN, (POISONED, "HOLD"), (POISONED, "PROMOTE"))
    outcomes[2] = WeekOutcome(outcomes[2].entry, "accuracy [0.1, 0.2] [/red]", "version 2", None)
    shown = table(outcomes, {week: 60.0 for week in WEEKS})
    cells = [list(column.cells) for column in shown.columns]
    assert cells[0] == [*WEEKS, f"{POISONED} (attempt 2)"]
    assert cells[2][2] == r"accuracy [0.1, 0.2] \[/red]"
    assert cells[5] == ["60", "60", "60", "-"]
