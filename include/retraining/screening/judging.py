"""Judge every row of a batch: who it claims to be, what it holds, what its label says."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from retraining.features import labels_of
from retraining.screening import isolation, label_disagreement
from retraining.screening.calibration import Calibration, Integers, Mask, Reals
from retraining.screening.result import BatchRows
from retraining.screening.trusted import Encode, Matrix, TrustedRows
from retraining.spec import PipelineSpec

IN_HOLDOUT = "in_holdout"
DUPLICATE = "duplicate_row_id"

_CHUNK_ROWS = 8192  # encoded at once
_TRUST = ("trusted", "known", "untrusted")
_SENTENCES = {
    IN_HOLDOUT: "Its row id stands in the holdout, which is never trained on.",
    DUPLICATE: "Its row id was used before, in this week or in an accepted one.",
    label_disagreement.NAME: label_disagreement.SENTENCE,
    isolation.NAME: isolation.SENTENCE,
}
_FAULT = "A value is missing, or is not what the pipeline file declares."
_STRICT = "Far more rows of this source look so than trusted rows do, so it is judged strictly."


class Score(Protocol):
    """One way to see that a row is odd."""

    name: str

    def score(self, features: Matrix, labels: Integers) -> Reals:
        """Of rows [m]; larger is odder."""

    def trusted_scores(self) -> Reals:
        """Of the trusted rows [n], each by a model that did not see it."""


@dataclass
class Judged:
    """A batch with the reasons of each quarantined row.

    Attributes:
        reasons: Reason to the rows that have it [m].
        quarantined: Rows with at least one reason [m].
        scores: Score name to value and p-value of every row [m].
    """

    reasons: dict[str, Mask]
    quarantined: Mask
    scores: dict[str, tuple[Reals, Reals]] = field(default_factory=dict)
    strict: Mask = field(default_factory=lambda: np.zeros(0, dtype=bool))


class Judge:
    """Both scores, calibrated on the trusted rows."""

    def __init__(self, trusted: TrustedRows, spec: PipelineSpec, encode: Encode) -> None:
        self._spec = spec
        self._encode = encode
        self._scores: Sequence[Score] = (
            label_disagreement.LabelDisagreement(trusted),
            isolation.Isolation(trusted),
        )
        self._calibrations = {
            score.name: Calibration(score.trusted_scores(), trusted.labels)
            for score in self._scores
        }

    @property
    def thresholds(self) -> dict[str, float]:
        """Per score and class the value above which a row is flagged, before any strictness."""
        rate = self._spec.screening.trusted_flag_rate
        return {
            f"{name}/{label}": calibration.threshold(number, rate)
            for name, calibration in self._calibrations.items()
            for number, label in enumerate(self._spec.label.classes)
        }

    def judge(self, rows: pd.DataFrame, claims: dict[str, Mask]) -> Judged:
        """Score the rows of one batch; `claims` are reasons that stand already."""
        labels = labels_of(rows, self._spec)
        values = {score.name: np.zeros(len(rows)) for score in self._scores}
        for start in range(0, len(rows), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            features = self._encode(rows.iloc[part])
            for score in self._scores:
                values[score.name][part] = score.score(features, labels[part])
        judged = Judged(reasons=dict(claims), quarantined=np.zeros(len(rows), dtype=bool))
        judged.strict = np.zeros(len(rows), dtype=bool)
        for name, calibration in self._calibrations.items():
            rare, standing_out = calibration.flags(
                values[name], labels, self._spec.screening.trusted_flag_rate
            )
            judged.reasons[name] = rare | standing_out
            judged.strict |= standing_out & ~rare
            judged.scores[name] = (values[name], calibration.p_values(values[name], labels))
        for flagged in judged.reasons.values():
            judged.quarantined |= flagged
        return judged


def claimed_ids(
    batches: Sequence[BatchRows],
    *,
    known: Collection[str],
    holdout: Collection[str],
    spec: PipelineSpec,
) -> list[dict[str, Mask]]:
    """Per batch the rows whose id is not theirs to use, by reason.

    Of several rows with one id the first keeps it, in order of trust, risk, week and name: else an
    untrusted source could knock out another's rows by copying their ids.
    """
    order = sorted(
        range(len(batches)),
        key=lambda number: (
            _TRUST.index(spec.source(batches[number].batch.source).trust),
            batches[number].risk_score,
            batches[number].batch.week,
            batches[number].batch.source,
        ),
    )
    taken = set(known)
    in_holdout = set(holdout)
    found: list[dict[str, Mask]] = [{} for _ in batches]
    for number in order:
        rows = batches[number].rows
        if rows is None:
            continue
        ids = rows[spec.row_id].astype(str)
        again = ids.isin(taken) | ids.duplicated(keep="first")
        found[number] = {
            IN_HOLDOUT: ids.isin(in_holdout).to_numpy(dtype=bool),
            DUPLICATE: again.to_numpy(dtype=bool),
        }
        taken.update(ids)
    return found


def suspicious_rows(batch: BatchRows, judged: Judged, spec: PipelineSpec) -> pd.DataFrame:
    """The quarantined rows of one batch: ids, scores and reasons, never a feature."""
    assert batch.rows is not None and batch.faults is not None  # noqa: S101 - for the type checker
    chosen = np.flatnonzero(judged.quarantined)
    reasons = [[name for name, rows in judged.reasons.items() if rows[i]] for i in chosen]
    columns: dict[str, object] = {
        "row_id": batch.rows[spec.row_id].astype(str).to_numpy()[chosen],
        "reasons": ["; ".join(names) for names in reasons],
        "explanation": [
            " ".join([*(_SENTENCES[n] for n in names), *([_STRICT] if judged.strict[i] else [])])
            for i, names in zip(chosen, reasons, strict=True)
        ],
    }
    for name, (values, p_values) in judged.scores.items():
        columns[name] = values[chosen]
        columns[f"{name}_p"] = np.round(p_values[chosen], 6)
    faulty = {
        "row_id": batch.faults["row_id"].to_numpy(),
        "reasons": ["; ".join(names) for names in batch.faults["reasons"]],
        "explanation": _FAULT,
    }
    frames = [pd.DataFrame(columns), pd.DataFrame(faulty)]
    found = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    return found.assign(source=batch.batch.source, week=batch.batch.week)
