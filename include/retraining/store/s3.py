"""A store on S3 or on a server that speaks S3.

Records are single PUTs with `If-None-Match: *`. The server must honour that: AWS does, Ceph's
radosgw 16 only in buckets *without* versioning, several small test servers never; `self_test` finds
out. Multipart uploads are for blobs alone, because radosgw ignores the condition on them.

Two lifecycle rules keep the bucket tidy: abort incomplete multipart uploads after a day, and expire
`selftest/` after a week. Nothing here ever deletes, so the credentials need no right to.
"""

import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from typing_extensions import override

from retraining.digests import Digest
from retraining.errors import ArtifactMissingError, NameTakenError, StoreUnreachableError
from retraining.store.base import (
    CHUNK_BYTES,
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
from retraining.store.opening import S3ClientFactory
from retraining.store.s3_client import code_of, make_client, parse_s3_uri, s3_errors, status_of

_TRANSFER = TransferConfig(
    multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4
)
_WRITER = "writer"  # metadata of a record: tells whose PUT it was that won


def open_s3_store(uri: str, client_factory: S3ClientFactory | None) -> "S3Store":
    """Return the store at s3://bucket/prefix; called by `opening.open_store`."""
    return S3Store(uri, make_client(client_factory))


class S3Store(Store):
    """A `Store` in a bucket, below a prefix."""

    def __init__(self, uri: str, client: Any) -> None:
        self._bucket, folder = parse_s3_uri(uri)
        self._prefix = checked_folder(folder) if folder else ""
        self._client = client
        self.uri = f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @override
    def put(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        if not self.exists(digest):
            with self._errors():
                self._client.put_object(
                    Bucket=self._bucket, Key=self.key_of(blob_name(digest)), Body=data
                )
        return digest

    @override
    def put_file(self, path: Path) -> Digest:
        with path.open("rb") as file:
            return self.put_stream(file_chunks(file), max_bytes=NO_LIMIT)[0]

    @override
    def put_stream(self, chunks: Iterable[bytes], *, max_bytes: int) -> tuple[Digest, int]:
        # Through a file of our own (in TMPDIR, which should be a disk): the key is the digest, so
        # it is known only at the end; and a source that changes between two reads must not end
        # up under the digest of the first.
        with _spool() as file:
            digest, size = write_hashed(chunks, file, max_bytes=max_bytes)
            file.flush()
            if not self.exists(digest):
                with self._errors():
                    self._client.upload_file(
                        file.name,
                        self._bucket,
                        self.key_of(blob_name(digest)),
                        Config=_TRANSFER,
                    )
        return digest, size

    @override
    def get(self, digest: Digest, *, max_bytes: int = MAX_BYTES_IN_MEMORY) -> bytes:
        return verified_bytes(self._chunks(blob_name(digest), digest), digest, max_bytes=max_bytes)

    @override
    def fetch(self, digest: Digest, target: Path) -> None:
        write_verified(self._chunks(blob_name(digest), digest), digest, target)

    @override
    def exists(self, digest: Digest) -> bool:
        with self._errors():
            try:
                self._client.head_object(Bucket=self._bucket, Key=self.key_of(blob_name(digest)))
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                # A HEAD does not say whether the object is missing or the whole bucket.
                self._client.head_bucket(Bucket=self._bucket)
                return False
        return True

    @override
    def create(self, name: str, data: bytes) -> None:
        key, token = self.key_of(checked_name(name)), secrets.token_hex(16)
        with self._errors():
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=data,
                    IfNoneMatch="*",
                    Metadata={_WRITER: token},
                )
            except ClientError as error:
                # 412: the name is taken. 409: AWS saw another write to it at the same time.
                if status_of(error) not in (409, 412):
                    raise
                if not self._is_ours(key, token):
                    raise NameTakenError(
                        f"{self.uri} already has a record {name}. Somebody else was first:"
                        " read it and decide again."
                    ) from None

    @override
    def read(self, name: str, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
        return record_bytes(self._chunks(checked_name(name), name), name, max_bytes=max_bytes)

    @override
    def names(self, folder: str) -> list[str]:
        found = []
        with self._errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self.key_of(checked_folder(folder))
            )
            for page in pages:
                found += [
                    item["Key"].removeprefix(self._prefix) for item in page.get("Contents", ())
                ]
        return sorted(name for name in found if not name.endswith("/"))  # consoles make folders

    @override
    def self_test(self) -> None:
        demand_conditional_create(
            self,
            advice="The server ignores If-None-Match: Ceph's radosgw does so in buckets with"
            " versioning or Object Lock, several small S3 servers always. Use a bucket without"
            " versioning, or a server that honours the condition, such as AWS S3.",
        )

    def key_of(self, name: str) -> str:
        """Return the key in the bucket of a blob or record."""
        return self._prefix + name

    def _is_ours(self, key: str, token: str) -> bool:
        """Say whether our own PUT won after all.

        When the answer to a PUT is lost, botocore sends it again and is told that the name is
        taken, by itself. Without this look the winner would believe that it lost.
        """
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if status_of(error) in (403, 404):
                return False
            raise
        return bool(head.get("Metadata", {}).get(_WRITER) == token)

    def _chunks(self, name: str, wanted: str) -> Iterator[bytes]:
        with self._errors():
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self.key_of(name))
            except ClientError as error:
                if status_of(error) != 404 or code_of(error) == "NoSuchBucket":
                    raise
                raise ArtifactMissingError(
                    f"{self.uri} has no {wanted}. It was never written there, or it was deleted:"
                    " check that this is the right store, or restore it from a copy."
                ) from None
            with closing(answer["Body"]) as body:
                yield from body.iter_chunks(CHUNK_BYTES)

    def _errors(self) -> Any:
        return s3_errors(self._client, self.uri)


@contextmanager
def _spool() -> Iterator[Any]:
    """Yield a temporary file; a full disk becomes one of our errors."""
    folder = Path(tempfile.gettempdir())
    try:
        with temporary_file(folder) as file:
            yield file
    except OSError as error:
        raise StoreUnreachableError(
            f"{folder}: {error.strerror or error}. Blobs pass through this folder on their way to"
            " S3: make room there, or set TMPDIR, then try again."
        ) from error
