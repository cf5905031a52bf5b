"""What an attack is, and the season in the hands of whoever plants one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tests.benchmarks.weeks.season import ROW_ID, Season, Week
from tests.benchmarks.weeks.tables import LABEL


class Answers(Protocol):
    """A clean model, asked what it would say."""

    def __call__(self, rows: pd.DataFrame) -> "np.ndarray[Any, Any]":
        """Class of each row, as text."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A season with an attack in it; without one, `poison` is empty.

    Attributes:
        start, stop: Weeks of the attack by number, `stop` not among them.
        poison: Names of the poisoned rows of each week of the attack.
        probes: Rows that a clean model does not give `target`, mostly; None when clean.
        target: The attacker's label; None when any wrong answer is success.
    """

    name: str
    season: Season
    start: int
    stop: int
    poison: dict[int, frozenset[str]] = field(default_factory=dict)
    probes: pd.DataFrame | None = None
    target: str | None = None

    def success(self, answers: Answers) -> float | None:
        """Share of the probes that the model gives the attacker's label."""
        if self.probes is None or not len(self.probes):
            return None
        said = answers(self.probes)
        if self.target is None:
            return float((said != self.probes[LABEL].to_numpy()).mean())
        return float((said == self.target).mean())

    def poison_until(self, week: int) -> set[str]:
        """Names of all poisoned rows that were delivered up to that week, included."""
        return {name for number, names in self.poison.items() if number <= week for name in names}


@dataclass
class Scene:
    """What a planter works with, and what it changes."""

    name: str
    season: Season
    weeks: list[Week]
    start: int
    stop: int
    budget: int
    random: np.random.Generator
    clean: Answers
    poison: dict[int, frozenset[str]] = field(default_factory=dict)

    @property
    def a_week(self) -> list[int]:
        """How many rows each week of the attack may have."""
        n = self.stop - self.start
        return [self.budget // n + (i < self.budget % n) for i in range(n)]

    def change(self, source: str, chosen: Callable[[pd.DataFrame], Any], change: Any) -> None:
        """Each week, change as many of the source's chosen rows as the budget has left."""
        for number, n_rows in zip(range(self.start, self.stop), self.a_week, strict=True):
            rows = self.weeks[number][source]
            found = np.flatnonzero(chosen(rows))
            found = self.random.permutation(found)[:n_rows]
            changed = change(rows.iloc[found])
            rest = rows.drop(index=rows.index[found])
            self._put(number, source, pd.concat([rest, changed]), changed)

    def add(self, source: str, make: Callable[[int, int], pd.DataFrame]) -> None:
        """Each week, add rows: `make` gets the week and how many of them may be poison."""
        for number, n_rows in zip(range(self.start, self.stop), self.a_week, strict=True):
            made = make(number, n_rows)
            made[ROW_ID] = [f"{source}-{number:02d}-x{row:04d}" for row in range(len(made))]
            poison = made[made["poison"]]
            rows = pd.concat([self.weeks[number][source], made.drop(columns="poison")])
            self._put(number, source, rows, poison)

    def _put(self, number: int, source: str, rows: pd.DataFrame, poison: pd.DataFrame) -> None:
        order = self.random.permutation(len(rows))
        week = {**self.weeks[number], source: rows.iloc[order].reset_index(drop=True)}
        self.weeks[number] = week
        self.poison[number] = self.poison.get(number, frozenset()) | frozenset(poison[ROW_ID])

    def planted(self, probes: pd.DataFrame, target: str | None) -> Attack:
        return Attack(
            name=self.name,
            season=self.season.with_weeks(self.weeks),
            start=self.start,
            stop=self.stop,
            poison=self.poison,
            probes=probes.reset_index(drop=True),
            target=target,
        )

    def two_classes(self) -> tuple[str, str]:
        """Whom to attack and what to call them: classes that enough rows have."""
        shares = self.season.reference[LABEL].value_counts(normalize=True)
        usual = sorted(shares.index[shares > 0.05])
        victim, target = self.random.choice(usual, 2, replace=False)
        return str(victim), str(target)
