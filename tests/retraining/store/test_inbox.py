"""What providers deliver, honest and otherwise, to a folder and to S3."""

import os
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from retraining.errors import BatchRefusedError, ConfigError, StoreUnreachableError
from retraining.store import (
    MANIFEST_NAME,
    MANIFEST_SUFFIX,
    DirectoryStore,
    Inbox,
    InboxFile,
    open_inbox,
)
from retraining.store.inbox import MAX_DEPTH, MAX_FILES, MAX_MANIFEST_BYTES
from tests.fixtures.s3 import MeddlingProxy, S3Server


def demand_refusal(code: str, use: Callable[[], object], *, match: str | None = None) -> None:
    with pytest.raises(BatchRefusedError, match=match) as refusal:
        use()
    assert refusal.value.code == code
    assert "\n" not in refusal.value.sentence


@dataclass(frozen=True)
class Drop:
    """A place that a provider can write to."""

    uri: str
    deliver: Callable[[str, bytes], None]  # name below the place, content


class InboxContract:
    """Subclasses provide the fixture `drop`."""

    def test_files_are_listed_with_their_sizes(self, drop: Drop) -> None:
        drop.deliver("week/part 2.csv", b"22")
        drop.deliver("week/part 1.csv", b"1")
        drop.deliver("week/more/ünicode.parquet", b"")
        drop.deliver("week2/other.csv", b"other week")
        assert open_inbox(f"{drop.uri}/week").files() == [
            InboxFile("more/ünicode.parquet", 0),
            InboxFile("part 1.csv", 1),
            InboxFile("part 2.csv", 2),
        ]

    def test_content_comes_in_small_chunks(self, drop: Drop) -> None:
        drop.deliver("week/a/b.csv", bytes(range(256)) * 10_000)
        chunks = list(open_inbox(f"{drop.uri}/week/").stream("a/b.csv"))
        assert b"".join(chunks) == bytes(range(256)) * 10_000
        assert max(map(len, chunks)) <= 1 << 20

    def test_the_manifest_of_a_folder_is_kept_apart(self, drop: Drop) -> None:
        inbox = open_inbox(f"{drop.uri}/week")
        drop.deliver("week/a.csv", b"1")
        assert inbox.manifest() is None
        drop.deliver(f"week/{MANIFEST_NAME}", b"{}")
        drop.deliver(f"week/sub/{MANIFEST_NAME}", b"just a file")
        assert inbox.manifest() == b"{}"
        assert [file.name for file in inbox.files()] == ["a.csv", f"sub/{MANIFEST_NAME}"]

    def test_a_single_file_has_its_manifest_beside_it(self, drop: Drop) -> None:
        drop.deliver("week.parquet", b"PAR1")
        drop.deliver("week.parquet.bak", b"other")
        inbox = open_inbox(f"{drop.uri}/week.parquet")
        assert inbox.manifest() is None
        drop.deliver(f"week.parquet{MANIFEST_SUFFIX}", b"{}")
        drop.deliver(MANIFEST_NAME, b"of the folder, not of this file")

        assert inbox.files() == [InboxFile("week.parquet", 4)]
        assert inbox.manifest() == b"{}"
        assert b"".join(inbox.stream("week.parquet")) == b"PAR1"
        demand_refusal("missing", lambda: list(inbox.stream("week.parquet.bak")))

    def test_a_folder_with_a_manifest_alone_is_empty(self, drop: Drop) -> None:
        drop.deliver(f"week/{MANIFEST_NAME}", b"{}")
        assert open_inbox(f"{drop.uri}/week").files() == []

    def test_nothing_delivered_is_missing(self, drop: Drop) -> None:
        drop.deliver("week10/a.csv", b"1")
        inbox = open_inbox(f"{drop.uri}/week1")
        demand_refusal("missing", inbox.files, match=r"week1 does not exist.*ask the provider")
        demand_refusal("missing", lambda: list(inbox.stream("a.csv")))

    def test_a_file_that_is_gone_when_it_is_read_is_missing(self, drop: Drop) -> None:
        drop.deliver("week/a.csv", b"1")
        demand_refusal("missing", lambda: list(open_inbox(f"{drop.uri}/week").stream("b.csv")))

    @pytest.mark.parametrize(
        "name", ["../x", "a/../../x", "/etc/passwd", ".", "", "a//b", "a\nb", "a\\b"]
    )
    def test_a_name_that_leaves_the_folder_is_never_read(self, drop: Drop, name: str) -> None:
        drop.deliver("week/a.csv", b"1")
        drop.deliver("x", b"secret")
        inbox = open_inbox(f"{drop.uri}/week")
        demand_refusal(
            "bad_name", lambda: list(inbox.stream(name)), match="Expected printable names"
        )

    @pytest.mark.parametrize(
        "name",
        [
            "esc\x1b[2J.csv",
            "bidi\u202egnp.csv",
            "back\\slash.csv",
        ],
    )
    def test_a_name_that_could_forge_a_log_line_refuses_the_batch(
        self, drop: Drop, name: str
    ) -> None:
        drop.deliver("week/a.csv", b"1")
        drop.deliver(f"week/{name}", b"1")
        demand_refusal("bad_name", open_inbox(f"{drop.uri}/week").files, match="ask the provider")

    def test_a_file_that_grows_while_it_is_read_is_stopped_by_the_limit(
        self, drop: Drop, tmp_path: Path
    ) -> None:
        drop.deliver("week/a.csv", b"small")
        inbox, store = open_inbox(f"{drop.uri}/week"), DirectoryStore(tmp_path / "store")
        (listed,) = inbox.files()
        drop.deliver("week/a.csv", bytes(5_000_000))
        demand_refusal(
            "too_large",
            lambda: store.put_stream(inbox.stream(listed.name), max_bytes=listed.size),
        )
        assert [path for path in store.root.rglob("*") if path.is_file()] == []

    def test_a_huge_manifest_is_refused(self, drop: Drop) -> None:
        drop.deliver(f"week/{MANIFEST_NAME}", bytes(MAX_MANIFEST_BYTES))
        assert open_inbox(f"{drop.uri}/week").manifest() == bytes(MAX_MANIFEST_BYTES)
        drop.deliver(f"week/{MANIFEST_NAME}", bytes(MAX_MANIFEST_BYTES + 1))
        demand_refusal("manifest_too_large", open_inbox(f"{drop.uri}/week").manifest)

    def test_more_than_a_thousand_files_are_listed(self, drop: Drop) -> None:
        with ThreadPoolExecutor(8) as pool:  # an S3 listing has pages of 1000
            list(pool.map(lambda number: drop.deliver(f"week/{number:04}.csv", b""), range(1003)))
        names = [file.name for file in open_inbox(f"{drop.uri}/week").files()]
        assert names == [f"{number:04}.csv" for number in range(1003)]


class TestFolder(InboxContract):
    @pytest.fixture
    def drop(self, tmp_path: Path) -> Drop:
        def deliver(name: str, data: bytes) -> None:
            path = tmp_path / "drop" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        return Drop(str(tmp_path / "drop"), deliver)


@pytest.mark.s3
class TestS3(InboxContract):
    @pytest.fixture
    def drop(self, s3_server: S3Server) -> Drop:
        bucket, client = s3_server.new_bucket(), s3_server.client()

        def deliver(name: str, data: bytes) -> None:
            client.put_object(Bucket=bucket, Key=f"drop/{name}", Body=data)

        return Drop(f"s3://{bucket}/drop", deliver)


# ---------------------------------------- links and special files


@pytest.fixture
def week(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "promoter.pem").write_bytes(b"secret")
    (tmp_path / "drop" / "week").mkdir(parents=True)
    (tmp_path / "drop" / "week" / "a.csv").write_bytes(b"1")
    return tmp_path / "drop" / "week"


@pytest.mark.parametrize(
    "target", ["../../keys/promoter.pem", "../../keys", "/etc/passwd", "nowhere", "a.csv", "loop"]
)
def test_a_symbolic_link_refuses_the_batch(week: Path, target: str) -> None:
    (week / "loop").symlink_to(target)
    inbox = open_inbox(week)
    demand_refusal("symlink", inbox.files, match="loop is a symbolic link")
    demand_refusal("symlink", lambda: list(inbox.stream("loop")))
    if target.endswith("keys"):
        demand_refusal("symlink", lambda: list(inbox.stream("loop/promoter.pem")))


def test_the_week_itself_must_not_be_a_link(week: Path) -> None:
    (week.parent / "next").symlink_to("../keys")
    (week.parent / "next.csv").symlink_to("../keys/promoter.pem")
    for inbox in (open_inbox(week.parent / "next"), open_inbox(week.parent / "next.csv")):
        demand_refusal("symlink", inbox.files)
        demand_refusal("symlink", inbox.manifest)
        demand_refusal("symlink", lambda inbox=inbox: list(inbox.stream("promoter.pem")))


def test_the_manifest_must_not_be_a_link(week: Path) -> None:
    (week / MANIFEST_NAME).symlink_to("../../keys/promoter.pem")
    demand_refusal("symlink", open_inbox(week).manifest)
    demand_refusal("symlink", open_inbox(week).files)


def test_links_are_followed_only_down_to_the_trusted_parent(week: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").symlink_to("drop")  # by the administrator
    assert open_inbox(tmp_path / "mounted" / "week").files() == [InboxFile("a.csv", 1)]

    (week.parent / "next").symlink_to("../keys")  # by the provider
    path = week.parent / "next" / "promoter.pem"  # for sources at drop/{week}/promoter.pem
    assert open_inbox(path).files() == [InboxFile("promoter.pem", 6)]
    inbox = open_inbox(path, trusted_parent=tmp_path / "mounted" / ".." / "drop")
    demand_refusal("symlink", inbox.files)
    demand_refusal("symlink", lambda: list(inbox.stream("promoter.pem")))


def test_a_folder_swapped_for_a_link_after_the_listing_is_not_followed(
    week: Path, tmp_path: Path
) -> None:
    (week / "sub").mkdir()
    (week / "sub" / "promoter.pem").write_bytes(b"rows")
    inbox = open_inbox(week)
    assert [file.name for file in inbox.files()] == ["a.csv", "sub/promoter.pem"]
    (week / "sub").rename(tmp_path / "away")
    (week / "sub").symlink_to(tmp_path / "keys")
    demand_refusal("symlink", lambda: list(inbox.stream("sub/promoter.pem")))


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_special_file_refuses_the_batch_without_waiting(
    week: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "fifo":
        os.mkfifo(week / "odd")
    else:
        monkeypatch.chdir(week)  # the path of a socket is at most 107 bytes long
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("odd")
        listener.close()
    for inbox, name in ((open_inbox(week), "odd"), (open_inbox(week / "odd"), "odd")):
        demand_refusal("special_file", inbox.files, match="not a plain file")
        demand_refusal("special_file", lambda inbox=inbox, name=name: list(inbox.stream(name)))


def test_a_folder_is_not_read_as_a_file(week: Path) -> None:
    (week / "sub").mkdir()
    demand_refusal("special_file", lambda: list(open_inbox(week).stream("sub")))
    demand_refusal("missing", lambda: list(open_inbox(week).stream("a.csv/b")))


@pytest.mark.parametrize("name", [b"not utf-8 \xff.csv", b"ok\n2026-01-01 INFO promoted.csv"])
def test_a_name_that_cannot_be_printed_refuses_the_batch(week: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(week) + b"/" + name)).write_bytes(b"")
    demand_refusal("bad_name", open_inbox(week).files)


def test_a_file_that_we_may_not_read_is_the_provider_s_fault(ordinary_user: Path) -> None:
    # Otherwise one vendor's chmod could stop the week for everyone.
    week = ordinary_user / "week"
    (week / "sub").mkdir(parents=True)
    (week / "a.csv").write_bytes(b"1")
    (week / "a.csv").chmod(0)
    inbox = open_inbox(week)
    assert inbox.files() == [InboxFile("a.csv", 1)]
    demand_refusal("unreadable", lambda: list(inbox.stream("a.csv")), match="permission denied")
    (week / "sub").chmod(0)
    demand_refusal("unreadable", inbox.files, match="sub cannot be read: permission denied")


def test_a_flood_of_files_and_folders_ends(week: Path) -> None:
    for number in range(MAX_FILES - 1):
        (week / f"{number}").mkdir()
    assert open_inbox(week).files() == [InboxFile("a.csv", 1)]
    (week / "one more").mkdir()
    demand_refusal("too_many_files", open_inbox(week).files, match="more than 10000 files")


def test_folders_in_folders_end(week: Path) -> None:
    deep = week.joinpath(*["d"] * MAX_DEPTH)
    deep.mkdir(parents=True)
    assert open_inbox(week).files() == [InboxFile("a.csv", 1)]
    (deep / "b.csv").write_bytes(b"")
    demand_refusal("too_many_files", open_inbox(week).files, match="more than 16 deep")


# ---------------------------------------- only on S3


@pytest.mark.s3
@pytest.mark.parametrize("key", ["week/../x", "week//x", "week/./x", "week//", "week/sub/../../x"])
def test_a_key_with_dots_refuses_the_batch(
    s3_server: S3Server, meddling_proxy: MeddlingProxy, key: str
) -> None:
    bucket = s3_server.new_bucket()
    s3_server.client().put_object(Bucket=bucket, Key=key, Body=b"1")
    demand_refusal("bad_name", open_inbox(f"s3://{bucket}/week").files, match=re.escape("ask the"))


@pytest.mark.s3
def test_a_console_s_folder_markers_are_no_files(s3_server: S3Server) -> None:
    bucket, client = s3_server.new_bucket(), s3_server.client()
    for key in ("week/", "week/sub/"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert open_inbox(f"s3://{bucket}/week").files() == []
    client.put_object(Bucket=bucket, Key="week/a.csv", Body=b"1")
    assert open_inbox(f"s3://{bucket}/week").files() == [InboxFile("a.csv", 1)]
    assert open_inbox(f"s3://{bucket}").files() == [InboxFile("week/a.csv", 1)]


@pytest.mark.s3
def test_a_flood_of_objects_ends(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retraining.store.s3_inbox.MAX_FILES", 7)
    bucket, client = s3_server.new_bucket(), s3_server.client()
    for number in range(7):
        client.put_object(Bucket=bucket, Key=f"week/{number}", Body=b"")
    assert len(open_inbox(f"s3://{bucket}/week").files()) == 7
    client.put_object(Bucket=bucket, Key="week/one more", Body=b"")
    demand_refusal("too_many_files", open_inbox(f"s3://{bucket}/week").files)


@pytest.mark.s3
def test_a_missing_bucket_is_a_missing_delivery(s3_server: S3Server) -> None:
    inbox = open_inbox("s3://no-such-bucket/week")
    demand_refusal("missing", inbox.files)
    demand_refusal("missing", inbox.manifest)


@pytest.mark.s3
def test_an_object_that_its_owner_keeps_closed_is_the_provider_s_fault(
    s3_server: S3Server, meddling_proxy: MeddlingProxy
) -> None:
    bucket = s3_server.new_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="week/a.csv", Body=b"1")
    inbox = open_inbox(f"s3://{bucket}/week")
    chunks = inbox.stream("a.csv")
    meddling_proxy.always_answers = 403
    demand_refusal("unreadable", lambda: list(chunks), match="a.csv cannot be read: 403")
    with pytest.raises(ConfigError, match="ListObjectsV2 with"):
        inbox.files()


@pytest.mark.s3
def test_a_server_that_is_away_is_not_the_provider_s_fault(
    s3_server: S3Server, meddling_proxy: MeddlingProxy
) -> None:
    bucket = s3_server.new_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="week/a.csv", Body=bytes(100))
    inbox: Inbox = open_inbox(f"s3://{bucket}/week")
    chunks = inbox.stream("a.csv")
    meddling_proxy.halves_bodies = True
    with pytest.raises(StoreUnreachableError, match="does not answer"):
        list(chunks)
    meddling_proxy.halves_bodies = False
    meddling_proxy.always_answers = 500
    with pytest.raises(StoreUnreachableError, match="answered ListObjectsV2 with 500"):
        inbox.files()
