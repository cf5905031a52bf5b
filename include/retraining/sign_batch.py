"""A provider's part: sign a batch, so that nobody can alter, replay or add to it unnoticed.

The same as the shell script `docs/sign_batch.sh`, which needs only openssl and jq.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from retraining.digests import Digest
from retraining.errors import ConfigError
from retraining.evidence import DATASET_BATCH, Signer, Statement, sign
from retraining.store import MANIFEST_NAME, MANIFEST_SUFFIX, open_inbox


def build_manifest(
    delivery: Path,
    *,
    provider: str,
    dataset: str,
    batch: str,
    sequence: int,
    created_at: str,
    signer: Signer,
) -> bytes:
    """Return the signed manifest of a folder, or of a single file.

    Args:
        delivery: All files below it are signed, and no others may be delivered with them.
        provider: Who signs, for people.
        dataset: The source's name in the pipeline file.
        batch: ISO week, such as 2026-W07.
        sequence: Higher than in every earlier batch of the source.
        created_at: RFC 3339, UTC.
        signer: The provider's key.

    Raises:
        ConfigError: There is nothing to sign, or the sequence is no number above 0.
        BatchRefusedError: A file has a name, or is of a kind, that no batch may have.
    """
    if sequence < 1:
        raise ConfigError(f"Expected a sequence above 0, found {sequence}.")
    inbox = open_inbox(delivery)
    subjects = tuple((file.name, _digest(inbox.stream(file.name))) for file in inbox.files())
    if not subjects:
        raise ConfigError(f"{delivery} holds no file to sign.")
    statement = Statement(
        subjects=subjects,
        predicate_type=DATASET_BATCH,
        predicate={
            "provider": provider,
            "dataset": dataset,
            "batch": batch,
            "sequence": sequence,
            "createdAt": created_at,
        },
    )
    return sign(statement, signer)[0]


def manifest_path(delivery: Path) -> Path:
    """Where the manifest of a delivery lies: in its folder, or beside the single file."""
    if delivery.is_dir():
        return delivery / MANIFEST_NAME
    return delivery.with_name(delivery.name + MANIFEST_SUFFIX)


def write_manifest(delivery: Path, manifest: bytes) -> Path:
    """Put the manifest where it belongs, whole or not at all; return its path."""
    target = manifest_path(delivery)
    unfinished = target.with_name(f".{target.name}.unfinished")
    unfinished.write_bytes(manifest)
    return unfinished.replace(target)


def _digest(chunks: Iterable[bytes]) -> Digest:
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return Digest.from_hex(sha256.hexdigest())
