"""The stores that the contract runs against."""

from pathlib import Path

from retraining.store import DirectoryStore, S3ClientFactory, open_store
from tests.fixtures.s3 import S3Server
from tests.retraining.store.contract import Backend


def directory_backend(root: Path) -> Backend:
    """Return a store in the folder `root`."""

    def overwrite(name: str, data: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    def listing() -> list[str]:
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir())

    return Backend(lambda: DirectoryStore(root), overwrite, listing)


def s3_backend(
    server: S3Server, bucket: str, *, client_factory: S3ClientFactory | None = None
) -> Backend:
    """Return a store below a prefix of `bucket`, found through the usual AWS chain."""
    client = server.client()

    def overwrite(name: str, data: bytes) -> None:
        client.put_object(Bucket=bucket, Key=f"team/store/{name}", Body=data)

    def listing() -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [
            item["Key"].removeprefix("team/store/")
            for page in pages
            for item in page.get("Contents", [])
        ]

    return Backend(
        lambda: open_store(f"s3://{bucket}/team/store", client_factory=client_factory),
        overwrite,
        listing,
    )
