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
_PARTS = 8  # that the ranks of a column are cut into
_FURTHEST = 3.0  # deviations; a value far outside must not decide the whole distance


class Neighbours:
    """Finds the nearest rows in a pool: sampled batch rows, then trusted rows."""

    def __init__(self, pool: Rows, n_sample: int, columns: Columns) -> None:
        self._space = _Space(pool.features, is_image=columns.is_image)
        points = self._space.place(pool.features)
        self._trusted = _index(points[n_sample:])
        self._indexes: dict[int, tuple[Integers, Any]] = {}
        for label in np.unique(pool.labels):
            members = np.flatnonzero(pool.labels == label)
            if len(members) > N_NEIGHBOURS:
                self._indexes[int(label)] = members, _index(points[members])

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


def _index(points: Matrix) -> Any:
    # Trees look at nearly all rows in so many dimensions, and take longer over it.
    return NearestNeighbors(algorithm="brute").fit(points)


class _Space:
    """Where a row lies: ranks of its values, or principal components of much wider rows.

    Ranks are written part by part: 0.30 of eight parts as 1, 1, 0.4, 0, ... Then the squared
    distance of two values grows with their difference, not with its square, so that a copy with
    one other value stays near (as in Gower's distance, Biometrics 1971), and distances are still
    products of matrices, ten times as fast as sums of differences.
    """

    def __init__(self, features: Matrix, *, is_image: bool) -> None:
        self._in_parts = not is_image and features.shape[1] <= _MAX_DIMENSIONS
        self._scale: Any = None
        if not is_image:
            self._scale = QuantileTransformer(
                n_quantiles=min(_QUANTILES, len(features)),
                output_distribution="uniform" if self._in_parts else "normal",
                random_state=SEED,
            ).fit(features)
        self._reduce: Any = None
        if features.shape[1] > _MAX_DIMENSIONS:
            points = self._scaled(features)
            n_components = min(_COMPONENTS, len(points))
            solver = "covariance_eigh" if points.shape[1] <= _MAX_EXACT else "randomized"
            self._reduce = PCA(n_components, svd_solver=solver, random_state=SEED).fit(points)

    def place(self, features: Matrix) -> Matrix:
        """Points [m, dimensions]; near ones are alike."""
        points = self._scaled(features)
        if self._in_parts:
            return np.concatenate(
                [(_PARTS * points - part).clip(0, 1) for part in range(_PARTS)], axis=1
            )
        if self._reduce is not None:
            points = self._reduce.transform(points)
        return np.asarray(points, dtype=np.float32)

    def _scaled(self, features: Matrix) -> Matrix:
        if self._scale is None:
            return features
        result: Matrix = self._scale.transform(features).astype(np.float32)
        return result.clip(-_FURTHEST, _FURTHEST)
