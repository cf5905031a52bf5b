"""Which rows are like a row: the nearest ones of the same label."""

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import QuantileTransformer

from retraining.screening.rows import SEED, Columns, Integers, Matrix, Reals, Rows

N_NEIGHBOURS = 10
_MAX_DIMENSIONS = 64  # above it, distances are taken in the first principal components
_COMPONENTS = 30
_MAX_EXACT = 2000  # columns whose covariance is decomposed as a whole
_QUANTILES = 300
_FURTHEST = 3.0  # deviations; a value far outside must not decide the whole distance


class Neighbours:
    """Finds the nearest rows in a pool: sampled batch rows, then trusted rows."""

    def __init__(self, pool: Rows, n_sample: int, columns: Columns) -> None:
        self._space = _Space(pool.features, is_image=columns.is_image)
        points = self._space.place(pool.features)
        self._trusted = NearestNeighbors().fit(points[n_sample:])
        self._indexes: dict[int, tuple[Integers, Any]] = {}
        for label in np.unique(pool.labels):
            members = np.flatnonzero(pool.labels == label)
            if len(members) > N_NEIGHBOURS:
                self._indexes[int(label)] = members, NearestNeighbors().fit(points[members])

    def nearest_trusted(self, rows: Rows, n: int) -> Integers:
        """Which trusted rows lie nearest, of any label [m, n], by their place among the trusted."""
        if len(rows) == 0:
            return np.zeros((0, n), dtype=np.int64)
        points = self._space.place(rows.features)
        n = min(n, self._trusted.n_samples_fit_)
        found: Integers = self._trusted.kneighbors(points, n, return_distance=False)
        return found

    def of(self, rows: Rows, places: Integers | None = None) -> Integers:
        """Places in the pool of the nearest rows [m, N_NEIGHBOURS]; -1 where a class has too few.

        Args:
            places: Where the rows stand in the pool themselves, if they do: no row is its own
                neighbour.
        """
        result = np.full((len(rows), N_NEIGHBOURS), -1, dtype=np.int64)
        if len(rows) == 0:
            return result
        points = self._space.place(rows.features)
        for label, (members, index) in self._indexes.items():
            asked = np.flatnonzero(rows.labels == label)
            if len(asked) == 0:
                continue
            _, near = index.kneighbors(points[asked], N_NEIGHBOURS + 1)
            near = members[near]
            itself = np.full(len(asked), -1) if places is None else places[asked]
            left_out = near == itself[:, None]
            # Where it is not among its nearest (there are many copies), the last one goes.
            left_out[~left_out.any(axis=1), -1] = True
            result[asked] = near[~left_out].reshape(len(asked), N_NEIGHBOURS)
        return result


def mean_near(values: Reals, near: Integers) -> Reals:
    """Mean of `values` of the pool over the neighbours of each row [m]; 0 where there are none."""
    result: Reals = np.where(near >= 0, values[near], 0.0).mean(axis=1)
    return result


class _Space:
    """Where a row lies: ranks of its values, or principal components of much wider rows."""

    def __init__(self, features: Matrix, *, is_image: bool) -> None:
        self._scale: Any = None
        points: Any = features
        if not is_image:
            self._scale = QuantileTransformer(
                n_quantiles=min(_QUANTILES, len(features)),
                output_distribution="normal",
                random_state=SEED,
            ).fit(features)
            points = self._scaled(features)
        self._reduce: Any = None
        if points.shape[1] > _MAX_DIMENSIONS:
            n_components = min(_COMPONENTS, len(points))
            solver = "covariance_eigh" if points.shape[1] <= _MAX_EXACT else "randomized"
            self._reduce = PCA(n_components, svd_solver=solver, random_state=SEED).fit(points)

    def place(self, features: Matrix) -> Matrix:
        """Points [m, dimensions]; near ones are alike."""
        points = features if self._scale is None else self._scaled(features)
        if self._reduce is not None:
            points = self._reduce.transform(points)
        return np.asarray(points, dtype=np.float32)

    def _scaled(self, features: Matrix) -> Matrix:
        result: Matrix = self._scale.transform(features).clip(-_FURTHEST, _FURTHEST)
        return result
