"""The trainer's only touch with the disk: arrays in, finished files out, no pickles either way."""

import contextlib
import io
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from dp_trainer.contract import TrainingRequest
from dp_trainer.strict import MAX_JSON_BYTES, ContractError

# Declared bounds put features near 1. A value that overflows float32 when squared would make a
# row's gradient norm infinite and its clipped gradient NaN: such a row would have no bound at all.
MAX_ABSOLUTE_FEATURE = 1e6

_FLOAT32 = np.dtype(np.float32)
_INT64 = np.dtype(np.int64)
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class TrainingArrays:
    """The private rows and the probe rows, checked against each other and the request."""

    features: NDArray[np.float32]  # [rows, features]
    labels: NDArray[np.int64]  # [rows], 0 to n_classes - 1
    probe: NDArray[np.float32]  # [probe rows, features]

    @property
    def rows(self) -> int:
        """Number of private rows."""
        return len(self.features)


def read_request(name: str) -> str:
    """Return the text of the request; raises ContractError."""
    with _open_plain(name) as file:
        try:
            return file.read(MAX_JSON_BYTES + 1).decode()
        except UnicodeDecodeError:
            raise ContractError(f"{name} is not UTF-8.") from None


def load_arrays(request: TrainingRequest) -> TrainingArrays:
    """Read and check the three arrays that the request names, from the working folder.

    Raises:
        ContractError: A file is missing, not a regular file, not exactly the array that the
            contract promises, empty, or its values cannot be trained on.
    """
    features = _read_npy(request.features, dtype=_FLOAT32, n_dimensions=2)
    labels = _read_npy(request.labels, dtype=_INT64, n_dimensions=1)
    probe = _read_npy(request.probe, dtype=_FLOAT32, n_dimensions=2)
    if 0 in features.shape or len(probe) == 0:
        raise ContractError(
            f"Expected at least one row and one feature, found features {features.shape} and probe"
            f" {probe.shape} (rows, features)."
        )
    if len(labels) != len(features) or probe.shape[1] != features.shape[1]:
        raise ContractError(
            f"The arrays do not fit together: features {features.shape}, labels {labels.shape},"
            f" probe {probe.shape}."
        )
    if labels.min() < 0 or labels.max() >= request.n_classes:
        n_wrong = np.count_nonzero((labels < 0) | (labels >= request.n_classes))
        raise ContractError(
            f"{n_wrong} labels lie outside 0 to {request.n_classes - 1};"
            " number the classes in the order that the spec declares."
        )
    for name, values in ((request.features, features), (request.probe, probe)):
        _require_bounded(name, values)
    if request.dp.expected_batch_size > len(features):
        raise ContractError(
            f"dp.expected_batch_size is {request.dp.expected_batch_size}, but there are only"
            f" {len(features)} rows; a row cannot be sampled with a probability above 1."
        )
    return TrainingArrays(features, labels, probe)


def require_new(name: str) -> None:
    """Raise ContractError if there is something called `name`: a result is never overwritten."""
    if os.path.lexists(name):
        raise ContractError(f"{name} is there already; give every run an empty working folder.")


def write_array(name: str, values: NDArray[np.float32]) -> None:
    """Write `values` as npy, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_whole(name, buffer.getvalue())


def write_whole(name: str, content: bytes) -> None:
    """Write a file that is never seen half-written: a temporary beside it, then a rename."""
    partial = Path(f".{name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(name)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _open_plain(name: str) -> Iterator[BinaryIO]:
    """Open a regular file; a link could lead out of the folder, a pipe would wait for ever."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ContractError(f"{name} cannot be opened as a plain file: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ContractError(f"{name} is not a regular file.")
    with os.fdopen(handle, "rb") as file:
        yield file


def _read_npy(name: str, *, dtype: np.dtype[_Scalar], n_dimensions: int) -> NDArray[_Scalar]:
    """Read an npy file of exactly one type, after its header was found to fit its size.

    `np.load` would also read archives and pickles, and allocates what the header claims. Here an
    array of objects has the wrong type, so that its pickle is never reached.
    """
    with _open_plain(name) as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, fortran_order, found = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # a hostile header can raise almost anything
            raise ContractError(f"{name} is not an npy file ({type(error).__name__}).") from None
        if version != (1, 0) or fortran_order or found != dtype or len(shape) != n_dimensions:
            raise ContractError(
                f"{name} must be an npy 1.0 array of {dtype} with {n_dimensions} dimensions, row by"
                f" row; found {str(found)[:20]} with {len(shape)} dimensions."
            )
        n_bytes = os.fstat(file.fileno()).st_size - file.tell()
        if min(shape) < 0 or math.prod(shape) * found.itemsize != n_bytes:
            raise ContractError(
                f"{name} promises an array of shape {str(shape)[:60]}, but {n_bytes} bytes follow."
            )
        return np.fromfile(file, dtype=dtype, count=math.prod(shape)).reshape(shape)


def _require_bounded(name: str, values: NDArray[np.float32]) -> None:
    # Minimum and maximum are NaN if any value is; no array as large as `values` is made for this.
    low, high = values.min(), values.max()
    if low >= -MAX_ABSOLUTE_FEATURE and high <= MAX_ABSOLUTE_FEATURE:
        return
    bounded = (values >= -MAX_ABSOLUTE_FEATURE) & (values <= MAX_ABSOLUTE_FEATURE)
    raise ContractError(
        f"{np.count_nonzero(~bounded.all(axis=1))} rows of {name} hold a value that is not finite"
        f" or beyond {MAX_ABSOLUTE_FEATURE:g}; scale features to their declared bounds first."
    )
