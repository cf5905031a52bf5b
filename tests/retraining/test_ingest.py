"""Ingest keeps bytes as they came, within limits; test_bad_input.py has what it refuses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retraining.digests import Digest
from retraining.errors import BatchRefusedError, StoreUnreachableError
from retraining.ingest import ingest
from retraining.records import StoredFile
from retraining.spec import SourceSpec
from retraining.store import DirectoryStore, InboxFile, open_inbox
from tests.retraining.deliveries import WEEK, a_spec

Source = Callable[..., SourceSpec]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def _source(**changes: object) -> SourceSpec:
    return a_spec(source=changes).source("shop")


def _blobs(store: DirectoryStore) -> list[Path]:
    return [path for path in (store.root / "blobs").rglob("*") if path.is_file()]


def test_files_in_folders_are_kept_as_they_came_and_the_manifest_apart(tmp_path, store):
    folder = tmp_path / "inbox"
    (folder / "part").mkdir(parents=True)
    contents = {"b.parquet": b"bytes of b", "part/A.PARQUET": b"\0\xff", "z.parquet": b"z" * 9}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "batch.dsse.json").write_bytes(b"{}")

    report = ingest(_source(), WEEK, inbox=open_inbox(folder), store=store)

    assert report.refusal is None
    assert report.files == tuple(
        StoredFile(name=name, digest=Digest.of(content), n_bytes=len(content))
        for name, content in sorted(contents.items())
    )
    assert {store.get(file.digest) for file in report.files} == set(contents.values())
    assert report.manifest == Digest.of(b"{}")
    assert store.get(report.manifest) == b"{}"


def test_a_single_file_has_its_manifest_beside_it(tmp_path, store):
    file = tmp_path / "2026-W07.csv"
    file.write_bytes(b"a,b\n")
    (tmp_path / "2026-W07.csv.dsse.json").write_bytes(b"[]")
    source = _source(format={"csv": {}})

    report = ingest(source, WEEK, inbox=open_inbox(file), store=store)

    assert [f.name for f in report.files] == ["2026-W07.csv"]
    assert report.manifest == Digest.of(b"[]")


def test_a_batch_without_manifest_is_still_kept(tmp_path, store):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")

    report = ingest(_source(), WEEK, inbox=open_inbox(tmp_path / "rows.parquet"), store=store)

    assert (report.refusal, report.manifest) == (None, None)


def test_the_same_delivery_gives_the_same_report(tmp_path, store):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    inbox = open_inbox(tmp_path / "rows.parquet")

    first, second = (ingest(_source(), WEEK, inbox=inbox, store=store) for _ in range(2))

    assert first.to_json() == second.to_json()


def test_the_limit_is_on_all_files_together_and_exact(tmp_path, store):
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.parquet").write_bytes(b"a" * 60)
    (folder / "b.parquet").write_bytes(b"b" * 40)
    inbox = open_inbox(folder)

    assert ingest(_source(max_bytes=100), WEEK, inbox=inbox, store=store).refusal is None
    refused = ingest(_source(max_bytes=99), WEEK, inbox=inbox, store=store)

    assert refused.refusal is not None
    assert refused.refusal.code == "too_large"
    assert "100 bytes together; expected at most 99" in refused.refusal.sentence
    assert refused.files == ()


def test_what_is_too_large_by_its_listing_is_never_read(tmp_path, store):
    class Unread(_Listed):
        def stream(self, name: str) -> Iterator[bytes]:
            raise AssertionError("read")

    inbox = Unread([InboxFile("a.parquet", 101)])

    report = ingest(_source(max_bytes=100), WEEK, inbox=inbox, store=store)

    assert report.refusal is not None
    assert report.refusal.code == "too_large"


def test_files_that_grow_while_they_are_read_are_stopped_at_the_limit(store):
    """The second file too: what the first one took is no longer there for it."""
    inbox = _Listed([InboxFile("a.parquet", 1), InboxFile("b.parquet", 1)], content=b"x" * 60)

    report = ingest(_source(max_bytes=100), WEEK, inbox=inbox, store=store)

    assert report.refusal is not None
    assert report.refusal.code == "too_large"
    assert "'b.parquet' grew while it was read" in report.refusal.sentence
    assert [path.read_bytes() for path in _blobs(store)] == [b"x" * 60]


def test_a_file_that_vanishes_while_it_is_read_is_a_refusal(store):
    class Vanishing(_Listed):
        def stream(self, name: str) -> Iterator[bytes]:
            yield b"x"
            raise BatchRefusedError("missing", "b.parquet does not exist.")

    report = ingest(_source(), WEEK, inbox=Vanishing([InboxFile("b.parquet", 9)]), store=store)

    assert report.refusal is not None
    assert report.refusal.code == "missing"
    assert _blobs(store) == []


def test_an_inbox_that_does_not_answer_is_no_refusal(store):
    class Away(_Listed):
        def stream(self, name: str) -> Iterator[bytes]:
            raise StoreUnreachableError("s3://inbox did not answer.")

    with pytest.raises(StoreUnreachableError):
        ingest(_source(), WEEK, inbox=Away([InboxFile("b.parquet", 9)]), store=store)


class _Listed:
    """An inbox that lists what it is told to, and delivers the same content for every file."""

    uri = "inbox"

    def __init__(self, listed: list[InboxFile], content: bytes = b"") -> None:
        self._listed = listed
        self._content = content

    def files(self) -> list[InboxFile]:
        return self._listed

    def stream(self, name: str) -> Iterator[bytes]:
        yield self._content

    def manifest(self) -> bytes | None:
        return None
