"""What others do with the same weeks, and models of the truly clean rows to compare with."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retraining.models import Model, build_model
from retraining.training import plan_run, train
from tests.benchmarks.weeks.season import Season
from tests.benchmarks.weeks.tables import LABEL

NO_DEFENCE, DP_ALONE, RECIPE, ACCURACY_GATE = PEERS = (
    "no_defence",
    "dp_alone",
    "isolation_forest",
    "accuracy_gate",
)

Answers = Callable[[pd.DataFrame], "np.ndarray[Any, Any]"]

_CONTAMINATION = 0.01
_MARGIN = 0.02  # accuracy that the peers' gate lets a model lose against the champion
_PLAIN_EPOCHS = 40


def plain_model(season: Season, rows: pd.DataFrame) -> Answers:
    """The system's architecture without privacy."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    asked = season.spec.training.architecture
    model = (
        MLPClassifier(
            asked.hidden_units,
            activation=asked.activation,
            max_iter=_PLAIN_EPOCHS,
            batch_size=min(64, len(rows)),
            learning_rate_init=0.01,
            random_state=0,
        )
        if asked.kind == "mlp"
        else LogisticRegression(max_iter=300)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopped before it has converged, like everybody's
        model.fit(season.preprocessing.encode(rows), rows[LABEL].to_numpy(dtype=str))
    return lambda asked_rows: model.predict(season.preprocessing.encode(asked_rows))


def private_model(season: Season, rows: pd.DataFrame, *, trainer: Path, workdir: Path) -> Answers:
    """A model of the rows by the system's own differentially private training."""
    workdir.mkdir(parents=True)
    trained = train(
        rows,
        season.reference,
        season.spec,
        plan_run(len(rows), season.spec.training),
        trainer_python=trainer,
        workdir=workdir,
        on_line=lambda _line: None,
    )
    return answers_of(
        build_model(
            weights=trained.weights,
            architecture=trained.architecture,
            preprocessing=trained.preprocessing,
        )
    )


def answers_of(model: Model) -> Answers:
    """What a stored model says: classes as text."""
    classes = np.array(model.classes, dtype=object)
    return lambda rows: classes[model.predict(rows).argmax(axis=1)]


def accuracy(answers: Answers, rows: pd.DataFrame) -> float:
    """Share of right answers."""
    return float((answers(rows) == rows[LABEL].to_numpy()).mean())


def without_outliers(season: Season, rows: pd.DataFrame) -> pd.DataFrame:
    """The usual recipe: the 1% of a week's rows that an isolation forest finds oddest go."""
    from sklearn.ensemble import IsolationForest

    encoded = season.preprocessing.encode(rows)
    forest = IsolationForest(contamination=_CONTAMINATION, random_state=0, n_jobs=1)
    return rows[forest.fit_predict(encoded) == 1]


class PlainPeers:
    """The peers that train without privacy, week by week; the gated one remembers its champion."""

    def __init__(self, season: Season) -> None:
        self._season = season
        self._all: list[pd.DataFrame] = []
        self._sifted: list[pd.DataFrame] = []
        self._accepted: list[pd.DataFrame] = []
        self._champion: Answers | None = None

    def week(self, rows: pd.DataFrame) -> dict[str, tuple[Answers, bool]]:
        """Each peer's serving model after a week, and whether it was promoted in it."""
        sifted = without_outliers(self._season, rows)
        self._all.append(rows)
        self._sifted.append(sifted)
        everything, recipe, challenger = (
            plain_model(self._season, pd.concat(frames, ignore_index=True))
            for frames in (self._all, self._sifted, [*self._accepted, sifted])
        )
        passes = self._champion is None or self._gap(challenger) >= -_MARGIN
        if passes:
            self._accepted.append(sifted)
            self._champion = challenger
        assert self._champion is not None
        return {
            NO_DEFENCE: (everything, True),
            RECIPE: (recipe, True),
            ACCURACY_GATE: (self._champion, passes),
        }

    def _gap(self, challenger: Answers) -> float:
        assert self._champion is not None
        holdout = self._season.holdout
        return accuracy(challenger, holdout) - accuracy(self._champion, holdout)
