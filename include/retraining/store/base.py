"""What every store promises, and the checks that all stores share.

Two kinds of things lie in a store:

* **Blobs** are named by their content: `blobs/sha256/<2 hex>/<hex>`. Nobody has to be trusted with
  them, because every read hashes what it got and refuses anything else.
* **Records** have a name that somebody chose, such as `registry/spam_filter/0000000001.dsse.json`.
  They are signed, and `create` writes each name at most once: that is what makes the registry
  append-only. A store that cannot promise this is found by `self_test`.

Nothing here imports a storage library: the verifier and everyone on a directory do without boto3.
"""

import hashlib
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from retraining.digests import Digest
from retraining.errors import (
    ArtifactTamperedError,
    BatchRefusedError,
    ConfigError,
    EvidenceError,
    NameTakenError,
    RetrainingError,
)

CHUNK_BYTES = 1 << 20
MAX_RECORD_BYTES = 4 << 20  # a Statement with 5,000 subjects takes 0.7 MiB
MAX_BYTES_IN_MEMORY = 64 << 20  # larger blobs are fetched to a file
NO_LIMIT = 1 << 62
SELF_TEST_FOLDER = "selftest"
INCOMING_PREFIX = ".incoming-"  # of temporary files; no valid name starts with a dot

_BLOBS = "blobs"
_MAX_SEGMENT_BYTES = 200  # file systems allow 255
_SEGMENT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_MAX_SEGMENT_BYTES - 1}}}")


class Store(Protocol):
    """Content-addressed artefacts and write-once records.

    Every method may also raise StoreUnreachableError (try again) and ConfigError (credentials,
    bucket, permissions: trying again does not help).
    """

    uri: str  # where it is, for messages; holds no secret

    def put(self, data: bytes) -> Digest:
        """Keep `data` and return its digest; free when it is there already."""

    def put_file(self, path: Path) -> Digest:
        """Keep the content of a file, streamed."""

    def put_stream(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        """Keep what `chunks` yield, streamed; return digest and size in bytes.

        Raises:
            BatchRefusedError: `too_large`, at the first byte past `max_bytes`. Nothing is kept
                then, nor when `chunks` raises.
        """

    def get(self, digest: Digest, *, max_bytes: int = MAX_BYTES_IN_MEMORY) -> bytes:
        """Return a blob whose bytes were just checked against its digest.

        Raises:
            ArtifactMissingError: The store does not have it.
            ArtifactTamperedError: It holds other bytes under this digest.
            RetrainingError: The blob is larger than `max_bytes`: fetch it to a file instead.
        """

    def fetch(self, digest: Digest, target: Path) -> None:
        """Write a blob to `target`, which appears only when its bytes were checked.

        Raises: as `get`, but for the size.
        """

    def exists(self, digest: Digest) -> bool:
        """Say whether the store has a blob under this digest; its bytes are not checked."""

    def create(self, name: str, data: bytes) -> None:
        """Write a record whole, at once, unless its name is taken.

        Raises:
            NameTakenError: A record of this name exists. Exactly one of several writers wins.
        """

    def read(self, name: str, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
        """Return a record. Its signature is for the caller to verify.

        Raises:
            ArtifactMissingError: There is no such record.
            EvidenceError: What stands there is larger than `max_bytes`, so it is no record.
        """

    def names(self, folder: str) -> list[str]:
        """Return the full names of all records below `folder`, sorted.

        A folder, not a string prefix: `registry/spam` does not list `registry/spam_filter/…`. A
        name that somebody else put there is listed too, valid or not.
        """

    def self_test(self) -> None:
        """Create one probe record twice and demand that the second time is refused.

        Each test leaves one probe of a few bytes, `selftest/<random>`: whoever may create
        records need not, and should not, be able to delete any.

        Raises:
            ConfigError: The store accepts a second write, so it cannot keep a registry.
        """


def blob_name(digest: Digest) -> str:
    """Return where a blob lies; the two digits keep folders small on a directory."""
    return f"{_BLOBS}/sha256/{digest.hex[:2]}/{digest.hex}"


def checked_name(name: str) -> str:
    """Return `name` if a record may have it, else raise ConfigError.

    Segments of letters, digits, dot, underscore and hyphen that start with a letter or digit: so
    neither `..`, nor an absolute path, nor a hidden file, on any file system and in any URL.
    """
    segments = name.split("/")
    if segments[0] != _BLOBS and all(_SEGMENT.fullmatch(segment) for segment in segments):
        return name
    raise ConfigError(
        f"A record cannot be named {name[:200]!r}. Expected segments of letters, digits, '.', '_'"
        f" and '-', such as registry/spam_filter/0000000001.dsse.json, outside {_BLOBS}/."
    )


def checked_folder(folder: str) -> str:
    """Return `folder` with exactly one slash at its end, else raise ConfigError."""
    return checked_name(folder.removesuffix("/")) + "/"


def file_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of `file` in chunks of 1 MiB."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def write_hashed(chunks: Iterable[bytes], file: IO[bytes], *, max_bytes: int) -> tuple[Digest, int]:
    """Write `chunks` to `file`; return the digest and the number of bytes written.

    Raises:
        BatchRefusedError: `too_large`, before the first byte past `max_bytes` is written.
    """
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise BatchRefusedError(
                "too_large",
                f"More than {max_bytes} bytes arrived; expected at most that many."
                " Deliver less, or raise the source's limit.",
            )
        sha256.update(chunk)
        file.write(chunk)
    return Digest.from_hex(sha256.hexdigest()), size


def verified_bytes(chunks: Iterable[bytes], digest: Digest, *, max_bytes: int) -> bytes:
    """Return the joined `chunks` if they hash to `digest`.

    Past `max_bytes` the rest is hashed but not kept: so a swapped blob is called tampered, however
    large it is, and memory stays bounded.
    """
    sha256, size, kept = hashlib.sha256(), 0, []
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
        if size <= max_bytes:
            kept.append(chunk)
    _demand(digest, Digest.from_hex(sha256.hexdigest()))
    if size > max_bytes:
        raise RetrainingError(
            f"{digest} has {size} bytes; expected at most {max_bytes} in memory."
            " Fetch it to a file."
        )
    return b"".join(kept)


def write_verified(chunks: Iterable[bytes], digest: Digest, target: Path) -> None:
    """Write `chunks` to `target`, which appears only if they hash to `digest`."""
    # Beside the target, so that the rename neither copies nor shows half a file.
    with temporary_file(target.parent) as file:
        found, _size = write_hashed(chunks, file, max_bytes=NO_LIMIT)
        file.flush()
        _demand(digest, found)
        Path(file.name).replace(target)


def record_bytes(chunks: Iterable[bytes], name: str, *, max_bytes: int) -> bytes:
    """Return the joined `chunks` of a record, or raise EvidenceError past `max_bytes`."""
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > max_bytes:
            raise EvidenceError(
                f"{name} has more than {max_bytes} bytes, so it is none of our records."
                " Find out who wrote it, and move it away."
            )
    return bytes(data)


@contextmanager
def temporary_file(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a new private file in `folder`; it is gone at the end unless it was renamed."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=INCOMING_PREFIX, delete=False) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def demand_conditional_create(store: Store, *, advice: str) -> None:
    """Run the self-test of `Store.self_test`; `advice` ends the message when it fails."""
    name = f"{SELF_TEST_FOLDER}/{secrets.token_hex(16)}"
    store.create(name, b"first")
    try:
        store.create(name, b"second")
    except NameTakenError:
        if store.read(name) == b"first":
            return
    raise ConfigError(
        f"{store.uri} let a record be written twice under one name ({name}), so two promotions"
        f" could both win and history could be rewritten. {advice}"
    )


def _demand(digest: Digest, found: Digest) -> None:
    if found != digest:
        raise ArtifactTamperedError(
            f"{digest} now holds bytes that hash to {found}. The store was changed after this"
            " artefact was recorded; quarantine it and retrain from the last verified batch."
        )
