"""The tables of `make bench-weeks`: on the screen, and as Markdown for the docs."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table

from tests.benchmarks.weeks.attacks import ATTACKS
from tests.benchmarks.weeks.figures import PIPELINE, SYSTEMS, Figures
from tests.benchmarks.weeks.peers import PEERS
from tests.benchmarks.weeks.records import RunResult

_NAMES = {
    PIPELINE: "this pipeline",
    "no_defence": "no defence",
    "dp_alone": "DP training alone",
    "isolation_forest": "isolation forest, 1%",
    "accuracy_gate": "the same and an accuracy gate",
}
_POINTS = {"scale": 100.0, "digits": 1}


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def grids(runs: Sequence[RunResult]) -> list[Grid]:
    """The same tables for every way of showing them."""
    figures = Figures.of(runs)
    return [_aims(figures), _systems(figures), _attacks(figures)]


def shown(runs: Sequence[RunResult]) -> Group:
    """For the screen."""
    drawn = []
    for grid in grids(runs):
        table = Table(title=grid.title, title_justify="left")
        for number, name in enumerate(grid.head):
            table.add_column(name, justify="right" if number else "left")
        for line in grid.lines:
            table.add_row(*line)
        drawn.append(table)
    return Group(sentence(runs), *drawn)


def markdown(runs: Sequence[RunResult]) -> str:
    """For the docs."""
    parts = [sentence(runs)]
    for grid in grids(runs):
        lines = [grid.head, ("---",) * len(grid.head), *grid.lines]
        parts.append(f"### {grid.title}")
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts)


def sentence(runs: Sequence[RunResult]) -> str:
    """How much was run, as the head of the tables."""
    figures = Figures.of(runs)
    weeks = [week for run in figures.runs for week in run.weeks]
    broken = f" {figures.n_broken} runs broke and are in no figure." if figures.n_broken else ""
    n_clean = sum(week.clean for week in weeks)
    names = ", ".join(sorted({run.dataset for run in figures.runs}))
    versions = len({run.code for run in figures.runs})
    return (
        f"{len(figures.attacked)} attack runs, and {n_clean} clean weeks of {len(weeks)}, on"
        f" {names}. Code versions: {versions}.{broken}"
    )


def _aims(figures: Figures) -> Grid:
    clean, others = (_percent(figures.clean_rows_lost(clean=c).value) for c in (True, False))
    lines = (
        ("poisoned model promoted, of the attack runs", "≤ 2%", str(figures.poisoned(PIPELINE))),
        (
            "of these, no such model had learned a poisoned row",
            "",
            str(figures.poisoned_by_chance()),
        ),
        ("of all promoted models, poisoned", "", str(figures.models_poisoned())),
        (
            "the same of private models of clean rows (control)",
            "",
            str(figures.clean_models_poisoned()),
        ),
        ("clean weeks refused", "≤ 3%", str(figures.clean_refused())),
        (
            "accuracy lost, points (median)",
            "≤ 0.5",
            figures.accuracy_lost(PIPELINE).text(**_POINTS),
        ),
        ("attack runs that end with a clean model", "≥ 90%", str(figures.ended_clean())),
        (
            "judging over training, per week (median)",
            "≤ 3",
            figures.judging_per_training().text(),
        ),
        (
            "the same with the trainer's start-up",
            "",
            figures.judging_per_training(whole=True).text(),
        ),
        ("attack runs noticed", "", str(figures.detected())),
        ("weeks to notice (median)", "", figures.weeks_to_detect().text()),
        ("refused weeks saved by purging", "", str(figures.refused_saved())),
        ("clean rows not accepted, clean weeks / others", "", f"{clean} / {others}"),
    )
    return Grid("Aims", ("measure", "aim", "measured (95% interval)"), lines)


def _systems(figures: Figures) -> Grid:
    harmful = figures.harmful()
    lines = tuple(
        (
            _NAMES[system],
            str(figures.poisoned(system)),
            str(harmful.poisoned(system)),
            figures.success(system).text(digits=2),
            figures.accuracy_lost(system).text(**_POINTS),
        )
        for system in SYSTEMS
    )
    head = (
        "system",
        "poisoned model promoted",
        f"the same, where no defence is poisoned ({len(harmful.runs)} runs)",
        "success beyond a clean model's (median of the worst)",
        "accuracy lost, points (median)",
    )
    return Grid("Beside peers, on the same weeks", head, lines)


def _attacks(figures: Figures) -> Grid:
    lines = []
    for name in ATTACKS:
        of = figures.only(name)
        if not of.runs:
            continue
        peers = [_count(of, peer) for peer in PEERS]
        seen = of.detected()
        lines.append(
            (
                name.replace("_", " "),
                str(len(of.runs)),
                _count(of, PIPELINE),
                *peers,
                f"{seen.k} of {seen.n}",
                _plain(of.weeks_to_detect().value),
                f"{of.ended_clean().k} of {of.ended_clean().n}",
                _percent(of.clean_rows_lost(clean=False).value),
            )
        )
    head = (
        "attack",
        "runs",
        *(f"poisoned: {_NAMES[system]}" for system in SYSTEMS),
        "noticed",
        "after weeks",
        "ends clean",
        "clean rows not accepted",
    )
    return Grid("By attack", head, tuple(lines))


def _count(figures: Figures, system: str) -> str:
    found = figures.poisoned(system)
    return f"{found.k} of {found.n}"


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f}%"  # NaN is not itself


def _plain(value: float) -> str:
    return "-" if value != value else f"{value:g}"
