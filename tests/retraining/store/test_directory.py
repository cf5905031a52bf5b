"""What is particular to a store in a directory: modes, disks, links, processes that die."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retraining.digests import Digest
from retraining.errors import (
    ArtifactMissingError,
    ConfigError,
    NameTakenError,
    StoreUnreachableError,
)
from retraining.store import DirectoryStore, open_store

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def everything_below(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


def modes(folder: Path, *, of_folders: bool) -> set[int]:
    paths = [path for path in everything_below(folder) if path.is_dir() == of_folders]
    return {stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_what_we_create_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = DirectoryStore(tmp_path / "store")
        store.put(b"rows")
        store.create("registry/m/1", b"{}")
    finally:
        os.umask(old)
    assert modes(store.root, of_folders=True) == {0o700}
    assert modes(store.root, of_folders=False) == {0o600}


def test_a_folder_shared_with_a_group_stays_shared_and_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o2777)
    old = os.umask(0o077)
    try:
        store = DirectoryStore(tmp_path / "store")
        store.put(b"rows")
        store.create("registry/m/1", b"{}")
    finally:
        os.umask(old)
    inside = {mode for sub in store.root.iterdir() for mode in modes(sub, of_folders=True)}
    assert inside == {0o2770}
    assert modes(store.root, of_folders=False) == {0o640}


def test_a_reader_does_not_take_a_mistyped_path_for_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError, match=r"There is no store at .*/stroe"):
        open_store(tmp_path / "stroe", must_exist=True)
    assert not (tmp_path / "stroe").exists()


def test_a_store_that_was_unmounted_is_unreachable_and_not_empty(
    store: DirectoryStore, tmp_path: Path
) -> None:
    digest = store.put(b"rows")
    store.root.rename(tmp_path / "elsewhere")

    for use in (
        lambda: store.get(digest),
        lambda: store.exists(digest),
        lambda: store.put(b"more"),
        lambda: store.names("registry"),
        lambda: store.read("registry/m/1"),
        lambda: store.create("registry/m/1", b"{}"),
        lambda: store.fetch(digest, tmp_path / "copy"),
        lambda: store.self_test(),
    ):
        with pytest.raises(StoreUnreachableError, match="There is no store at"):
            use()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere"]


def test_a_file_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"Expected a folder|was replaced"):
        DirectoryStore(tmp_path / "store")
    with pytest.raises(ConfigError, match="Expected a folder"):
        DirectoryStore(tmp_path / "store", must_exist=True)


def test_missing_permission_is_said_and_not_retried(ordinary_user: Path) -> None:
    store = DirectoryStore(ordinary_user / "store")
    digest = store.put(b"rows")
    store.create("registry/m/1", b"{}")
    store.path_of(digest).chmod(0)
    (store.root / "registry" / "m").chmod(0o500)

    with pytest.raises(ConfigError, match=r"Permission denied.*chmod 2770"):
        store.get(digest)
    with pytest.raises(ConfigError, match=r"Permission denied.*chmod 2770"):
        store.create("registry/m/2", b"{}")
    assert store.names("registry") == ["registry/m/1"]
    (store.root / "registry" / "m").chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):  # and not: there are none
        store.names("registry")
    (store.root / "registry" / "m").chmod(0o700)


def test_a_full_disk_is_retryable_and_leaves_nothing(store: DirectoryStore) -> None:
    store.put(b"rows")
    store.create("registry/m/1", b"{}")
    before = everything_below(store.root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))  # write() fails past it
    try:
        with pytest.raises(StoreUnreachableError, match=r"File too large.*not full"):
            store.put_stream((bytes(MIB) for _ in range(4)), max_bytes=9 * MIB)
        with pytest.raises(StoreUnreachableError, match="File too large"):
            store.create("registry/m/2", bytes(3 * MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert everything_below(store.root) == before
    store.create("registry/m/2", b"second run")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_something_else_in_the_place_of_a_file_is_refused_at_once(
    store: DirectoryStore, tmp_path: Path, kind: str
) -> None:
    digest = store.put(b"rows")
    store.create("registry/m/1", b"{}")
    (tmp_path / "secret").write_bytes(b"rows")
    for path in (store.path_of(digest), store.path_of_record("registry/m/1")):
        path.unlink()
        if kind == "link":
            path.symlink_to(tmp_path / "secret")
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
    with pytest.raises(ConfigError):
        store.get(digest)
    with pytest.raises(ConfigError):
        store.read("registry/m/1")


def test_a_file_in_the_place_of_a_folder_is_refused(store: DirectoryStore) -> None:
    store.create("registry", b"{}")
    with pytest.raises(ConfigError, match="replaced by something else"):
        store.create("registry/m/1", b"{}")
    with pytest.raises(ArtifactMissingError):
        store.read("registry/m/1")


def test_of_eight_processes_exactly_one_creates_a_record(store: DirectoryStore) -> None:
    code = """
import pathlib, sys, time
from retraining.errors import NameTakenError
from retraining.store import DirectoryStore
store = DirectoryStore(pathlib.Path(sys.argv[1]))
go, writer = pathlib.Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
while not go.exists(): pass
won = 0
for number in range(50):
    try:
        store.create(f"registry/m/{number}", writer.encode() * 100_000)
        won += 1
    except NameTakenError:
        pass
print(won)
"""
    go = store.root.parent / "go"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(store.root), str(go), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    go.touch()
    # Meanwhile a reader never sees a part of a record.
    sizes = set()
    while any(writer.poll() is None for writer in writers):
        for name in store.names("registry/m"):
            data = store.read(name)
            sizes.add((len(data), len(set(data))))
    assert sizes <= {(100_000, 1)}
    wins = [int(writer.communicate()[0]) for writer in writers]
    assert sum(wins) == 50
    assert sorted(wins)[-1] < 50, "the race never happened"
    assert len(store.names("registry/m")) == 50


def test_a_writer_that_is_killed_leaves_nothing_that_a_reader_sees(store: DirectoryStore) -> None:
    code = """
import pathlib, sys, time
from retraining.store import DirectoryStore
def chunks():
    yield bytes(2_000_000)
    print("half way", flush=True)
    time.sleep(60)
DirectoryStore(pathlib.Path(sys.argv[1])).put_stream(chunks(), max_bytes=9_000_000)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "half way\n"
    child.send_signal(signal.SIGKILL)
    child.wait()

    left = [path for path in everything_below(store.root) if path.is_file()]
    assert all(path.name.startswith(".incoming-") for path in left)
    assert not store.exists(Digest.of(bytes(2_000_000)))
    assert store.get(store.put(bytes(2_000_000))) == bytes(2_000_000)


def test_a_temporary_file_of_another_writer_is_no_record(store: DirectoryStore) -> None:
    store.create("registry/m/1", b"{}")
    (store.root / "registry/m/.incoming-abc").write_bytes(b"ha")
    assert store.names("registry/m") == ["registry/m/1"]


def test_a_name_that_is_not_utf8_is_listed_in_printable_form(store: DirectoryStore) -> None:
    store.create("registry/m/1", b"{}")
    Path(os.fsdecode(os.fsencode(store.root) + b"/registry/m/\xff")).write_bytes(b"")
    assert store.names("registry/m") == ["registry/m/1", "registry/m/\\xff"]


def test_a_file_system_without_hard_links_fails_the_self_test(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link_on_fat(_source: str, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link_on_fat)
    with pytest.raises(ConfigError, match=r"no hard links.*ext4, xfs or NFS"):
        store.self_test()
    assert [path for path in everything_below(store.root) if path.is_file()] == []


def test_a_file_system_that_overwrites_fails_the_self_test(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", os.replace)
    with pytest.raises(ConfigError, match="written twice under one name"):
        store.self_test()


def test_a_file_system_that_overwrites_and_denies_it_fails_the_self_test(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link_that_lies(source: str, target: Path) -> None:
        taken = target.exists()
        target.write_bytes(Path(source).read_bytes())
        if taken:
            raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link_that_lies)
    with pytest.raises(ConfigError, match="written twice under one name"):
        store.self_test()


def test_a_link_whose_answer_nfs_lost_still_won(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_over_nfs(source: str, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link_over_nfs)
    store.create("registry/m/1", b"{}")
    monkeypatch.undo()
    assert store.read("registry/m/1") == b"{}"
    with pytest.raises(NameTakenError):
        store.create("registry/m/1", b"{}")


def test_a_blob_that_is_there_is_not_written_again(store: DirectoryStore) -> None:
    digest = store.put(b"rows")
    before = store.path_of(digest).stat()
    time.sleep(0.01)
    store.put(b"rows")
    store.put_stream([b"rows"], max_bytes=4)
    after = store.path_of(digest).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
