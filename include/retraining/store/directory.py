"""A store in a directory: the default, and what an auditor unpacks.

Who may read and write is decided by the mode of the store's own folder, and everything below it
follows. A folder that we create is private (0700). To share a store among the workers of a group,
say so once: `chgrp workers STORE && chmod 2770 STORE`. Others never get access.

Nothing is ever half there: files are written under a hidden name beside their final one, flushed to
the disk, and then renamed (blobs) or linked (records: a link, unlike a rename, fails if the name is
taken). A killed process can leave a hidden `.incoming-…` file, which no reader looks at.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from typing_extensions import override

from retraining.digests import Digest
from retraining.errors import (
    ArtifactMissingError,
    ConfigError,
    NameTakenError,
    StoreUnreachableError,
)
from retraining.store.base import (
    CHUNK_BYTES,
    INCOMING_PREFIX,
    MAX_BYTES_IN_MEMORY,
    MAX_RECORD_BYTES,
    NO_LIMIT,
    Store,
    blob_name,
    checked_folder,
    checked_name,
    demand_conditional_create,
    file_chunks,
    record_bytes,
    temporary_file,
    verified_bytes,
    write_hashed,
    write_verified,
)


class DirectoryStore(Store):
    """A `Store` on one file system that has hard links (ext4, xfs, NFS; not FAT)."""

    def __init__(self, root: Path, *, must_exist: bool = False) -> None:
        """Open the store at `root`.

        Args:
            root: Its folder; created, private, when it is missing.
            must_exist: Raise StoreUnreachableError instead of creating it. For readers, who would
                otherwise take a mistyped path for an empty store.
        """
        self.root = root.absolute()
        self.uri = str(self.root)
        with self._errors():
            if not must_exist:
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = self._demand_root().st_mode
        self._folder_mode = stat.S_IMODE(mode) & 0o2770 | 0o700
        self._file_mode = self._folder_mode & 0o640

    @override
    def put(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        if not self.exists(digest):
            self.put_stream((data,), max_bytes=len(data))
        return digest

    @override
    def put_file(self, path: Path) -> Digest:
        with path.open("rb") as file:
            return self.put_stream(file_chunks(file), max_bytes=NO_LIMIT)[0]

    @override
    def put_stream(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        blobs = self.root / "blobs" / "sha256"
        with self._errors():
            self._demand_root()
            self._make_folder(blobs)
            with temporary_file(blobs) as file:
                digest, size = write_hashed(chunks, file, max_bytes=max_bytes)
                target = self.path_of(digest)
                if not target.exists():
                    self._make_folder(target.parent)
                    self._finish(file)
                    Path(file.name).replace(target)
                    _flush_folder(target.parent)
        return digest, size

    @override
    def get(self, digest: Digest, *, max_bytes: int = MAX_BYTES_IN_MEMORY) -> bytes:
        return verified_bytes(
            self._chunks(self.path_of(digest), digest), digest, max_bytes=max_bytes
        )

    @override
    def fetch(self, digest: Digest, target: Path) -> None:
        write_verified(self._chunks(self.path_of(digest), digest), digest, target)

    @override
    def exists(self, digest: Digest) -> bool:
        with self._errors():
            self._demand_root()
            return self.path_of(digest).exists()

    @override
    def create(self, name: str, data: bytes) -> None:
        target = self.path_of_record(name)
        with self._errors():
            self._demand_root()
            self._make_folder(target.parent)
            with temporary_file(target.parent) as file:
                file.write(data)
                self._finish(file)
                try:
                    os.link(file.name, target)
                except FileExistsError:
                    # NFS can lose the answer to a link that it made, and its retry then finds
                    # the name taken, by us. The link count tells (open(2), under O_EXCL).
                    if os.fstat(file.fileno()).st_nlink != 2:
                        raise NameTakenError(
                            f"{self.uri} already has a record {name}. Somebody else was first:"
                            " read it and decide again."
                        ) from None
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                        raise
                    raise ConfigError(
                        f"The file system of {self.uri} has no hard links, which are what makes"
                        " records write-once. Put the store on ext4, xfs or NFS, or on S3."
                    ) from error
            _flush_folder(target.parent)

    @override
    def read(self, name: str, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
        return record_bytes(
            self._chunks(self.path_of_record(name), name), name, max_bytes=max_bytes
        )

    @override
    def names(self, folder: str) -> list[str]:
        top = self.root / checked_folder(folder)
        found = []
        with self._errors():
            self._demand_root()
            for parent, _folders, files in os.walk(top, onerror=_raise_unless_missing):
                relative = Path(parent).relative_to(self.root).as_posix()
                found += [f"{relative}/{f}" for f in files if not f.startswith(INCOMING_PREFIX)]
        # A name that is not UTF-8 is not ours; listed in a form that can be printed.
        return sorted(os.fsencode(name).decode(errors="backslashreplace") for name in found)

    @override
    def self_test(self) -> None:
        demand_conditional_create(self, advice="Put the store on a local disk, on NFS or on S3.")

    def path_of(self, digest: Digest) -> Path:
        """Return where a blob lies, whether or not it is there."""
        return self.root / blob_name(digest)

    def path_of_record(self, name: str) -> Path:
        """Return where a record lies, whether or not it is there."""
        return self.root / checked_name(name)

    def _chunks(self, path: Path, wanted: str) -> Iterator[bytes]:
        with self._errors():
            self._demand_root()
            try:
                # Not through a link, and without waiting for the other end of a FIFO.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except (FileNotFoundError, NotADirectoryError):
                raise ArtifactMissingError(
                    f"{self.uri} has no {wanted}. It was never written there, or it was deleted:"
                    " check that this is the right store, or restore it from a copy."
                ) from None
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ConfigError(f"{path} is not a plain file. Find out who put it there.")
                while chunk := os.read(descriptor, CHUNK_BYTES):
                    yield chunk
            finally:
                os.close(descriptor)

    def _demand_root(self) -> os.stat_result:
        """Notice a folder that went away: an unmounted store is not an empty one."""
        try:
            status = self.root.stat()
        except FileNotFoundError:
            raise StoreUnreachableError(
                f"There is no store at {self.uri}. Mount it, or correct the path."
            ) from None
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"The store {self.uri} is a file. Expected a folder.")
        return status

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            return
        folder.chmod(self._folder_mode)  # mkdir's mode passes through the umask
        _flush_folder(folder.parent)

    def _finish(self, file: IO[bytes]) -> None:
        """Give `file` its final mode and bring it to the disk, so that its name can appear."""
        file.flush()
        os.fchmod(file.fileno(), self._file_mode)
        os.fsync(file.fileno())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the file system says into our errors."""
        try:
            yield
        except OSError as error:
            where = f"{self.uri}: {error.strerror or error}"
            if isinstance(error, PermissionError) or error.errno == errno.EROFS:
                raise ConfigError(
                    f"{where}. User id {os.geteuid()} needs access to this store: run as its owner,"
                    " or share it with a group (chmod 2770)."
                ) from error
            if (
                isinstance(error, (NotADirectoryError, FileExistsError))
                or error.errno == errno.ELOOP
            ):
                raise ConfigError(
                    f"{where}. A folder or file of the store was replaced by something else."
                ) from error
            raise StoreUnreachableError(
                f"{where}. Check that the disk is mounted and not full, then try again."
            ) from error


def _flush_folder(folder: Path) -> None:
    """Bring a new name to the disk: flushing the file itself does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
