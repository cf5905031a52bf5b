"""What providers deliver: a folder, or one file, that others can write to.

Providers are not trusted, so nothing here follows a symbolic link, waits for a FIFO or believes a
name: a link to a key file must not become a batch, and a name must not forge a line of a log.
Sizes come from the listing, before a byte is read; a file that grows meanwhile is stopped by the
limit of `Store.put_stream`.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, Protocol

from typing_extensions import override

from retraining.errors import BatchRefusedError, StoreUnreachableError
from retraining.store.base import CHUNK_BYTES

MANIFEST_NAME = "batch.dsse.json"  # in the folder of a batch
MANIFEST_SUFFIX = ".dsse.json"  # beside a batch that is a single file
MAX_MANIFEST_BYTES = 4 << 20  # 5,000 files take 0.7 MiB
MAX_FILES = 10_000  # files and folders of one batch, so that a listing has an end
MAX_DEPTH = 16  # folders inside folders


@dataclass(frozen=True)
class InboxFile:
    """One delivered file: its name below the batch, with `/`, and its size in bytes."""

    name: str
    size: int


class Inbox(Protocol):
    """One batch as its provider laid it down.

    Every method raises BatchRefusedError for what the provider did, with one of these codes:
    `missing`, `symlink`, `special_file`, `bad_name`, `unreadable`, `too_many_files`,
    `manifest_too_large`; and StoreUnreachableError when the disk or server does not answer.
    """

    uri: str

    def files(self) -> list[InboxFile]:
        """Return all files, in folders too, sorted by name; the manifest is not among them."""

    def stream(self, name: str) -> Iterator[bytes]:
        """Yield the content of one of `files()`, in chunks of 1 MiB or less."""

    def manifest(self) -> bytes | None:
        """Return the provider's manifest, or None when there is none.

        It is `batch.dsse.json` in the folder, or `<file>.dsse.json` beside a single file.
        """


class LocalInbox(Inbox):
    """An `Inbox` on a file system: a folder, or a single file."""

    def __init__(self, path: Path, *, trusted_parent: Path | None = None) -> None:
        """Look at `path`, which need not exist.

        Args:
            path: The batch.
            trusted_parent: Links are followed down to this folder and nowhere below it. Give the
                last folder that the provider cannot replace; the default is `path`'s parent.
        """
        # Made absolute without following links, as Path.resolve() would.
        self._path = Path(os.path.abspath(path))  # noqa: PTH100
        self._trusted = Path(os.path.abspath(trusted_parent or self._path.parent))  # noqa: PTH100
        self._parts = self._path.relative_to(self._trusted).parts
        self.uri = str(self._path)

    @override
    def files(self) -> list[InboxFile]:
        if (size := self._single_size()) is not None:
            return [InboxFile(checked_file_name(self._path.name, self.uri), size)]
        found = [file for file in self._walk() if file.name != MANIFEST_NAME]
        return sorted(found, key=lambda file: file.name)

    @override
    def stream(self, name: str) -> Iterator[bytes]:
        checked_file_name(name, self.uri)
        if self._single_size() is not None:
            return (
                self._chunks(self._parts, name) if name == self._path.name else refuse_missing(name)
            )
        return self._chunks((*self._parts, *name.split("/")), name)

    @override
    def manifest(self) -> bytes | None:
        if self._single_size() is not None:
            parts = (*self._parts[:-1], self._path.name + MANIFEST_SUFFIX)
        else:
            parts = (*self._parts, MANIFEST_NAME)
        try:
            return manifest_bytes(self._chunks(parts, parts[-1]), parts[-1])
        except BatchRefusedError as refusal:
            if refusal.code == "missing":
                return None
            raise

    def _single_size(self) -> int | None:
        """Return the size in bytes when the batch is a single file, None when it is a folder."""
        with self._opened(self._parts, self.uri) as descriptor:
            status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            _refuse_special(self.uri)
        return status.st_size

    def _walk(self) -> Iterator[InboxFile]:
        n_entries, pending = 0, [PurePosixPath()]
        while pending:
            folder = pending.pop()
            with (
                self._opened((*self._parts, *folder.parts), str(folder)) as descriptor,
                os.scandir(descriptor) as entries,
            ):
                for entry in entries:
                    n_entries += 1
                    if n_entries > MAX_FILES or len(folder.parts) >= MAX_DEPTH:
                        refuse_too_many(self.uri)
                    name = checked_file_name(str(folder / entry.name), self.uri)
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(folder / entry.name)
                    elif stat.S_ISREG(status.st_mode):
                        yield InboxFile(name, status.st_size)
                    elif stat.S_ISLNK(status.st_mode):
                        _refuse_link(name)
                    else:
                        _refuse_special(name)

    def _chunks(self, parts: Sequence[str], name: str) -> Iterator[bytes]:
        with self._opened(parts, name) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                _refuse_special(name)
            while chunk := os.read(descriptor, CHUNK_BYTES):
                yield chunk

    @contextmanager
    def _opened(self, parts: Sequence[str], name: str) -> Iterator[int]:
        """Open a file or folder below the trusted parent, one part at a time.

        Each part is opened relative to the one before and never through a link, so a provider
        who swaps a folder for a link between two of our looks gains nothing.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = -1
        try:
            descriptor = os.open(self._trusted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in parts:
                inner = os.open(part, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        except OSError as error:
            _refuse(error, name)
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def checked_file_name(name: str, uri: str) -> str:
    """Return `name` if a delivered file may have it, else raise BatchRefusedError `bad_name`."""
    segments = name.split("/")
    # Not printable: control characters, and bytes that are not UTF-8.
    if name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(segments):
        return name
    raise BatchRefusedError(
        "bad_name",
        f"A file of {uri} is named {name[:200]!r}. Expected printable names without '..' and"
        " backslash: ask the provider to rename it.",
    )


def manifest_bytes(chunks: Iterable[bytes], name: str) -> bytes:
    """Return the joined `chunks` of a manifest, at most 4 MiB of them."""
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > MAX_MANIFEST_BYTES:
            raise BatchRefusedError(
                "manifest_too_large",
                f"{name} has more than {MAX_MANIFEST_BYTES} bytes; a manifest of 5,000 files has"
                " 0.7 million. Ask the provider what this is.",
            )
    return bytes(data)


def refuse_missing(what: str) -> NoReturn:
    """Raise BatchRefusedError `missing`."""
    raise BatchRefusedError(
        "missing",
        f"{what} does not exist. Expected the provider's files there: check the source's uri and"
        " the week, or ask the provider to deliver.",
    )


def refuse_unreadable(what: str, reason: str) -> NoReturn:
    """Raise BatchRefusedError `unreadable`."""
    raise BatchRefusedError(
        "unreadable",
        f"{what} cannot be read: {reason}. Ask the provider to let user id {os.geteuid()} or its"
        " role read it.",
    )


def refuse_too_many(uri: str) -> NoReturn:
    """Raise BatchRefusedError `too_many_files`."""
    raise BatchRefusedError(
        "too_many_files",
        f"{uri} holds more than {MAX_FILES} files and folders, or folders more than {MAX_DEPTH}"
        " deep. Ask the provider for fewer, larger files.",
    )


def _refuse_link(name: str) -> NoReturn:
    raise BatchRefusedError(
        "symlink",
        f"{name} is a symbolic link. Expected plain files, because a link can lead to data that is"
        " not the provider's: ask the provider to deliver the file itself.",
    )


def _refuse_special(name: str) -> NoReturn:
    raise BatchRefusedError(
        "special_file",
        f"{name} is not a plain file but a pipe, a socket, a device or a folder."
        " Ask the provider to deliver plain files.",
    )


def _refuse(error: OSError, name: str) -> NoReturn:
    """Raise what `error`, met on the way to `name`, means for the batch."""
    match error.errno:
        case errno.ELOOP:
            _refuse_link(name)
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG:
            refuse_missing(name)
        case errno.EACCES | errno.EPERM:
            refuse_unreadable(name, "permission denied")
        case errno.ENXIO:
            _refuse_special(name)
    raise StoreUnreachableError(
        f"{name}: {error.strerror}. Check that its disk is mounted, then try again."
    ) from error
