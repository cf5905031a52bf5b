"""Hands a batch over on S3: data first, the manifest last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from typing_extensions import override

from retraining.store.inbox import MANIFEST_NAME, MANIFEST_SUFFIX
from retraining.store.opening import S3ClientFactory
from retraining.store.outbox import Outbox, is_single_file
from retraining.store.s3_client import make_client, parse_s3_uri, s3_errors


def open_s3_outbox(uri: str, client_factory: S3ClientFactory | None) -> "S3Outbox":
    """Return the outbox at s3://bucket/key; called by `opening.open_outbox`."""
    return S3Outbox(uri, make_client(client_factory))


class S3Outbox(Outbox):
    """An `Outbox` in a bucket: a folder, or a single object."""

    def __init__(self, uri: str, client: Any) -> None:
        self._bucket, self._key = parse_s3_uri(uri)
        self._client = client
        self.uri = f"s3://{self._bucket}/{self._key}"

    @override
    def deliver(self, files: Mapping[str, Path], manifest: bytes) -> None:
        single = is_single_file(self.uri)
        with s3_errors(self._client, self.uri):
            for name, content in sorted(files.items()):
                self._client.upload_file(
                    str(content),
                    self._bucket,
                    self._key if single else f"{self._key}/{name}",
                    Config=TransferConfig(use_threads=False),
                )
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._key + MANIFEST_SUFFIX if single else f"{self._key}/{MANIFEST_NAME}",
                Body=manifest,
            )
