"""From an address in the settings or in a spec to a store, an inbox or an outbox."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from retraining.errors import ConfigError
from retraining.store.base import Store
from retraining.store.directory import DirectoryStore
from retraining.store.inbox import Inbox, LocalInbox
from retraining.store.outbox import LocalOutbox, Outbox

S3ClientFactory = Callable[[], Any]  # returns a boto3 S3 client

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|s3:/")


def open_store(
    uri: str | Path, *, client_factory: S3ClientFactory | None = None, must_exist: bool = False
) -> Store:
    """Return the store at `uri`; on S3 nothing is asked of the server yet.

    Args:
        uri: The path of a folder, or s3://bucket/prefix.
        client_factory: Makes the S3 client. Without it the usual AWS chain does (environment,
            profile, role), with AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL as the server.
        must_exist: Do not create a missing folder, but raise StoreUnreachableError.
    """
    if _is_s3(uri):
        return cast(Store, _s3_module("s3").open_s3_store(uri, client_factory))
    return DirectoryStore(Path(uri), must_exist=must_exist)


def open_inbox(
    uri: str | Path,
    *,
    client_factory: S3ClientFactory | None = None,
    trusted_parent: Path | None = None,
) -> Inbox:
    """Return the inbox at `uri`; whether anything lies there is found when it is read.

    Args:
        uri: A folder, a single file, s3://bucket/folder or s3://bucket/file.
        client_factory: As for `open_store`.
        trusted_parent: Of a local path: the last folder that the provider cannot replace. Links
            are followed down to it and refused below; the default is the parent of `uri`.
    """
    if _is_s3(uri):
        return cast(Inbox, _s3_module("s3_inbox").open_s3_inbox(uri, client_factory))
    return LocalInbox(Path(uri), trusted_parent=trusted_parent)


def open_outbox(uri: str | Path, *, client_factory: S3ClientFactory | None = None) -> Outbox:
    """Return the outbox at `uri`: a folder, or a single file if its name ends in .parquet."""
    if _is_s3(uri):
        return cast(Outbox, _s3_module("s3_outbox").open_s3_outbox(uri, client_factory))
    return LocalOutbox(Path(uri))


def _is_s3(uri: str | Path) -> bool:
    scheme = _SCHEME.match(str(uri))
    # A Path makes one slash of the two in s3://; taken for a folder, it would quietly be made.
    if scheme and scheme[0] != "s3://":
        raise ConfigError(f"Found the address {scheme[0]}…; expected a path or s3://bucket/prefix.")
    return bool(scheme)


def _s3_module(name: str) -> ModuleType:
    # By name, as drivers are loaded, so that no import of this package leads to boto3.
    try:
        return importlib.import_module(f"retraining.store.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("retraining"):
            raise
        raise ConfigError(
            f"An s3:// address needs the package {error.name}, which is not installed here."
            " Install boto3, or use a directory."
        ) from error
