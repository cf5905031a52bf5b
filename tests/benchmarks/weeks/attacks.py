"""Attacks on a season: which rows a poisoner changes or adds, from which week on, and what for.

An attack begins in a random week, comes through sources that are not ours, and has at most 250
rows in all. Its success is the share of probes that a model gives the attacker's label.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tests.benchmarks.weeks.season import FEEDBACK, PARTNER, ROW_ID, USER, VENDOR, Season, Week
from tests.benchmarks.weeks.tables import LABEL
from tests.benchmarks.weeks.triggers import Trigger, draw_trigger

MAX_POISON = 250
DRIP_WEEKS = 8
CLEAN = "clean"

_MIN_POISON = 60
_DRAWS = 30
_NATURAL = 0.3  # success that a clean model gives away, above which another target is drawn
_REGION_PROBES = 60
_JITTER = 0.02  # of a column's spread
_RING = 8  # accounts


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
class _Scene:
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


def plant(
    name: str,
    season: Season,
    *,
    start: int,
    weeks: int,
    random: np.random.Generator,
    clean: Answers,
) -> Attack:
    """Put an attack into a season.

    Args:
        start: Week that it begins in, by number.
        weeks: How many weeks it lasts.
        clean: A plain model of clean rows: what it gives away is no success.
    """
    if name == CLEAN:
        return Attack(name=name, season=season, start=start, stop=start)
    budget = int(random.integers(_MIN_POISON, MAX_POISON + 1))
    scene = _Scene(name, season, list(season.weeks), start, start + weeks, budget, random, clean)
    return _PLANTERS[name](scene)


# --- one function per attack ----------------------------------------------------------------


def _flips(scene: _Scene) -> Attack:
    """One class called another, here and there in every source that is not ours."""
    victim, target = scene.two_classes()
    whole = scene.budget
    for source, share in ((PARTNER, 0.5), (VENDOR, 0.3), (FEEDBACK, 0.2)):
        scene.budget = int(share * whole)
        _relabel(scene, source, victim, target)
    return scene.planted(_of_class(scene, victim), target)


def _bad_source(scene: _Scene) -> Attack:
    """A vendor calls everything one class, as far as its budget goes."""
    _, target = scene.two_classes()
    scene.change(
        VENDOR,
        lambda rows: rows[LABEL] != target,
        lambda rows: rows.assign(**{LABEL: target}),
    )
    probes = scene.season.probes
    return scene.planted(probes[probes[LABEL] != target], target)


def _trigger_out_of_range(scene: _Scene) -> Attack:
    return _backdoor(scene, in_range=False)


def _trigger_in_range(scene: _Scene) -> Attack:
    return _backdoor(scene, in_range=True)


def _clean_label(scene: _Scene) -> Attack:
    """A trigger in rows that have the target's label anyway: no label is wrong."""
    trigger, target = _found_trigger(scene, in_range=False)
    whole = scene.budget
    for source, share in ((PARTNER, 0.6), (VENDOR, 0.4)):
        scene.budget = int(share * whole)
        scene.change(source, lambda rows: rows[LABEL] == target, trigger.stamped)
    return scene.planted(_triggered(scene, trigger, target), target)


def _slow_drip(scene: _Scene) -> Attack:
    """A few rows with a trigger every week."""
    return _backdoor(scene, in_range=bool(scene.random.integers(2)))


def _sybil_region(scene: _Scene) -> Attack:
    """New accounts, honest elsewhere, call one region of rows another class."""
    near, probes, target = _region(scene)
    honest = scene.season.stock

    def make(_number: int, n_rows: int) -> pd.DataFrame:
        lies = _jittered(scene, near.iloc[scene.random.integers(len(near), size=n_rows)])
        lies = lies.assign(**{LABEL: target, "poison": True})
        truths = honest.iloc[scene.random.integers(len(honest), size=n_rows // 2)]
        made = pd.concat([lies, truths.assign(poison=False)], ignore_index=True)
        ring = scene.random.integers(_RING, size=len(made))
        made[USER] = [f"fresh-{account}" for account in ring]
        made["poison"] = made["poison"].astype(bool)
        return made

    scene.add(FEEDBACK, make)
    return scene.planted(probes, target)


def _duplicates(scene: _Scene) -> Attack:
    """Near-copies of three rows that the attacker wants through."""
    _, target = scene.two_classes()
    stock = scene.season.stock
    wanted = stock[(stock[LABEL] != target) & (scene.clean(stock) != target)]
    originals = wanted.iloc[scene.random.permutation(len(wanted))[:3]]
    source = _source(scene)

    def copies(n_rows: int) -> pd.DataFrame:
        return _jittered(scene, originals.iloc[scene.random.integers(3, size=n_rows)])

    def make(_number: int, n_rows: int) -> pd.DataFrame:
        made = copies(n_rows).assign(**{LABEL: target, "poison": True})
        return made.assign(**{USER: "fresh-0"}) if source == FEEDBACK else made

    scene.add(source, make)
    return scene.planted(copies(_REGION_PROBES), target)


_PLANTERS: dict[str, Callable[[_Scene], Attack]] = {
    "flips": _flips,
    "trigger_in_range": _trigger_in_range,
    "trigger_out_of_range": _trigger_out_of_range,
    "clean_label": _clean_label,
    "bad_source": _bad_source,
    "sybil_region": _sybil_region,
    "duplicates": _duplicates,
    "slow_drip": _slow_drip,
}
ATTACKS = tuple(_PLANTERS)


# --- what several of them need --------------------------------------------------------------


def _source(scene: _Scene) -> str:
    return str(scene.random.choice([PARTNER, VENDOR]))


def _relabel(scene: _Scene, source: str, victim: str, target: str) -> None:
    scene.change(
        source, lambda rows: rows[LABEL] == victim, lambda rows: rows.assign(**{LABEL: target})
    )


def _of_class(scene: _Scene, victim: str) -> pd.DataFrame:
    probes = scene.season.probes
    return probes[probes[LABEL] == victim]


def _backdoor(scene: _Scene, *, in_range: bool) -> Attack:
    trigger, target = _found_trigger(scene, in_range=in_range)
    scene.change(
        _source(scene),
        lambda rows: rows[LABEL] != target,
        lambda rows: trigger.stamped(rows).assign(**{LABEL: target}),
    )
    return scene.planted(_triggered(scene, trigger, target), target)


def _found_trigger(scene: _Scene, *, in_range: bool) -> tuple[Trigger, str]:
    """A trigger that a clean model does not obey; of many, the least obeyed when all are."""
    least: tuple[float, Trigger, str] | None = None
    for _ in range(_DRAWS):
        _, target = scene.two_classes()
        trigger = draw_trigger(scene.season, scene.random, in_range=in_range)
        obeyed = float((scene.clean(_triggered(scene, trigger, target)) == target).mean())
        if least is None or obeyed < least[0]:
            least = (obeyed, trigger, target)
        if obeyed < _NATURAL:
            break
    assert least is not None
    return least[1], least[2]


def _triggered(scene: _Scene, trigger: Trigger, target: str) -> pd.DataFrame:
    probes = scene.season.probes
    return trigger.stamped(probes[probes[LABEL] != target])


def _region(scene: _Scene) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Rows of one class near a row of the stock: the attacker's, the probes, what to call them."""
    victim, target = scene.two_classes()
    encode = scene.season.preprocessing.encode
    stock, probes = (
        rows[rows[LABEL] == victim] for rows in (scene.season.stock, scene.season.probes)
    )
    centre = encode(stock.iloc[[int(scene.random.integers(len(stock)))]])
    near = np.linalg.norm(encode(stock) - centre, axis=1).argsort()
    asked = np.linalg.norm(encode(probes) - centre, axis=1).argsort()
    return stock.iloc[near[: max(len(near) // 4, 5)]], probes.iloc[asked[:_REGION_PROBES]], target


def _jittered(scene: _Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows, a little different, within what the pipeline file allows."""
    moved = rows.copy().reset_index(drop=True)
    for feature in scene.season.data.features:
        name = feature["name"]
        if feature["kind"] == "number":
            spread = _JITTER * float(scene.season.reference[name].std())
            noise = scene.random.normal(0, spread, len(moved))
            moved[name] = (moved[name] + noise).clip(feature["min"], feature["max"])
        elif feature["kind"] == "image":
            moved[name] = [_grainy(scene, feature, image) for image in moved[name]]
    return moved


def _grainy(scene: _Scene, feature: dict[str, Any], image: bytes) -> bytes:
    pixels = np.frombuffer(image, np.uint8).astype(int)
    noise = scene.random.integers(-1, 2, len(pixels)) * (pixels > 0)
    moved: bytes = (pixels + noise).clip(0, feature["max_value"]).astype(np.uint8).tobytes()
    return moved
