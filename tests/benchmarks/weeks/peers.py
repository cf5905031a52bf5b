"""What others do on the same weeks: nothing, private training alone, the usual recipe."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression

from retraining.features import fit_preprocessing
from retraining.spec import PipelineSpec
from tests.benchmarks.weeks.attacks import Answer, Attack
from tests.benchmarks.weeks.layout import ROW_ID, USER, LaidOut
from tests.benchmarks.weeks.tables import LABEL

_RECIPE = 0.01  # share of rows that the usual recipe removes
_MARGIN = 0.02  # loss of accuracy that an accuracy gate lets through
PRIVATE = "private training alone"  # of the last window
PEERS = ("no defence", "isolation forest, 1%", "accuracy gate and isolation forest")


def peers_success(
    laid: LaidOut, spec: PipelineSpec, holdout: pd.DataFrame, attack: Attack | None, first: int
) -> Mapping[str, Mapping[str, float]]:
    """Accuracy and largest attack success of what each peer would have promoted since `first`.

    Each trains the same kind of model, without private noise, on what it keeps of the window; the
    first two promote every week, the third where accuracy does not fall.
    """
    found: dict[str, dict[str, float]] = {name: {"accuracy": 0.0} for name in PEERS}
    reference = pd.read_parquet(laid.settings.home / "reference.parquet")
    encode = fit_preprocessing(spec, reference).encode
    kept: list[pd.DataFrame] = []
    best = 0.0
    for number, week in enumerate(laid.weeks):
        rows = laid.delivered[week]
        kept.append(rows[_inliers(encode(rows))])
        window = slice(max(0, number + 1 - spec.training.window_weeks), number + 1)
        everything = pd.concat([laid.delivered[name] for name in laid.weeks[window]])
        for name, learned in zip(PEERS, (everything, pd.concat(kept[window])), strict=False):
            _note(found[name], _fit(encode, learned), holdout, attack, counted=number >= first)
        model = _fit(encode, pd.concat(kept[window]))
        accuracy = _accuracy(model, holdout)
        if accuracy >= best - _MARGIN:
            best = max(best, accuracy)
            _note(found[PEERS[2]], model, holdout, attack, counted=number >= first)
    return found


def _inliers(encoded: "np.typing.NDArray[np.float32]") -> "np.typing.NDArray[np.bool_]":
    forest = IsolationForest(contamination=_RECIPE, random_state=0)
    return np.asarray(forest.fit_predict(encoded) == 1)


def _fit(encode: object, rows: pd.DataFrame) -> Answer:
    features = encode(rows.drop(columns=[ROW_ID, USER, "source", LABEL]))  # type: ignore[operator]
    model = LogisticRegression(max_iter=300).fit(features, rows[LABEL].to_numpy())
    return lambda asked: model.predict(encode(asked))  # type: ignore[operator]


def _accuracy(answer: Answer, holdout: pd.DataFrame) -> float:
    return float((answer(holdout.drop(columns=[LABEL])) == holdout[LABEL].to_numpy()).mean())


def _note(
    found: dict[str, float],
    answer: Answer,
    holdout: pd.DataFrame,
    attack: Attack | None,
    *,
    counted: bool,
) -> None:
    found["accuracy"] = _accuracy(answer, holdout)
    if attack is not None and counted:
        found["success"] = max(found.get("success", 0.0), attack.success(answer))
