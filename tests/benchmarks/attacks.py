"""What `make bench-attacks` runs: every attack test, for real, counted by who attacks.

An attack is stopped when its test passed, and tried only when the test ran: one that was skipped,
or whose setting could not be made, stands as not tried and fails the run as one that went through.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[0] = str(REPOSITORY)  # started as a file, and `tests` is not installed

import pytest  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

_LOG_COLUMNS = 100
_OUTCOMES = ("stopped", "not stopped", "not tried")


@dataclass
class Attacks:
    """Counts what became of each attack; a plugin of pytest.

    Attributes:
        outcomes: Attacks by attacker, then by outcome.
        controls: What had to go on working, by attacker: whether it did.
        wrong: Tests that fail the run.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    controls: dict[str, Counter[bool]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: list[str] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: at its call, or at what kept it from being called."""
        tried = report.when == "call" and not report.skipped
        if not tried and report.passed:
            return  # it was set up, or taken down
        said = dict(report.user_properties)
        if not tried and report.when == "teardown":
            self.wrong.append(report.nodeid)  # counted at its call
        elif "control" in said:
            self.controls[str(said["control"])][report.passed] += 1
        else:
            outcome = "not tried" if not tried else "stopped" if report.passed else "not stopped"
            self.outcomes[str(said["attack"])][outcome] += 1
        if not report.passed and report.nodeid not in self.wrong:
            self.wrong.append(report.nodeid)

    def table(self) -> Table:
        """One line per attacker."""
        table = Table(
            title="Attacks",
            caption="control: what has to go on working, or to be stopped would prove nothing.",
        )
        table.add_column("attacker")
        for name in ("tried", "stopped", "not stopped", "not tried", "controls"):
            table.add_column(name, justify="right")
        for attacker in sorted({*self.outcomes, *self.controls}):
            found, controls = self.outcomes[attacker], self.controls[attacker]
            bad = found["not stopped"] + found["not tried"] + controls[False]
            held = f"{controls[True]} of {controls.total()}" if controls else ""
            table.add_row(
                attacker,
                str(found["stopped"] + found["not stopped"]),
                *(str(found[outcome]) for outcome in _OUTCOMES),
                held,
                style="bold red" if bad else "",
            )
        return table


def main(arguments: Sequence[str] | None = None, folder: Path = REPOSITORY) -> int:
    """Run the attacks, print the table; exit status 1 unless every one was tried and stopped.

    Args:
        arguments: For pytest, beside ours.
        folder: Its `tests/attacks` is run.
    """
    attacks = Attacks()
    asked = list(sys.argv[1:] if arguments is None else arguments)
    options = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-m", "not radosgw"]
    status = pytest.main(
        [*options, f"--rootdir={folder}", str(folder / "tests" / "attacks"), *asked],
        plugins=[attacks],
    )
    console = Console(width=None if sys.stdout.isatty() else _LOG_COLUMNS)
    console.print(attacks.table())
    for name in attacks.wrong:
        console.print(f"not stopped, or not tried: {name}", style="red", markup=False)
    return int(bool(attacks.wrong) or status != pytest.ExitCode.OK or not attacks.outcomes)


if __name__ == "__main__":
    sys.exit(main())
