"""A tiny pipeline with one feature of each kind, and rows for it."""

from typing import Any

import numpy as np
import pandas as pd

from retraining.spec import PipelineSpec, parse_spec

CLASSES = ("ham", "spam")


def small_spec(
    *,
    architecture: dict[str, Any] | None = None,
    features: list[dict[str, Any]] | None = None,
    classes: tuple[str, ...] = CLASSES,
    **training: Any,
) -> PipelineSpec:
    """Four features, encoded as eight columns; `training` overrides its section of the file."""
    digest = "sha256:" + "0" * 64
    return parse_spec(
        {
            "model": "small",
            "description": "For tests.",
            "owner": "tests@example.org",
            "label": {"column": "label", "classes": list(classes)},
            "row_id": "row_id",
            "features": features
            or [
                {"kind": "number", "name": "size", "min": -10, "max": 10},
                {"kind": "number", "name": "count", "min": 0, "max": 1000, "scale": "log"},
                {"kind": "category", "name": "country", "categories": ["de", "fr"]},
                {"kind": "image", "name": "icon", "height": 2, "width": 2, "max_value": 16},
            ],
            "sources": [
                {"name": "feed", "uri": "inbox/{week}", "trust": "trusted", "signature": "none"}
            ],
            "reference": {"uri": "reference.parquet", "digest": digest},
            "holdout": {"uri": "holdout.parquet", "digest": digest},
            "training": {
                "architecture": architecture or {"kind": "linear"},
                "epsilon_per_run": 3,
                "epsilon_per_block": 8,
                "delta": 1e-4,
                "expected_batch_rows": 64,
                "epochs": 5,
                "learning_rate": 0.05,
                "limit_seconds": 120,
            }
            | training,
            "gate": {"limits": {"accuracy": {"min": 0.5}}},
        },
        origin="small.yaml",
    )


def small_rows(n_rows: int, *, seed: int = 0) -> pd.DataFrame:
    """Rows that `small_spec` allows; spam has the larger sizes and brighter icons."""
    random = np.random.default_rng(seed)
    is_spam = random.random(n_rows) < 0.5
    pixels = np.clip(random.integers(0, 9, (n_rows, 4)) + 8 * is_spam[:, None], 0, 16)
    return pd.DataFrame(
        {
            "row_id": [f"r{seed}-{number}" for number in range(n_rows)],
            "size": random.normal(np.where(is_spam, 2.0, -2.0), 2).clip(-10, 10),
            "count": random.integers(0, 1000, n_rows),
            "country": random.choice(["de", "fr"], n_rows),
            "icon": [bytes(row) for row in pixels.astype(np.uint8)],
            "label": np.where(is_spam, "spam", "ham"),
        }
    )
