"""Attacks on a season: which rows a poisoner changes or adds, from which week on, and what for.

An attack begins in a random week, comes through sources that are not ours, and has at most 250
rows in all. Its success is the share of probes that a model gives the attacker's label.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.weeks.scene import Answers, Attack, Scene
from tests.benchmarks.weeks.season import FEEDBACK, PARTNER, USER, VENDOR, Season
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
    scene = Scene(name, season, list(season.weeks), start, start + weeks, budget, random, clean)
    return _PLANTERS[name](scene)


# --- one function per attack ----------------------------------------------------------------


def _flips(scene: Scene) -> Attack:
    """One class called another, here and there in every source that is not ours."""
    victim, target = scene.two_classes()
    whole = scene.budget
    for source, share in ((PARTNER, 0.5), (VENDOR, 0.3), (FEEDBACK, 0.2)):
        scene.budget = int(share * whole)
        _relabel(scene, source, victim, target)
    return scene.planted(_of_class(scene, victim), target)


def _bad_source(scene: Scene) -> Attack:
    """A vendor calls everything one class, as far as its budget goes."""
    _, target = scene.two_classes()
    scene.change(
        VENDOR,
        lambda rows: rows[LABEL] != target,
        lambda rows: rows.assign(**{LABEL: target}),
    )
    probes = scene.season.probes
    return scene.planted(probes[probes[LABEL] != target], target)


def _trigger_out_of_range(scene: Scene) -> Attack:
    return _backdoor(scene, in_range=False)


def _trigger_in_range(scene: Scene) -> Attack:
    return _backdoor(scene, in_range=True)


def _clean_label(scene: Scene) -> Attack:
    """A trigger in rows that have the target's label anyway: no label is wrong."""
    trigger, target = _found_trigger(scene, in_range=False)
    whole = scene.budget
    for source, share in ((PARTNER, 0.6), (VENDOR, 0.4)):
        scene.budget = int(share * whole)
        scene.change(source, lambda rows: rows[LABEL] == target, trigger.stamped)
    return scene.planted(_triggered(scene, trigger, target), target)


def _slow_drip(scene: Scene) -> Attack:
    """A few rows with a trigger every week."""
    return _backdoor(scene, in_range=bool(scene.random.integers(2)))


def _sybil_region(scene: Scene) -> Attack:
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


def _duplicates(scene: Scene) -> Attack:
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


_PLANTERS: dict[str, Callable[[Scene], Attack]] = {
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


def _source(scene: Scene) -> str:
    return str(scene.random.choice([PARTNER, VENDOR]))


def _relabel(scene: Scene, source: str, victim: str, target: str) -> None:
    scene.change(
        source, lambda rows: rows[LABEL] == victim, lambda rows: rows.assign(**{LABEL: target})
    )


def _of_class(scene: Scene, victim: str) -> pd.DataFrame:
    probes = scene.season.probes
    return probes[probes[LABEL] == victim]


def _backdoor(scene: Scene, *, in_range: bool) -> Attack:
    trigger, target = _found_trigger(scene, in_range=in_range)
    scene.change(
        _source(scene),
        lambda rows: rows[LABEL] != target,
        lambda rows: trigger.stamped(rows).assign(**{LABEL: target}),
    )
    return scene.planted(_triggered(scene, trigger, target), target)


def _found_trigger(scene: Scene, *, in_range: bool) -> tuple[Trigger, str]:
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


def _triggered(scene: Scene, trigger: Trigger, target: str) -> pd.DataFrame:
    probes = scene.season.probes
    return trigger.stamped(probes[probes[LABEL] != target])


def _region(scene: Scene) -> tuple[pd.DataFrame, pd.DataFrame, str]:
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


def _jittered(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
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


def _grainy(scene: Scene, feature: dict[str, Any], image: bytes) -> bytes:
    pixels = np.frombuffer(image, np.uint8).astype(int)
    noise = scene.random.integers(-1, 2, len(pixels)) * (pixels > 0)
    moved: bytes = (pixels + noise).clip(0, feature["max_value"]).astype(np.uint8).tobytes()
    return moved
