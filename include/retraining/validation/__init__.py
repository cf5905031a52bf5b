"""Validation: how challenger and champion do on the same holdout rows. It measures, never passes.

`metrics` says what each number is, `bootstrap` how sure we are of it; here they are applied to the
whole holdout and to each declared part of it. What follows from the numbers is the gate's business.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.digests import Digest
from retraining.errors import ConfigError, SpecError
from retraining.records import SliceResult, ValidationReport
from retraining.spec import PipelineSpec, Slice
from retraining.validation.bootstrap import intervals, resampled_metrics, without_bias
from retraining.validation.metrics import Answers, answers_of, reliability, weighted_metrics

__all__ = ["WHOLE_HOLDOUT", "validate"]

WHOLE_HOLDOUT = "all"

Mask = npt.NDArray[np.bool_]


def validate(
    frame: pd.DataFrame,
    labels: npt.NDArray[np.int64],
    *,
    challenger: npt.NDArray[np.floating],
    champion: npt.NDArray[np.floating] | None,
    spec: PipelineSpec,
    holdout_digest: Digest,
    challenger_digest: Digest,
    champion_digest: Digest | None,
) -> ValidationReport:
    """Measure both models on the holdout.

    Args:
        frame: The holdout rows, n of them; its columns choose the slices.
        labels: Their classes, positions in the spec's list [n].
        challenger: Its probabilities [n, k].
        champion: Those of the serving model on the same rows; None before the first.
        spec: Names metrics, slices, confidence and number of resamples.

    Returns:
        Every metric with its interval, for the whole holdout and each slice: accuracy, balanced
        accuracy, calibration error, and with a positive class precision, recall, F1 and AUC.
        The same input gives the same report, byte for byte.

    Raises:
        ConfigError: The holdout is empty, or a model's answers are not [n, k].
        SpecError: A slice asks for a range of a column that holds no numbers.
    """
    names = spec.label.classes
    positive = names.index(spec.label.positive) if spec.label.positive is not None else None
    _check_shapes(len(frame), labels, challenger, champion, len(names))
    models = [answers_of(labels, challenger, positive=positive)]
    if champion is not None:
        models.append(answers_of(labels, champion, positive=positive))
    parts = [(WHOLE_HOLDOUT, np.ones(len(frame), dtype=bool))]
    parts += [(part.name, rows_of(frame, part)) for part in spec.gate.slices]
    return ValidationReport(
        holdout=holdout_digest,
        challenger=challenger_digest,
        champion=champion_digest,
        confidence=spec.gate.confidence,
        resamples=spec.gate.bootstrap_resamples,
        slices=tuple(_measure(name, rows, models, spec) for name, rows in parts),
        calibration_bins=reliability(models[0]),
    )


def rows_of(frame: pd.DataFrame, part: Slice) -> Mask:
    """Which rows of the holdout belong to a slice [n]; a range includes both its ends."""
    column = frame[part.column]
    numeric = pd.api.types.is_numeric_dtype(column)
    if part.one_of is not None:
        wanted: list[Any] = [_number(v) for v in part.one_of] if numeric else list(part.one_of)
        return (column if numeric else column.astype(str)).isin(wanted).to_numpy(dtype=bool)
    if not numeric:
        raise SpecError(
            f"gate.slices: {part.name} gives min or max for {part.column!r}, which holds no"
            " numbers. Use one_of there."
        )
    inside = np.ones(len(frame), dtype=bool)
    values = column.to_numpy(dtype=np.float64)
    if part.min is not None:
        inside &= values >= part.min
    if part.max is not None:
        inside &= values <= part.max
    return inside


def _measure(name: str, rows: Mask, models: list[Answers], spec: PipelineSpec) -> SliceResult:
    n_rows = int(rows.sum())
    if n_rows == 0:
        return SliceResult(slice=name, n_rows=0)
    parts = [model.of(rows) for model in models]
    once = np.ones((1, n_rows))
    values = [{k: float(v[0]) for k, v in weighted_metrics(part, once).items()} for part in parts]
    raw = resampled_metrics(parts, n_resamples=spec.gate.bootstrap_resamples)
    samples = [without_bias(value, sample) for value, sample in zip(values, raw, strict=True)]
    confidence = spec.gate.confidence
    measured = [
        intervals(value, sample, confidence=confidence)
        for value, sample in zip(values, samples, strict=True)
    ]
    if len(models) == 1:
        return SliceResult(slice=name, n_rows=n_rows, challenger=measured[0])
    return SliceResult(
        slice=name,
        n_rows=n_rows,
        challenger=measured[0],
        champion=measured[1],
        difference=intervals(
            _minus(values[0], values[1]), _minus(samples[0], samples[1]), confidence=confidence
        ),
    )


def _minus(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {name: left[name] - right[name] for name in left}


def _check_shapes(
    n_rows: int,
    labels: npt.NDArray[np.int64],
    challenger: npt.NDArray[np.floating],
    champion: npt.NDArray[np.floating] | None,
    n_classes: int,
) -> None:
    if n_rows == 0:
        raise ConfigError("The holdout has no rows; pin one with at least gate.min_holdout_rows.")
    shapes = {"challenger": challenger.shape}
    if champion is not None:
        shapes["champion"] = champion.shape
    for model, shape in shapes.items():
        if shape != (n_rows, n_classes) or labels.shape != (n_rows,):
            raise ConfigError(
                f"Expected the {model}'s probabilities for {n_rows} holdout rows and {n_classes}"
                f" classes, found an array of {'x'.join(map(str, shape))}."
            )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SpecError(f"gate.slices: one_of names {text!r} for a column of numbers.") from error
