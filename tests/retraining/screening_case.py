"""Real rows to screen: 569 breast cancer biopsies (scikit-learn), 30 numbers, two classes."""

import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from retraining.digests import Digest
from retraining.features import fit_preprocessing
from retraining.records import BatchId, Refusal
from retraining.reviews import Reviewed
from retraining.screening import BatchRows, ScreeningResult, Week, screen
from retraining.screening.stored import RowFile
from retraining.spec import PipelineSpec, parse_spec

WEEK = "2026-W07"
_FOLDER = tempfile.TemporaryDirectory(prefix="screening-case-")  # gone when the process ends


def biopsy_spec(
    *,
    screening: dict[str, Any] | None = None,
    sources: Sequence[dict[str, Any]] = (),
    user: str | None = None,
) -> PipelineSpec:
    """Clinic (trusted) and feed (untrusted), with what a test changes."""
    features = load_breast_cancer()
    changes = {source["name"]: source for source in sources}
    base = [
        {"name": "clinic", "trust": "trusted", "signature": "none", "on_refusal": "stop"},
        {"name": "feed", "trust": "untrusted", "signature": "none"},
        {"name": "agency", "trust": "untrusted", "signature": "none"},
    ]
    return parse_spec(
        {
            "model": "biopsies",
            "description": "For tests.",
            "owner": "tests@example.org",
            "label": {"column": "label", "classes": ["malignant", "benign"]},
            "row_id": "row_id",
            "user": user,
            "features": [
                {"kind": "number", "name": name, "min": 0, "max": 10 * float(column.max())}
                for name, column in zip(features.feature_names, features.data.T, strict=True)
            ],
            "sources": [
                {"uri": "inbox/{week}", **source, **changes.get(source["name"], {})}
                for source in base
            ],
            "reference": {"uri": "r.parquet", "digest": "sha256:" + "0" * 64},
            "holdout": {"uri": "h.parquet", "digest": "sha256:" + "0" * 64},
            "screening": {"min_rows": 20} | (screening or {}),
            "training": {
                "architecture": {"kind": "linear"},
                "epsilon_per_run": 3,
                "epsilon_per_block": 8,
                "delta": 1e-4,
                "expected_batch_rows": 64,
                "epochs": 5,
                "learning_rate": 0.05,
            },
            "gate": {"limits": {"accuracy": {"min": 0.5}}},
        },
        origin="biopsies.yaml",
    )


def biopsies(n_rows: int, *, skip: int = 0) -> pd.DataFrame:
    """Some of the rows, in one fixed random order."""
    data = load_breast_cancer()
    frame = pd.DataFrame(data.data, columns=data.feature_names)
    frame.insert(0, "row_id", [f"b{number}" for number in range(len(frame))])
    frame["label"] = np.where(data.target == 1, "benign", "malignant")
    order = np.random.RandomState(5).permutation(len(frame))
    return frame.iloc[order[skip : skip + n_rows]].reset_index(drop=True)


def flipped(rows: pd.DataFrame, share: float = 1.0) -> pd.DataFrame:
    """The rows with that share of the malignant ones called benign."""
    malignant = np.flatnonzero(rows["label"] == "malignant")
    wrong = rows.copy()
    wrong.loc[malignant[: round(share * len(malignant))], "label"] = "benign"
    return wrong


def on_disk(rows: pd.DataFrame) -> RowFile:
    """The rows as a parser leaves them."""
    path = Path(_FOLDER.name) / f"{uuid.uuid4().hex}.parquet"
    rows.to_parquet(path, index=False)
    return RowFile(path)


def faults_of(*reasons: list[str]) -> pd.DataFrame:
    """One faulty row per list of reasons, without an id."""
    return pd.DataFrame(
        {
            "row_id": pd.array([None] * len(reasons), dtype="string"),
            "file": ["rows.parquet"] * len(reasons),
            "line": range(len(reasons)),
            "reasons": list(reasons),
        }
    )


def batch(
    source: str,
    rows: pd.DataFrame | None,
    *,
    week: str = WEEK,
    faults: pd.DataFrame | None = None,
    refusal: Refusal | None = None,
) -> BatchRows:
    """One delivered batch."""
    return BatchRows(
        batch=BatchId(source=source, week=week),
        batch_digest=Digest.of(f"{source} {week}".encode()),
        risk_score=0.1 if source == "clinic" else 0.6,
        rows=None if rows is None else on_disk(rows),
        faults=faults_of() if faults is None else faults,
        refusal=refusal,
    )


def screened(
    batches: Sequence[BatchRows],
    *,
    spec: PipelineSpec | None = None,
    history: pd.DataFrame | None = None,
    holdout: Sequence[str] = (),
    reference: pd.DataFrame | None = None,
    reviewed: Reviewed | None = None,
) -> ScreeningResult:
    """Screen against the first 150 biopsies."""
    spec = spec or biopsy_spec()
    vetted = biopsies(150) if reference is None else reference
    week = Week(
        batches=batches,
        reference=vetted,
        history={}
        if history is None
        else {BatchId(source="clinic", week="2026-W06"): on_disk(history)},
        holdout_row_ids=set(holdout),
        reviewed=reviewed or Reviewed(),
        week=WEEK,
        spec=spec,
    )
    return screen(week, encode=fit_preprocessing(spec, vetted).encode)


if __name__ == "__main__":
    print(screened([batch("feed", flipped(biopsies(300, skip=150), 0.2))]).report.identity)
