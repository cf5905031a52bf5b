"""What is particular to a store on S3: servers that are away, busy, forgetful or careless."""

import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from retraining.digests import Digest
from retraining.errors import (
    ArtifactMissingError,
    ConfigError,
    NameTakenError,
    StoreUnreachableError,
)
from retraining.store import Store, open_inbox, open_store
from tests.fixtures.ports import free_port
from tests.fixtures.s3 import MeddlingProxy, S3Server, running_moto

pytestmark = pytest.mark.s3

DIGEST = Digest.of(b"rows")


def every_use(store: Store, folder: Path) -> list[Callable[[], object]]:
    (folder / "file").write_bytes(b"rows")
    return [
        lambda: store.put(b"rows"),
        lambda: store.put_file(folder / "file"),
        lambda: store.put_stream([b"rows"], max_bytes=10),
        lambda: store.get(DIGEST),
        lambda: store.fetch(DIGEST, folder / "copy"),
        lambda: store.exists(DIGEST),
        lambda: store.create("registry/m/1", b"{}"),
        lambda: store.read("registry/m/1"),
        lambda: store.names("registry"),
        lambda: store.self_test(),
    ]


def demand_clean_message(error: BaseException, server: S3Server) -> None:
    """One line that a log may show, and no exception of boto3's printed above ours."""
    assert "\n" not in str(error)
    assert server.secret_key not in str(error)
    assert server.access_key not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


# ---------------------------------------- layout


def test_blobs_and_records_lie_below_the_prefix(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    store = open_store(f"s3://{bucket}/team/store/")
    digest = store.put(b"rows")
    store.create("registry/m/1", b"{}")

    assert store.uri == f"s3://{bucket}/team/store"
    listed = s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"] for item in listed] == [
        f"team/store/blobs/sha256/{digest.hex[:2]}/{digest.hex}",
        "team/store/registry/m/1",
    ]


def test_a_store_can_fill_a_whole_bucket(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    store = open_store(f"s3://{bucket}")
    store.create("registry/m/1", b"{}")
    assert store.names("registry") == ["registry/m/1"]
    assert store.uri == f"s3://{bucket}"


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3:///store", "s3://UPPER/x", "s3://b/x", "s3://bucket/../x", "s3://bucket/a//b"],
)
def test_an_address_that_cannot_be_is_refused(s3_server: S3Server, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"expected s3://bucket|cannot be named"):
        open_store(uri)


@pytest.mark.parametrize("uri", ["gs://bucket/x", "S3://bucket/x", Path("s3://bucket/x")])
def test_an_unknown_scheme_is_refused(uri: str | Path) -> None:
    for open_ in (open_store, open_inbox):
        with pytest.raises(
            ConfigError, match=r"Found the address \w+:/.*; expected a path or s3://"
        ):
            open_(uri)


def test_a_client_of_ones_own_is_used(moto_server: S3Server, no_aws: None, tmp_path: Path) -> None:
    uri = f"s3://{moto_server.new_bucket()}/store"
    digest = open_store(uri, client_factory=moto_server.client).put(b"rows")
    assert open_store(uri, client_factory=moto_server.client).get(digest) == b"rows"
    with pytest.raises(ConfigError, match="no AWS credentials"):
        open_store(uri).get(digest)


# ---------------------------------------- write-once records


def test_moto_passes_the_self_test_with_versions_too(s3_server: S3Server) -> None:
    open_store(f"s3://{s3_server.new_bucket(versioned=True)}/store").self_test()


def test_a_server_that_ignores_the_condition_fails_the_self_test(
    s3_server: S3Server, meddling_proxy: MeddlingProxy
) -> None:
    store = open_store(f"s3://{s3_server.new_bucket()}/store")
    store.self_test()
    meddling_proxy.strips_condition = True
    with pytest.raises(
        ConfigError, match=r"written twice.*ignores If-None-Match.*without versioning"
    ):
        store.self_test()


def test_a_record_is_one_put_and_never_a_multipart_upload(
    s3_server: S3Server, meddling_proxy: MeddlingProxy
) -> None:
    # radosgw ignores the condition on multipart uploads, which begin with a POST.
    store = open_store(f"s3://{s3_server.new_bucket()}/store")
    store.create("registry/m/1", secrets.token_bytes(20 << 20))
    assert meddling_proxy.methods == ["PUT"]


def test_a_winner_whose_answer_got_lost_does_not_believe_that_it_lost(
    s3_server: S3Server, meddling_proxy: MeddlingProxy
) -> None:
    store = open_store(f"s3://{s3_server.new_bucket()}/store")
    meddling_proxy.lost_put_answers = 1
    store.create("registry/m/1", b"first")
    assert meddling_proxy.methods == ["PUT", "PUT", "HEAD"]

    meddling_proxy.lost_put_answers = 1
    with pytest.raises(NameTakenError):
        store.create("registry/m/1", b"first")
    assert store.read("registry/m/1") == b"first"


# ---------------------------------------- servers that fail


def test_nobody_listens(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://someone:s3cr3t@127.0.0.1:{port}")
    store = open_store("s3://bucket/store")
    start = time.monotonic()
    with pytest.raises(StoreUnreachableError, match=f"127.0.0.1:{port} does not answer") as refusal:
        store.get(DIGEST)
    assert time.monotonic() - start < 10
    assert "s3cr3t" not in str(refusal.value)
    demand_clean_message(refusal.value, s3_server)


def test_a_server_that_drops_packets_is_reported_within_ten_seconds(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A listener whose queue is full ignores further connections, as a firewall does.
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listener.getsockname()[1]}")
        store = open_store("s3://bucket/store")
        start = time.monotonic()
        with pytest.raises(StoreUnreachableError, match=r"does not answer \(ConnectTimeoutError\)"):
            store.get(DIGEST)
        assert 2 < time.monotonic() - start < 10


def test_a_busy_server_is_retryable(
    s3_server: S3Server, meddling_proxy: MeddlingProxy, tmp_path: Path
) -> None:
    store = open_store(f"s3://{s3_server.new_bucket()}/store")
    meddling_proxy.always_answers = 503
    with pytest.raises(StoreUnreachableError, match=r"answered GetObject with 503.*Try again"):
        store.fetch(DIGEST, tmp_path / "copy")
    meddling_proxy.always_answers = None
    store.put(b"rows")
    store.fetch(DIGEST, tmp_path / "copy")


def test_a_body_that_breaks_off_is_retryable_and_not_called_tampered(
    s3_server: S3Server, meddling_proxy: MeddlingProxy, tmp_path: Path
) -> None:
    store = open_store(f"s3://{s3_server.new_bucket()}/store")
    digest = store.put(bytes(3_000_000))
    store.create("registry/m/1", b"a record")
    meddling_proxy.halves_bodies = True
    with pytest.raises(StoreUnreachableError, match="does not answer"):
        store.get(digest)
    with pytest.raises(StoreUnreachableError, match="does not answer"):
        store.read("registry/m/1")
    with pytest.raises(StoreUnreachableError, match="does not answer"):
        store.fetch(digest, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bucket_is_a_mistake_in_the_settings(s3_server: S3Server, tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket/store")
    for use in every_use(store, tmp_path):
        with pytest.raises(ConfigError, match="s3://no-such-bucket/store at ") as refusal:
            use()
        demand_clean_message(refusal.value, s3_server)
    assert not (tmp_path / "copy").exists()


def test_no_credentials_is_a_mistake_in_the_settings(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for use in every_use(open_store("s3://bucket/store"), tmp_path):
        with pytest.raises(
            ConfigError, match=r"no AWS credentials were found.*Set AWS_ACCESS_KEY_ID"
        ):
            use()


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """moto, when it checks who asks."""
    log = tmp_path_factory.mktemp("strict-moto") / "log"
    with running_moto(log, INITIAL_NO_AUTH_ACTION_COUNT="0") as server:
        yield server


def test_an_unknown_access_key_is_a_mistake_in_the_settings(
    strict_server: S3Server, no_aws: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in strict_server.settings().items():
        monkeypatch.setenv(name, value)
    for use in every_use(open_store("s3://bucket/store"), tmp_path):
        with pytest.raises(ConfigError, match=r"\(status 403\)\..*credentials") as refusal:
            use()
        demand_clean_message(refusal.value, strict_server)


def test_a_malformed_server_address_is_a_mistake_in_the_settings(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "127.0.0.1 5000")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        open_store("s3://bucket/store").get(DIGEST)


def test_a_profile_that_does_not_exist_is_a_mistake_in_the_settings(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match=r"ProfileNotFound.*AWS_PROFILE"):
        open_store("s3://bucket/store")


# ---------------------------------------- local sides


def test_a_full_temporary_folder_is_said(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(f"s3://{s3_server.new_bucket()}/store")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StoreUnreachableError, match=r"gone: No such file.*TMPDIR"):
        store.put_stream([b"rows"], max_bytes=10)


def test_large_blobs_go_up_in_parts_and_leave_no_temporary_file(
    s3_server: S3Server,
    meddling_proxy: MeddlingProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = open_store(f"s3://{s3_server.new_bucket()}/store")
    digest, size = store.put_stream((bytes(1 << 20) for _ in range(33)), max_bytes=1 << 30)
    assert size == 33 << 20
    assert "POST" in meddling_proxy.methods
    assert list(tmp_path.iterdir()) == []
    assert store.get(digest) == bytes(33 << 20)


def test_a_console_s_folder_marker_is_no_record(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    store = open_store(f"s3://{bucket}/store")
    store.create("registry/m/1", b"{}")
    s3_server.client().put_object(Bucket=bucket, Key="store/registry/m/", Body=b"")
    assert store.names("registry") == ["registry/m/1"]


def test_a_deleted_blob_is_missing(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    store = open_store(f"s3://{bucket}/store")
    digest = store.put(b"rows")
    s3_server.client().delete_object(
        Bucket=bucket, Key=f"store/blobs/sha256/{digest.hex[:2]}/{digest.hex}"
    )
    with pytest.raises(ArtifactMissingError, match=re.escape(store.uri)):
        store.get(digest)
    assert store.put(b"rows") == digest
    assert store.get(digest) == b"rows"


# ---------------------------------------- boto3 is optional


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_directory_never_loads_boto3(tmp_path: Path) -> None:
    child = run_python(
        "import sys, pathlib; from retraining.store import open_store, open_inbox;"
        f" p = pathlib.Path({str(tmp_path)!r}); s = open_store(p / 'store');"
        " s.get(s.put(b'rows')); s.self_test(); open_inbox(p).files();"
        " print([m for m in sys.modules if m.startswith(('boto', 's3transfer', 'urllib3'))])"
    )
    assert (child.stdout, child.stderr) == ("[]\n", "")


def test_without_boto3_an_s3_address_says_what_to_install() -> None:
    child = run_python(
        "import sys; sys.modules['boto3'] = None\n"
        "from retraining.store import open_store, open_inbox\n"
        "for open_ in (open_store, open_inbox):\n"
        "    try: open_('s3://bucket/x')\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    assert child.stdout.count("ConfigError An s3:// address needs the package boto3") == 2


def test_the_usual_chain_gives_inboxes_too(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="in/a.csv", Body=b"x")
    assert [file.name for file in open_inbox(f"s3://{bucket}/in").files()] == ["a.csv"]
    assert boto3.DEFAULT_SESSION is None, "a session of the whole process would leak credentials"
