"""What we hand over ourselves: a batch laid into the inbox of a source, as a provider would.

A batch is never half there for whoever reads it. In a directory it is written under a hidden name
beside its final one and then renamed, manifest and all. S3 and single files have no such rename:
there the data goes first and the manifest last, and a batch without its manifest is refused.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from retraining.errors import ConfigError, StoreUnreachableError
from retraining.store.base import CHUNK_BYTES
from retraining.store.inbox import MANIFEST_NAME, MANIFEST_SUFFIX

_DATA_SUFFIX = ".parquet"


class Outbox(Protocol):
    """One place in a source's inbox, for one batch.

    Every method raises StoreUnreachableError (try again) or ConfigError (permissions, bucket).
    """

    uri: str

    def deliver(self, files: Mapping[str, Path], manifest: bytes) -> None:
        """Lay a batch down, whole; the same batch again changes nothing.

        Args:
            files: Name to content; one file if the place is itself a file.
            manifest: Its provider's manifest, which goes last.
        """


class LocalOutbox(Outbox):
    """An `Outbox` on a file system: a folder, or a single file."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.uri = str(self._path)

    @override
    def deliver(self, files: Mapping[str, Path], manifest: bytes) -> None:
        with self._errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if is_single_file(self.uri):
                _put(_only(files, self.uri), self._path)
                manifest_path = self._path.with_name(self._path.name + MANIFEST_SUFFIX)
                _put(manifest, manifest_path)
            elif not self._deliver_folder(files, manifest):
                for name, content in sorted(files.items()):
                    _put(content, self._path / name, hidden_in=self._path.parent)
                _put(manifest, self._path / MANIFEST_NAME, hidden_in=self._path.parent)

    def _deliver_folder(self, files: Mapping[str, Path], manifest: bytes) -> bool:
        """Put a whole folder in its place; False when something lies there already."""
        hidden = self._path.parent / _hidden(self._path.name)
        hidden.mkdir()
        try:
            for name, content in files.items():
                _write(content, hidden / name)
            _write(manifest, hidden / MANIFEST_NAME)
            _flush(hidden)
            try:
                hidden.rename(self._path)  # succeeds onto an empty folder too
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
            _flush(self._path.parent)
            return True
        finally:
            if hidden.exists():
                for left in hidden.iterdir():
                    left.unlink()
                hidden.rmdir()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
                raise ConfigError(
                    f"{self.uri} cannot be written: {error.strerror}. Let user id {os.geteuid()}"
                    " write into the folder before {week}."
                ) from error
            raise StoreUnreachableError(
                f"{self.uri}: {error.strerror or error}. Check its disk, then try again."
            ) from error


def is_single_file(uri: str) -> bool:
    """Say whether a batch at `uri` is one file, by its name, and not a folder of files."""
    return uri.lower().endswith(_DATA_SUFFIX)


def file_name(uri: str, name: str) -> str:
    """Return what a batch's file has to be called at `uri`: `name`, or the uri's own name."""
    return uri.rpartition("/")[2] if is_single_file(uri) else name


def _only(files: Mapping[str, Path], uri: str) -> Path:
    (content,) = files.values()
    if set(files) != {uri.rpartition("/")[2]}:
        raise ConfigError(f"{uri} is a single file, so its batch has one file of that name.")
    return content


def _put(content: Path | bytes, target: Path, *, hidden_in: Path | None = None) -> None:
    """Write a file that appears whole; its hidden form never lies among those of a batch."""
    hidden = (hidden_in or target.parent) / _hidden(target.name)
    try:
        _write(content, hidden)
        hidden.replace(target)
        _flush(target.parent)
    finally:
        hidden.unlink(missing_ok=True)


def _write(content: Path | bytes, target: Path) -> None:
    with target.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hidden(name: str) -> str:
    return f".{name}.{secrets.token_hex(6)}.incoming"
