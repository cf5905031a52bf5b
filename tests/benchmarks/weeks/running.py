"""One run: weeks are delivered, the real steps judge them, peers and clean models stand beside."""

import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from retraining.digests import Digest
from retraining.models import load_model
from retraining.records import Check, TrainingReport, ValidationReport
from retraining.settings import Settings
from retraining.step_requests import code_version
from retraining.steps import StepResult, StepRunner, open_step_runner
from retraining.weekly import DecidedWeek, run_week
from tests.benchmarks.weeks.attacks import ATTACKS, CLEAN, DRIP_WEEKS, plant
from tests.benchmarks.weeks.peers import (
    DP_ALONE,
    Answers,
    PlainPeers,
    accuracy,
    answers_of,
    plain_model,
    private_model,
)
from tests.benchmarks.weeks.records import PeerResult, RunKey, RunResult, WeekResult
from tests.benchmarks.weeks.scene import Attack
from tests.benchmarks.weeks.season import ROW_ID, Season, Sizes, cut, week_name
from tests.benchmarks.weeks.tables import DataSet
from tests.benchmarks.weeks.workspace import TRAINER, deliver, lay_out

_TRAINED = re.compile(r"trainer: epoch \d+: \d+ of \d+ steps, ([\d.]+) s")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long runs are.

    Attributes:
        lead: Fewest and most clean weeks before an attack.
        lasts: Fewest and most weeks of an attack that is no drip.
        after: Clean weeks after it.
        clean_weeks: Of a run without attack.
        n_clean_models: Private models of the truly clean rows: what a model's success is held
            against differs from one to the next by private noise.
    """

    sizes: Sizes = field(default_factory=Sizes)
    lead: tuple[int, int] = (2, 4)
    lasts: tuple[int, int] = (1, 3)
    after: int = 1
    clean_weeks: int = 6
    n_clean_models: int = 4
    trainer: Path = TRAINER


def prepare(key: RunKey, data: DataSet, plan: Plan) -> Attack:
    """The season of a run with its attack, the same for the same key."""
    if key.attack not in (CLEAN, *ATTACKS):
        raise ValueError(f"Found no attack {key.attack!r}, expected one of {(CLEAN, *ATTACKS)}.")
    random = np.random.default_rng([key.seed, zlib.crc32(f"{key.dataset}/{key.attack}".encode())])
    start = int(random.integers(plan.lead[0], plan.lead[1] + 1))
    lasts = int(random.integers(plan.lasts[0], plan.lasts[1] + 1))
    n_weeks = start + lasts + plan.after
    if key.attack == "slow_drip":
        start, lasts = plan.lead[0], DRIP_WEEKS
        n_weeks = start + lasts
    if key.attack == CLEAN:
        start = n_weeks = plan.clean_weeks
    season = cut(data, n_weeks, random, plan.sizes)
    return plant(
        key.attack,
        season,
        start=start,
        weeks=lasts,
        random=random,
        clean=plain_model(season, season.delivered(n_weeks)),
    )


def run_attack(key: RunKey, data: DataSet, plan: Plan, home: Path) -> RunResult:
    """Run all weeks of a run in the empty folder `home`."""
    began = time.monotonic()
    attack = prepare(key, data, plan)
    season = attack.season
    result = RunResult(
        dataset=key.dataset,
        attack=key.attack,
        seed=key.seed,
        code=str(code_version()),
        n_weeks=len(season.weeks),
        rows_a_week=len(season.delivered(1)),
        start=attack.start,
        stop=attack.stop,
        n_poison=len(attack.poison_until(len(season.weeks))),
        n_probes=0 if attack.probes is None else len(attack.probes),
        target=attack.target,
    )
    system = _System(attack, lay_out(home / "workspace", season, plan.trainer))
    peers = PlainPeers(season)
    for number in range(len(season.weeks)):
        result.weeks.append(system.week(number))
        rows = pd.concat(list(season.weeks[number].values()), ignore_index=True)
        for name, (answers, promoted) in peers.week(rows).items():
            _note(result, name, attack, answers if promoted else None, number)
    _compare(result, attack, plan, home)
    return replace(result, seconds=time.monotonic() - began)


def _note(
    result: RunResult, name: str, attack: Attack, answers: Answers | None, number: int
) -> None:
    """Put on record what a peer promoted in a week, and how good its last model is."""
    peer = result.peers.setdefault(name, PeerResult())
    if answers is None:
        return
    success = attack.success(answers)
    if number >= attack.start and success is not None:
        peer.success.append(success)
    peer.accuracy = accuracy(answers, attack.season.probes)


def _compare(result: RunResult, attack: Attack, plan: Plan, home: Path) -> None:
    """Models of the truly clean rows, with and without privacy, and privacy alone."""
    season = attack.season
    rows = season.delivered(len(season.weeks))
    clean = rows[~rows[ROW_ID].isin(attack.poison_until(len(season.weeks)))]
    plain = plain_model(season, clean)
    result.plain_success = attack.success(plain)
    result.plain_accuracy = accuracy(plain, season.probes)
    for number in range(plan.n_clean_models):
        answers = private_model(
            season, clean, trainer=plan.trainer, workdir=home / f"clean-{number}"
        )
        result.clean_accuracy.append(accuracy(answers, season.probes))
        success = attack.success(answers)
        result.clean_success += [] if success is None else [success]
    if attack.name == CLEAN:
        return  # the same rows, so the same as a model of the clean ones
    answers = private_model(season, rows, trainer=plan.trainer, workdir=home / "dp-alone")
    _note(result, DP_ALONE, attack, answers, len(season.weeks) - 1)


class _System:
    """The pipeline itself, on a workspace of its own."""

    def __init__(self, attack: Attack, settings: Settings) -> None:
        self._attack = attack
        self._season: Season = attack.season
        self._settings = settings
        self._lines: list[str] = []
        self._serving: Answers | None = None

    def week(self, number: int) -> WeekResult:
        """Deliver a week, run its steps, and look at what came of it."""
        deliver(self._settings, self._season, number)
        steps = open_step_runner(
            self._settings, run_id="bench", requested_by="bench", log=self._lines.append
        )
        self._lines.clear()
        seconds: dict[str, float] = {}

        def told(name: str, _result: Any, took: float) -> None:
            seconds[name] = took

        decided = run_week(steps, self._season.spec.model, week_name(number), on_step=told)
        gate, screening = decided.gate.report, decided.screened.screening.report
        earlier = gate.earlier
        poison = self._attack.poison_until(number)
        measured = [decided.validation, *(one.validation for one in decided.rounds)]
        validations = [validation for validation in measured if validation is not None]
        found = WeekResult(
            week=number,
            clean=not poison,
            verdict=gate.verdict,
            promoted=decided.entry is not None,
            saved=bool(earlier) and decided.entry is not None,
            failed=_said(gate.failed()),
            first_failed=_said(earlier[0].checks if earlier else ()),
            refused={
                str(batch.batch): batch.refusal.code
                for batch in screening.batches
                if batch.refusal is not None
            },
            n_poison=len(poison),
            n_patterns=len(screening.patterns),
            n_purged=sum(one.purge.report.n_purged for one in decided.rounds),
            purged_sources=[s for one in decided.rounds for s in one.purge.report.sources],
            p_values=_p_values(decided.validation),
            last_p_values=_p_values(validations[-1] if validations else None),
            seconds=seconds,
            training_seconds=self._trained_seconds(),
        )
        self._look_at_rows(steps, decided, found, poison)
        self._look_at_models(steps, decided, found)
        return found

    def _look_at_rows(
        self, steps: StepRunner, decided: DecidedWeek, found: WeekResult, poison: set[str]
    ) -> None:
        """Which of this week's clean rows were accepted, and which poison was learned from."""
        entry = decided.entry
        batches = entry.record.batches if entry else decided.screened.screening.report.batches
        accepted = {str(batch.batch): batch.accepted for batch in batches}
        for source, rows in self._season.weeks[found.week].items():
            clean = set(rows[ROW_ID]) - poison
            kept = self._ids(steps, accepted.get(f"{source} {week_name(found.week)}"))
            found.n_clean += len(clean)
            found.n_clean_kept += len(clean & kept)
        for training in _trainings(decided):
            learned: set[str] = set()
            for block in training.blocks:
                learned |= self._ids(steps, block.rows)
            found.n_poison_trained = len(poison & learned)
            if found.n_poison_first is None:
                found.n_poison_first = found.n_poison_trained

    def _look_at_models(self, steps: StepRunner, decided: DecidedWeek, found: WeekResult) -> None:
        models = [training.model for training in _trainings(decided) if training.model]
        if models:
            answers = answers_of(load_model(steps.store, models[-1]))
            found.challenger_success = self._attack.success(answers)
            if found.promoted:
                self._serving = answers
        if self._serving is not None:
            found.success = self._attack.success(self._serving)
            found.accuracy = accuracy(self._serving, self._season.probes)

    def _ids(self, steps: StepRunner, digest: Digest | None) -> set[str]:
        if digest is None:
            return set()
        path = self._settings.home / "looked-at.parquet"
        steps.store.fetch(digest, path)
        ids = set(pq.read_table(path, columns=[ROW_ID]).column(ROW_ID).to_pylist())
        path.unlink()
        return ids

    def _trained_seconds(self) -> list[float]:
        """Of each training of the week, without start-up: the trainer's count at its last epoch."""
        counted = [float(m[1]) for m in map(_TRAINED.search, self._lines) if m]
        # The count starts again with each training; its last value is what one took.
        following = [*counted[1:], -1.0][: len(counted)]
        return [now for now, then in zip(counted, following, strict=True) if then < now]


def _said(checks: Sequence[Check]) -> list[list[str]]:
    return [[c.name, c.verdict, c.observed] for c in checks if c.verdict != "PROMOTE"]


def _trainings(decided: DecidedWeek) -> list[TrainingReport]:
    trained = [decided.training, *(one.training for one in decided.rounds)]
    return [result.report for result in trained if result is not None]


def _p_values(validation: StepResult[ValidationReport] | None) -> dict[str, float]:
    behaviour = validation.report.behaviour if validation else None
    if behaviour is None:
        return {}
    return {r.name: r.p_value for r in behaviour.results if r.p_value is not None}
