"""Rows as screening sees them: numbers, labels, and who delivered them.

The challenger sees numbers that are cut at two deviations, because DP wants short rows. Screening
looks at the values as they were delivered: a trigger often lies where nobody else's values do.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from retraining.features import labels_of
from retraining.records import BatchId
from retraining.spec import CategoryFeature, ImageFeature, NumberFeature, PipelineSpec

Matrix = npt.NDArray[np.float32]
Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Fixed and public: what is drawn at random hides nothing, and the same input has to give the same
# report. `RandomState`, because NumPy promises its stream for ever.
SEED = 20_260_101

PART_ROWS = 16_384  # that are read, and judged, at a time

_PATCH_SHARE = 7  # patches of a seventh of the side: 4 x 4 of 28 x 28 (MNIST's size), 2 x 2 of 8


@dataclass(frozen=True)
class Columns:
    """What the numbers of a row are.

    Attributes:
        names: Of each column [d].
        groups: Which columns belong together [d]: a feature of a table, a patch of an image.
        is_image: Whether a row is a picture, so that neighbouring columns mean little alone.
        categories: Numbers of the columns that hold a category: near ones are not alike.
    """

    names: tuple[str, ...]
    groups: Integers
    is_image: bool = False
    categories: frozenset[int] = frozenset()

    @classmethod
    def of_table(cls, names: Sequence[str]) -> Self:
        """Every column for itself."""
        return cls(names=tuple(names), groups=np.arange(len(names), dtype=np.int64))

    @classmethod
    def of_image(cls, name: str, *, height: int, width: int, channels: int) -> Self:
        """Square patches; all channels of a pixel belong to one."""
        side = max(2, round(min(height, width) / _PATCH_SHARE))
        per_line = -(-width // side)
        y, x, c = np.indices((height, width, channels)).reshape(3, -1)
        names = tuple(f"{name}[{i},{j},{k}]" for i, j, k in zip(y, x, c, strict=True))
        patches = (y // side * per_line + x // side).astype(np.int64)
        return cls(names=names, groups=patches, is_image=True)


@dataclass(frozen=True)
class Rows:
    """Some rows; what belongs together has the same first axis.

    Attributes:
        features: Finite numbers [n, d].
        labels: Class of each row [n].
        sources: Which source delivered it [n]; -1 where nobody did (reference rows).
        weeks: Of its delivery, in order [n]; -1 for reference rows.
        users: Who stands behind it [n]; -1 where that is not known.
    """

    features: Matrix
    labels: Integers
    sources: Integers
    weeks: Integers
    users: Integers

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Integers | Mask | slice) -> "Rows":
        """Some of the rows, in the order of `chosen`."""
        return Rows(
            features=self.features[chosen],
            labels=self.labels[chosen],
            sources=self.sources[chosen],
            weeks=self.weeks[chosen],
            users=self.users[chosen],
        )

    def parts(self, wanted: Mask | None = None) -> Iterator[tuple[Integers, "Rows"]]:
        """As every `RowTable`."""
        for start in range(0, len(self), PART_ROWS):
            places = np.arange(start, min(start + PART_ROWS, len(self)), dtype=np.int64)
            if wanted is None or wanted[places].any():
                yield places, self.take(slice(start, start + PART_ROWS))

    def nobodys(self) -> "Rows":
        """The same rows, delivered by nobody: a reference set."""
        nobody = np.full(len(self), -1, dtype=np.int64)
        return Rows(self.features, self.labels, nobody, nobody, nobody)

    @staticmethod
    def joined(parts: Sequence["Rows"]) -> "Rows":
        """All rows of several, one after the other."""
        return Rows(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("features", "labels", "sources", "weeks", "users")
            )
        )


class RowTable(Protocol):
    """Rows that are read in parts, because a table may be larger than memory."""

    def __len__(self) -> int:
        """How many there are."""

    def parts(self, wanted: Mask | None = None) -> Iterator[tuple[Integers, Rows]]:
        """The rows in order, at most `PART_ROWS` at a time, with their places in the table.

        Args:
            wanted: Parts without any such row [n] may be passed over.
        """


def drawn(n_rows: int, most: int) -> Integers:
    """Places of some of n rows, ascending: all of them, or that many drawn at random."""
    places = np.random.RandomState(SEED).permutation(n_rows)[:most]
    return np.sort(places).astype(np.int64)


def rows_at(table: RowTable, places: Integers) -> Rows:
    """Some rows of a table, in the order of `places`: one or more, none of them twice."""
    wanted = np.zeros(len(table), dtype=bool)
    wanted[places] = True
    found = [(of[wanted[of]], rows.take(wanted[of])) for of, rows in table.parts(wanted)]
    if not found:
        raise ValueError("none of these rows stands in the table")
    order = np.argsort(np.concatenate([of for of, _ in found]), kind="stable")
    back = np.empty(len(places), dtype=np.int64)
    back[np.argsort(places, kind="stable")] = order
    return Rows.joined([rows for _, rows in found]).take(back)


@dataclass
class RowReader:
    """Reads frames of one pipeline as `Rows`, and numbers sources, weeks and users as they come.

    Tables keep the values as delivered, a category its position in the declared list. With a
    picture among the features all numbers lie between 0 and 1, because a network wants them so.
    """

    spec: PipelineSpec
    names: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        features = self.spec.features
        self._parts = [_table_part(feature) for feature in features]
        if any(isinstance(feature, ImageFeature) for feature in features):
            self._parts = [_scaled_part(feature) for feature in features]

    @property
    def columns(self) -> Columns:
        """The columns of every row that this reader reads."""
        names: list[str] = []
        groups: list[Integers] = []
        categories: set[int] = set()
        start = 0
        for part in self._parts:
            categories |= {len(names) + number for number in part.columns.categories}
            names += part.columns.names
            groups.append(part.columns.groups + start)
            start = int(groups[-1].max()) + 1
        is_image = any(part.columns.is_image for part in self._parts)
        return Columns(
            names=tuple(names),
            groups=np.concatenate(groups),
            is_image=is_image,
            categories=frozenset(categories),
        )

    @property
    def units(self) -> Reals:
        """How many units of a delivered value one unit of each column is [d]."""
        return np.concatenate([np.full(len(part.columns.names), part.unit) for part in self._parts])

    @property
    def zeros(self) -> Reals:
        """The delivered value where each column is 0 [d]."""
        return np.concatenate([np.full(len(part.columns.names), part.zero) for part in self._parts])

    def read(self, frame: pd.DataFrame, *, source: str = "", week: str = "") -> Rows:
        """The rows of one delivery, or of the reference set (no source)."""
        n = len(frame)
        columns = [part.read(frame[part.feature]) for part in self._parts]
        return Rows(
            features=np.concatenate(columns, axis=1, dtype=np.float32),
            labels=labels_of(frame, self.spec),
            sources=np.full(n, self._number("source", source), dtype=np.int64),
            weeks=np.full(n, self._number("week", week), dtype=np.int64),
            users=self._users(frame, source),
        )

    def of(self, batch: BatchId, *, nobodys: bool = False) -> Callable[[pa.RecordBatch], Rows]:
        """Reads the rows of one delivery, part by part; as nobody's where no source is judged."""
        source = "" if nobodys else batch.source
        return lambda part: self.read(part.to_pandas(), source=source, week=batch.week)

    def _users(self, frame: pd.DataFrame, source: str) -> Integers:
        """A number per user of a source; -1 where the row names none."""
        name = self.spec.user
        if name is None or name not in frame.columns:
            return np.full(len(frame), -1, dtype=np.int64)
        users, distinct = pd.factorize(frame[name].replace("", None))
        numbers = [self._number("user", f"{source} {user}") for user in distinct]
        return np.array([*numbers, -1], dtype=np.int64)[users]

    def _number(self, kind: str, name: str) -> int:
        if not name:
            return -1
        known = self.names.setdefault(kind, {})
        return known.setdefault(name, len(known))


@dataclass(frozen=True)
class _Part:
    """One feature as columns: delivered value = zero + unit x column."""

    feature: str
    columns: Columns
    read: Callable[["pd.Series[Any]"], Reals | Matrix]
    unit: float = 1.0
    zero: float = 0.0


def _table_part(feature: NumberFeature | CategoryFeature | ImageFeature) -> _Part:
    columns = Columns.of_table([feature.name])
    if isinstance(feature, CategoryFeature):
        declared = pd.Index(feature.categories)
        return _Part(
            feature.name,
            replace(columns, categories=frozenset([0])),
            lambda c: _positions(c, declared)[:, None].astype(np.float64),
        )
    return _Part(feature.name, columns, lambda c: c.to_numpy(dtype=np.float64)[:, None])


def _scaled_part(feature: NumberFeature | CategoryFeature | ImageFeature) -> _Part:
    if isinstance(feature, ImageFeature):
        shape = {"height": feature.height, "width": feature.width, "channels": feature.channels}
        columns = Columns.of_image(feature.name, **shape)
        top = float(feature.max_value)
        return _Part(feature.name, columns, lambda c: _pixels(c, feature.n_bytes) / top, unit=top)
    if isinstance(feature, CategoryFeature):
        names = tuple(f"{feature.name}={category}" for category in feature.categories)
        columns = Columns(
            names=names,
            groups=np.zeros(len(names), dtype=np.int64),
            categories=frozenset(range(len(names))),
        )
        declared, hot = pd.Index(feature.categories), np.eye(len(names))
        return _Part(feature.name, columns, lambda c: hot[_positions(c, declared)])
    low, span = feature.min, feature.max - feature.min
    columns = Columns.of_table([feature.name])
    return _Part(
        feature.name,
        columns,
        lambda c: ((c.to_numpy(dtype=np.float64) - low) / span)[:, None],
        unit=span,
        zero=low,
    )


def _positions(column: "pd.Series[Any]", declared: "pd.Index[Any]") -> Integers:
    return declared.get_indexer(pd.Index(column.astype(str))).astype(np.int64)


def _pixels(column: "pd.Series[Any]", n_bytes: int) -> Matrix:
    pixels = np.frombuffer(b"".join(column), dtype=np.uint8)
    return pixels.reshape(len(column), n_bytes).astype(np.float32)
