"""Real tables as a pipeline sees them: declared features, a label as text, no row twice."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

INDEX = "INDEX.json"
LABEL = "label"
SHIPPED = ("digits", "breast_cancer")  # with scikit-learn

_SEED = 20261128
_MAX_ROWS = 20_000
_MIN_ROWS = 1500
_MARGIN = 0.5  # of the range seen, that declared bounds leave on either side
_SKEWED = 15.0  # largest value over mean, above which a scale is logarithmic
_LOG_MARGIN = 3.0
_POOLED = 2  # pixels to a side that become one, in images with more than 400


@dataclass(frozen=True)
class DataSet:
    """One real data set.

    Attributes:
        rows: Features and `label`, shuffled; numbers as float64, everything else as text or bytes.
        features: As a pipeline file declares them. Bounds are wider than what the rows hold.
    """

    name: str
    rows: pd.DataFrame
    features: tuple[dict[str, Any], ...]
    classes: tuple[str, ...]

    @property
    def is_image(self) -> bool:
        """Whether a row is one image."""
        return self.features[0]["kind"] == "image"

    def feature(self, name: str) -> dict[str, Any]:
        """The feature of that name."""
        return next(feature for feature in self.features if feature["name"] == name)


def names_of(folder: Path, *, min_rows: int = _MIN_ROWS) -> list[str]:
    """Data sets with classes to learn that are large enough for months of weeks.

    Raises:
        ValueError: The folder has no index.
    """
    index = _index(folder)
    usable = [
        entry["name"]
        for entry in index
        if entry["kind"] in ("tabular", "image")
        and entry["rows"] >= min_rows
        and (entry["kind"] == "tabular" or "y_train" in str(entry["label"]))
        and not _is_lopsided(entry)
    ]
    return [*usable, "digits"]


def load(name: str, folder: Path | None) -> DataSet:
    """Read a data set of the folder, or one that scikit-learn ships.

    Raises:
        ValueError: There is none of that name.
    """
    if name in SHIPPED:
        return _shipped(name)
    entries = [] if folder is None else _index(folder)
    for entry in entries:
        if entry["name"] == name:
            assert folder is not None
            return _image_set(entry, folder) if entry["kind"] == "image" else _table(entry, folder)
    known = [*SHIPPED, *(entry["name"] for entry in entries)]
    raise ValueError(f"Found no data set {name!r}, expected one of {known}.")


def of_frame(name: str, frame: pd.DataFrame, label: str, drop: Sequence[str] = ()) -> DataSet:
    """A table as a data set: exact duplicates go, bounds are declared around what is there."""
    rows = frame.drop(columns=list(drop)).drop_duplicates().rename(columns={label: LABEL})
    rows = rows.sample(min(len(rows), _MAX_ROWS), random_state=_SEED).reset_index(drop=True)
    rows[LABEL] = rows[LABEL].astype(str)
    features = []
    for column in rows.columns.drop(LABEL):
        if pd.api.types.is_numeric_dtype(rows[column]):
            rows[column] = rows[column].astype(np.float64)
            if rows[column].nunique() > 1:
                features.append(_number(column, rows[column]))
        else:
            rows[column] = rows[column].astype(str)
            features.append(_category(column, rows[column]))
    kept = [feature["name"] for feature in features]
    classes = tuple(sorted(rows[LABEL].unique()))
    return DataSet(name, rows[[*kept, LABEL]], tuple(features), classes)


def of_images(name: str, images: Any, labels: Any, max_value: int) -> DataSet:
    """Images [n, side, side] as a data set with one column of bytes."""
    chosen = np.random.default_rng(_SEED).permutation(len(images))[:_MAX_ROWS]
    pixels = np.asarray(images)[chosen].round().astype(np.uint8)
    side = pixels.shape[1]
    rows = pd.DataFrame(
        {
            "pixels": [image.tobytes() for image in pixels],
            LABEL: [str(label) for label in np.asarray(labels)[chosen]],
        }
    )
    feature = {"kind": "image", "name": "pixels", "height": side, "width": side}
    feature |= {"channels": 1, "max_value": max_value}
    return DataSet(name, rows, (feature,), tuple(sorted(rows[LABEL].unique())))


def _index(folder: Path) -> list[dict[str, Any]]:
    path = folder / INDEX
    if not path.is_file():
        raise ValueError(f"{folder} holds no {INDEX}; DATA_DIR must be a folder of data sets.")
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["datasets"]
    return entries


def _is_lopsided(entry: dict[str, Any]) -> bool:
    """Where one class is nearly all rows, or classes are many: accuracy would say nothing."""
    balance = next(iter(entry["class_balance"].values()))
    if not isinstance(balance, dict):
        return False
    return max(balance.values()) > 0.9 * sum(balance.values()) or len(balance) > 12


def _table(entry: dict[str, Any], folder: Path) -> DataSet:
    files = entry["files"]
    # One split alone: the test rows of some sets are of another distribution.
    frame = pd.read_parquet(folder / files.get("all", files.get("train")))
    return of_frame(entry["name"], frame, entry["label"], entry.get("drop") or ())


def _image_set(entry: dict[str, Any], folder: Path) -> DataSet:
    with np.load(folder / entry["file"], allow_pickle=False) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"]
    n, side, _ = images.shape
    if side * side > 400:
        half = side // _POOLED
        images = images.reshape(n, half, _POOLED, half, _POOLED).mean(axis=(2, 4))
    return of_images(entry["name"], images, labels, 255)


def _shipped(name: str) -> DataSet:
    from sklearn import datasets

    if name == "digits":
        found = datasets.load_digits()
        return of_images(name, found.images, found.target, 16)
    found = datasets.load_breast_cancer(as_frame=True)
    frame = found.frame.rename(columns=lambda column: column.replace(" ", "_"))
    return of_frame(name, frame, "target")


def _number(name: str, column: pd.Series) -> dict[str, Any]:
    low, high = float(column.min()), float(column.max())
    feature: dict[str, Any] = {"kind": "number", "name": name}
    if low >= 0 and high > _SKEWED * float(column.mean()):
        return feature | {"min": 0.0, "max": _LOG_MARGIN * high, "scale": "log"}
    span = high - low
    bottom = low - _MARGIN * span
    feature |= {"min": max(0.0, bottom) if low >= 0 else bottom}
    return feature | {"max": high + _MARGIN * span}


def _category(name: str, column: pd.Series) -> dict[str, Any]:
    values = sorted(column.unique())
    if len(values) < 2:
        values.append("other")
    return {"kind": "category", "name": name, "categories": values}


def is_between(value: float, feature: dict[str, Any]) -> bool:
    """Whether a number is one that the pipeline file allows."""
    return math.isfinite(value) and feature["min"] <= value <= feature["max"]
