"""What providers deliver to S3: the objects below a prefix, or a single object."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from botocore.exceptions import ClientError
from typing_extensions import override

from retraining.store.base import CHUNK_BYTES
from retraining.store.inbox import (
    MANIFEST_NAME,
    MANIFEST_SUFFIX,
    MAX_FILES,
    Inbox,
    InboxFile,
    checked_file_name,
    manifest_bytes,
    refuse_missing,
    refuse_too_many,
    refuse_unreadable,
)
from retraining.store.opening import S3ClientFactory
from retraining.store.s3_client import code_of, make_client, parse_s3_uri, s3_errors, status_of


def open_s3_inbox(uri: str, client_factory: S3ClientFactory | None) -> "S3Inbox":
    """Return the inbox at s3://bucket/key; called by `opening.open_inbox`."""
    return S3Inbox(uri, make_client(client_factory))


class S3Inbox(Inbox):
    """An `Inbox` in a bucket: an object if there is one of exactly this key, else a folder."""

    def __init__(self, uri: str, client: Any) -> None:
        self._bucket, self._key = parse_s3_uri(uri)
        self._client = client
        self.uri = f"s3://{self._bucket}/{self._key}"

    @override
    def files(self) -> list[InboxFile]:
        if (size := self._single_size()) is not None:
            return [InboxFile(checked_file_name(self._file_name, self.uri), size)]
        keys = list(self._listed(self._folder))
        if not keys:
            refuse_missing(self.uri)
        found = []
        for key, size in keys:
            name = key.removeprefix(self._folder)
            if size == 0 and (not name or name.endswith("/")):
                continue  # a folder, as consoles make them
            if name != MANIFEST_NAME:
                found.append(InboxFile(checked_file_name(name, self.uri), size))
        return sorted(found, key=lambda file: file.name)

    @override
    def stream(self, name: str) -> Iterator[bytes]:
        checked_file_name(name, self.uri)
        if self._single_size() is not None:
            return self._chunks(self._key) if name == self._file_name else refuse_missing(name)
        return self._chunks(self._folder + name)

    @override
    def manifest(self) -> bytes | None:
        if self._single_size() is not None:
            key = self._key + MANIFEST_SUFFIX
        else:
            key = self._folder + MANIFEST_NAME
        if key not in (found for found, _size in self._listed(key, limit=1)):
            return None
        return manifest_bytes(self._chunks(key), key)

    @property
    def _folder(self) -> str:
        return f"{self._key}/" if self._key else ""

    @property
    def _file_name(self) -> str:
        return self._key.rpartition("/")[2]

    def _single_size(self) -> int | None:
        # The object itself comes first among the keys that start with its key.
        first = next(self._listed(self._key, limit=1), None) if self._key else None
        return first[1] if first and first[0] == self._key else None

    def _listed(self, prefix: str, *, limit: int | None = None) -> Iterator[tuple[str, int]]:
        """Yield key and size of objects, in the order of their keys."""
        with s3_errors(self._client, self.uri):
            try:
                pages = self._client.get_paginator("list_objects_v2").paginate(
                    Bucket=self._bucket,
                    Prefix=prefix,
                    PaginationConfig={
                        "MaxItems": limit or MAX_FILES + 1,
                        "PageSize": limit or 1000,
                    },
                )
                n_seen = 0
                for page in pages:
                    for item in page.get("Contents", ()):
                        n_seen += 1
                        if n_seen > MAX_FILES:
                            refuse_too_many(self.uri)
                        yield item["Key"], int(item["Size"])
            except ClientError as error:
                if code_of(error) == "NoSuchBucket":
                    refuse_missing(self.uri)
                raise

    def _chunks(self, key: str) -> Iterator[bytes]:
        with s3_errors(self._client, self.uri):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if status_of(error) == 404:
                    refuse_missing(f"s3://{self._bucket}/{key}")
                # It was listed with these credentials, so this one object's owner refuses it:
                # another account's encryption key, an archive tier.
                if status_of(error) == 403:
                    refuse_unreadable(f"s3://{self._bucket}/{key}", code_of(error))
                raise
            with closing(answer["Body"]) as body:
                yield from body.iter_chunks(CHUNK_BYTES)
