"""One run: all weeks through the real steps, and what became the champion."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retraining.digests import Digest
from retraining.models import load_model, save_model
from retraining.spec import PipelineSpec, load_spec
from retraining.steps import StepRunner, open_step_runner
from retraining.store import Store, open_store
from retraining.training import plan_run, train
from retraining.weekly import DecidedWeek, run_week
from tests.benchmarks.weeks.attacks import Answer, Attack, draw_attacks
from tests.benchmarks.weeks.layout import MODEL, ROW_ID, LaidOut, Sizes, cut, lay_out
from tests.benchmarks.weeks.peers import PRIVATE, peers_success
from tests.benchmarks.weeks.tables import LABEL, RealTable

CLEAN = "clean"
SIZES = Sizes()
N_WEEKS = 6
_DRIP_WEEKS = 11
_JUDGING = ("screening", "validation", "purge", "gate")


@dataclass(frozen=True)
class Asked:
    """Which run: its key is what a results file knows it by."""

    table: str
    attack: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.table}/{self.attack}/{self.seed}"


def do_run(
    asked: Asked, table: RealTable, *, n_weeks: int = 0, sizes: Sizes = SIZES
) -> dict[str, Any]:
    """Lay out the weeks, run them, measure; one record for the results file."""
    n_weeks = n_weeks or (_DRIP_WEEKS if asked.attack == "slow drip" else N_WEEKS)
    pool = cut(table, n_weeks, sizes, asked.seed)
    attack = None
    if asked.attack != CLEAN:
        drawn = {a.name: a for a in draw_attacks(table, pool.holdout, asked.seed)}
        attack = drawn[asked.attack]
    first = n_weeks if attack is None else _first_week(asked.seed, n_weeks, attack)
    with tempfile.TemporaryDirectory(prefix="weeks-") as folder:
        laid = lay_out(Path(folder) / "home", pool, attack, first, asked.seed)
        return {
            "key": asked.key,
            "table": asked.table,
            "attack": asked.attack,
            "seed": asked.seed,
            "first": first,
            **_run(laid, pool.holdout, attack, first),
        }


def _first_week(seed: int, n_weeks: int, attack: Attack) -> int:
    latest = max(n_weeks - attack.n_weeks, 1)  # a short run ends before the attack does
    return int(np.random.default_rng([seed, 3]).integers(min(2, latest), latest + 1))


def _run(laid: LaidOut, holdout: pd.DataFrame, attack: Attack | None, first: int) -> dict[str, Any]:
    spec = load_spec(laid.settings.pipelines / f"{MODEL}.yaml")
    steps = open_step_runner(
        laid.settings, run_id="bench", requested_by="bench", log=lambda _line: None
    )
    seen: list[dict[str, Any]] = []
    for week in laid.weeks:
        seconds: dict[str, float] = {}

        def note(name: str, _result: Any, took: float, seconds: dict[str, float] = seconds) -> None:
            step = name.partition(" ")[0]
            seconds[step] = seconds.get(step, 0.0) + took

        decided = run_week(steps, MODEL, week, on_step=note)
        seen.append(
            _week(steps, decided, laid, week, holdout, attack)
            | {
                "judging_s": sum(seconds.get(name, 0.0) for name in _JUDGING),
                "training_s": seconds.get("training", 0.0),
            }
        )
    window = laid.weeks[-spec.training.window_weeks :]
    everything = pd.concat([laid.delivered[name] for name in window], ignore_index=True)
    private = measured(trained(laid, spec, everything), holdout, attack)
    return {
        "weeks": seen,
        "oracle": measured(trained(laid, spec, clean_window(laid, spec)), holdout, attack),
        "peers": {PRIVATE: private, **peers_success(laid, spec, holdout, attack, first)},
    }


def _week(
    steps: StepRunner,
    decided: DecidedWeek,
    laid: LaidOut,
    week: str,
    holdout: pd.DataFrame,
    attack: Attack | None,
) -> dict[str, Any]:
    decision, screened = decided.gate.report, decided.screened.screening.report
    pending = decided.screened.run.report.weeks
    poison = frozenset().union(*(laid.poisoned[name] for name in pending))
    delivered = frozenset().union(*(laid.delivered[name][ROW_ID] for name in pending))
    learned = _learned(steps, decided)
    found: dict[str, Any] = {
        "week": week,
        "verdict": decision.verdict,
        "failed": [check.name for check in decision.failed()],
        "earlier": [
            [c.verdict, *(k.name for k in c.checks if k.verdict != "PROMOTE")]
            for c in decision.earlier
        ],
        "refusal": screened.refusal.code if screened.refusal else "",
        "refused_sources": sorted(
            str(batch.batch) for batch in screened.batches if batch.refusal is not None
        ),
        "n_poison": len(poison),
        "n_poison_learned": len(poison & learned),
        "n_clean": len(delivered - poison),
        "n_clean_learned": len((delivered - poison) & learned),
    }
    if decided.entry is not None and decided.entry.record.champion is not None:
        answer = _answer_of(
            steps.store,
            decided.entry.record.champion,
            steps.pinned(decided.screened.run.attestation.digest).spec,
        )
        found |= measured(answer, holdout, attack)
    return found


def _learned(steps: StepRunner, decided: DecidedWeek) -> frozenset[str]:
    """Ids of all rows that the judged challenger learned from; empty without one."""
    trainings = [decided.training, *(r.training for r in decided.rounds if r.validation)]
    report = trainings[-1].report if trainings[-1] else None
    ids: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="weeks-") as folder:
        for block in report.blocks if report and report.model else ():
            path = Path(folder) / "rows.parquet"
            steps.store.fetch(block.rows, path)
            ids |= set(pd.read_parquet(path, columns=[ROW_ID])[ROW_ID].astype(str))
            path.unlink()
    return frozenset(ids)


def _answer_of(store: Store, model: Digest, spec: PipelineSpec) -> Answer:
    """The classes that a stored model gives."""
    loaded = load_model(store, model)
    classes = np.array(spec.label.classes, dtype=object)
    return lambda rows: classes[np.asarray(loaded.predict(rows)).argmax(axis=1)]


def measured(answer: Answer, holdout: pd.DataFrame, attack: Attack | None) -> dict[str, float]:
    """Accuracy on the holdout, and how far the attacker got."""
    given = answer(holdout.drop(columns=[LABEL]))
    found = {"accuracy": float((given == holdout[LABEL].to_numpy()).mean())}
    if attack is not None:
        found["success"] = attack.success(answer)
    return found


def clean_window(laid: LaidOut, spec: PipelineSpec) -> pd.DataFrame:
    """Rows of the last window that nobody wrote a lie into."""
    names = laid.weeks[-spec.training.window_weeks :]
    parts = [
        laid.clean[name][~laid.clean[name][ROW_ID].isin(laid.poisoned[name])] for name in names
    ]
    return pd.concat(parts, ignore_index=True)


def trained(laid: LaidOut, spec: PipelineSpec, rows: pd.DataFrame) -> Answer:
    """A private model of these rows, without any step around it."""
    reference = pd.read_parquet(laid.settings.home / "reference.parquet")
    with tempfile.TemporaryDirectory(prefix="weeks-") as folder:
        model = train(
            rows,
            reference=reference,
            spec=spec,
            run=plan_run(len(rows), spec.training),
            trainer_python=laid.settings.trainer_python,
            workdir=Path(folder),
            on_line=lambda _line: None,
        )
        store = open_store(str(Path(folder) / "store"))
        digest = save_model(
            store,
            weights=model.weights,
            architecture=model.architecture,
            preprocessing=model.preprocessing,
        )
        return _answer_of(store, digest, spec)
