"""What every store promises. Subclasses say which store: a directory, moto, Ceph's radosgw."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from retraining.digests import Digest
from retraining.errors import (
    ArtifactMissingError,
    ArtifactTamperedError,
    BatchRefusedError,
    ConfigError,
    EvidenceError,
    NameTakenError,
    RetrainingError,
)
from retraining.store import Store
from retraining.store.base import blob_name

HONEST = b"amount,label\n12.50,0\n"
FORGED = b"amount,label\n12.50,1\n"
MIB = 1 << 20
BAD_NAMES = [
    "",
    "/etc/passwd",
    "../registry/m/1",
    "registry/../../m",
    "registry/./m",
    "registry//m",
    "registry/m/",
    "registry/.hidden",
    "registry/a b",
    "registry/a\nb",
    "registry/a\\b",
    "registry/ä",
    "registry/" + "a" * 201,
    "blobs/sha256/00/0",
]

# Streams a large blob in and out, and prints by how many bytes the peak of this process grew.
_STREAM = """
import pathlib, re, sys
from retraining.store import open_store
MIB = 1 << 20

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])

store, folder = open_store(sys.argv[1]), pathlib.Path(sys.argv[2])
size = int(sys.argv[3])
store.fetch(store.put(b"warm up: imports, connections, threads"), folder / "small")
store.put_stream((bytes([i]) * MIB for i in range(24)), max_bytes=size)
before = peak()
chunks = ((b"%08d" % i) * (MIB // 8) for i in range(size // MIB))
digest, _ = store.put_stream(chunks, max_bytes=size)
store.fetch(digest, folder / "large")
again = store.put_file(folder / "large")
assert again == digest and (folder / "large").stat().st_size == size
print(peak() - before)
"""


@dataclass(frozen=True)
class Backend:
    """One empty store, with what somebody with direct access to its storage can do."""

    open: Callable[[], Store]
    overwrite: Callable[[str, bytes], None]  # the file or object of this name, behind our back
    listing: Callable[[], list[str]]  # every file or object below the store, hidden ones too


class StoreContract:
    """Subclasses provide the fixture `backend`."""

    @pytest.fixture
    def store(self, backend: Backend) -> Store:
        return backend.open()

    # ---------------------------------------- blobs

    @pytest.mark.parametrize("data", [HONEST, b"", bytes(3 * MIB)], ids=["text", "empty", "3 MiB"])
    def test_what_was_put_comes_back_by_its_digest(
        self, backend: Backend, store: Store, tmp_path: Path, data: bytes
    ) -> None:
        digest = store.put(data)
        store.fetch(digest, tmp_path / "copy")

        assert digest == Digest.of(data)
        assert backend.open().get(digest) == data
        assert (tmp_path / "copy").read_bytes() == data

    def test_all_ways_in_give_the_same_digest(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(HONEST)

        assert store.put_file(tmp_path / "file") == Digest.of(HONEST)
        assert store.put_stream((HONEST[:5], b"", HONEST[5:]), max_bytes=len(HONEST)) == (
            Digest.of(HONEST),
            len(HONEST),
        )
        assert store.put(HONEST) == Digest.of(HONEST)

    def test_a_blob_exists_once_it_was_put(self, store: Store) -> None:
        assert not store.exists(Digest.of(HONEST))
        store.put(HONEST)
        assert store.exists(Digest.of(HONEST))
        assert not store.exists(Digest.of(FORGED))

    def test_a_missing_blob_is_named(self, store: Store, tmp_path: Path) -> None:
        missing = Digest.of(HONEST)
        with pytest.raises(ArtifactMissingError, match=missing):
            store.get(missing)
        with pytest.raises(ArtifactMissingError, match=missing):
            store.fetch(missing, tmp_path / "copy")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("forged", [FORGED, HONEST[:-1], HONEST + b"x", b""])
    def test_a_blob_that_was_changed_in_the_store_is_refused(
        self, backend: Backend, store: Store, tmp_path: Path, forged: bytes
    ) -> None:
        digest = store.put(HONEST)
        backend.overwrite(blob_name(digest), forged)

        with pytest.raises(ArtifactTamperedError, match=rf"{digest}.*{Digest.of(forged)}"):
            store.get(digest)
        with pytest.raises(ArtifactTamperedError, match=rf"{digest}.*{Digest.of(forged)}"):
            store.fetch(digest, tmp_path / "copy")
        assert list(tmp_path.iterdir()) == []

    def test_a_tampered_blob_does_not_replace_a_file_that_is_there(
        self, backend: Backend, store: Store, tmp_path: Path
    ) -> None:
        digest = store.put(HONEST)
        backend.overwrite(blob_name(digest), FORGED)
        (tmp_path / "copy").write_bytes(b"from last time")

        with pytest.raises(ArtifactTamperedError):
            store.fetch(digest, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"from last time"

    def test_a_blob_too_large_for_memory_is_not_called_tampered(
        self, backend: Backend, store: Store
    ) -> None:
        digest = store.put(bytes(2000))
        with pytest.raises(RetrainingError, match=r"2000 bytes.*at most 1999") as refusal:
            store.get(digest, max_bytes=1999)
        assert type(refusal.value) is RetrainingError
        assert store.get(digest, max_bytes=2000) == bytes(2000)

        backend.overwrite(blob_name(digest), bytes(2001))
        with pytest.raises(ArtifactTamperedError):
            store.get(digest, max_bytes=1999)

    def test_a_stream_past_its_limit_is_refused_and_leaves_nothing(
        self, backend: Backend, store: Store
    ) -> None:
        before = backend.listing()
        n_taken = 0

        def endless() -> Iterator[bytes]:
            nonlocal n_taken
            while True:
                n_taken += 1
                yield bytes(1000)

        with pytest.raises(BatchRefusedError, match="More than 2999 bytes") as refusal:
            store.put_stream(endless(), max_bytes=2999)
        assert refusal.value.code == "too_large"
        assert n_taken == 3
        assert backend.listing() == before
        assert store.put_stream([bytes(2999)], max_bytes=2999)[1] == 2999

    def test_a_source_that_breaks_off_leaves_nothing(self, backend: Backend, store: Store) -> None:
        before = backend.listing()

        def broken() -> Iterator[bytes]:
            yield bytes(3 * MIB)
            raise EvidenceError("the other side went away")

        with pytest.raises(EvidenceError, match="went away"):
            store.put_stream(broken(), max_bytes=9 * MIB)
        assert backend.listing() == before

    def test_a_large_blob_passes_through_little_memory(self, store: Store, tmp_path: Path) -> None:
        child = subprocess.run(
            [sys.executable, "-c", _STREAM, store.uri, str(tmp_path), str(96 * MIB)],
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        assert int(child.stdout) < 16 * MIB

    # ---------------------------------------- records

    def test_a_record_is_written_once(self, backend: Backend, store: Store) -> None:
        store.create("registry/m/0000000001.dsse.json", b"first")
        for again in (b"second", b"first"):
            with pytest.raises(NameTakenError, match=r"registry/m/0000000001\.dsse\.json"):
                backend.open().create("registry/m/0000000001.dsse.json", again)
        assert store.read("registry/m/0000000001.dsse.json") == b"first"

    def test_of_eight_writers_exactly_one_wins(self, backend: Backend) -> None:
        stores = [backend.open() for _ in range(8)]
        for round_ in range(5):
            name, start = f"registry/m/{round_:010}", threading.Barrier(8)

            def attempt(writer: int, name: str = name, start: threading.Barrier = start) -> bool:
                start.wait()
                try:
                    stores[writer].create(name, b"%d" % writer * 1000)
                except NameTakenError:
                    return False
                return True

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(attempt, range(8)))
            assert sum(won) == 1
            assert stores[0].read(name) == b"%d" % won.index(True) * 1000

    def test_a_missing_record_is_named(self, store: Store) -> None:
        with pytest.raises(ArtifactMissingError, match="registry/m/0000000001"):
            store.read("registry/m/0000000001")

    def test_what_is_too_large_is_no_record(self, backend: Backend, store: Store) -> None:
        store.create("registry/m/1", bytes(100))
        backend.overwrite("registry/m/2", bytes(5 * MIB))

        assert store.read("registry/m/1", max_bytes=100) == bytes(100)
        with pytest.raises(EvidenceError, match="more than 99 bytes"):
            store.read("registry/m/1", max_bytes=99)
        with pytest.raises(EvidenceError, match=r"registry/m/2 has more than 4194304 bytes"):
            store.read("registry/m/2")

    def test_names_are_complete_and_sorted(self, store: Store) -> None:
        # More than one page of an S3 listing, which holds 1000 keys.
        expected = [f"ledger/m/{number:010}.json" for number in range(1003)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: store.create(name, b"{}"), reversed(expected)))
        assert store.names("ledger/m") == expected
        assert store.names("ledger/m/") == expected

    def test_names_are_those_of_a_folder_and_not_of_a_prefix(
        self, backend: Backend, store: Store
    ) -> None:
        store.put(HONEST)
        for name in (
            "registry/spam/2",
            "registry/spam/1",
            "registry/spam/a/3",
            "registry/spam_x/1",
        ):
            store.create(name, b"{}")
        assert store.names("registry/spam") == [
            "registry/spam/1",
            "registry/spam/2",
            "registry/spam/a/3",
        ]
        assert len(store.names("registry")) == 4
        assert store.names("nothing/here") == []

    def test_a_name_that_somebody_else_put_there_is_listed(
        self, backend: Backend, store: Store
    ) -> None:
        store.create("registry/m/0000000001", b"{}")
        backend.overwrite("registry/m/0000000002 (copy)", b"garbage")
        backend.overwrite("registry/m/.hidden", b"garbage")
        assert store.names("registry/m") == [
            "registry/m/.hidden",
            "registry/m/0000000001",
            "registry/m/0000000002 (copy)",
        ]

    def test_a_name_outside_the_rules_is_refused(self, backend: Backend, store: Store) -> None:
        before = backend.listing()
        for name in BAD_NAMES:
            with pytest.raises(ConfigError, match="cannot be named"):
                store.create(name, b"{}")
            with pytest.raises(ConfigError, match="cannot be named"):
                store.read(name)
        assert backend.listing() == before

    def test_the_self_test_passes_and_leaves_one_probe(
        self, backend: Backend, store: Store
    ) -> None:
        store.self_test()
        store.self_test()
        assert len(backend.listing()) == 2
        assert store.names("selftest") == sorted(backend.listing())
