"""A Ceph cluster of one monitor, one in-memory disk and one gateway, for one session.

The closest to AWS S3 that a Debian machine can run: it checks signatures, and it honours
`If-None-Match` only in buckets without versioning. Needs no root; everything lies in a temporary
folder. Install it with: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr
ceph-common
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.s3 import S3Server

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

_SETTINGS = """
[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{mon_port}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 0
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file = {folder}/$name.log
public network = 127.0.0.0/8
[mon.a]
mon data = {folder}/mon
mon addr = 127.0.0.1:{mon_port}
[osd]
osd objectstore = memstore
memstore device bytes = 1073741824
osd data = {folder}/osd
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw data = {folder}/rgw
rgw dns name = localhost
"""


@pytest.fixture(scope="session")
def radosgw() -> Iterator[S3Server]:
    """Start the cluster (about 20 s), make one user, stop it all at the end."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(
            f"not installed: {', '.join(missing)} (apt-get install --no-install-recommends"
            " radosgw ceph-mon ceph-osd ceph-mgr ceph-common)"
        )
    # Not in pytest's folder: the path of an admin socket has to stay below 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rgw-"))
    try:
        with contextlib.ExitStack() as running:
            yield _start(folder, running)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def radosgw_settings(radosgw: S3Server, no_aws: None, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The cluster as the server that the usual AWS chain finds."""
    for name, value in radosgw.settings().items():
        monkeypatch.setenv(name, value)
    return radosgw


def _start(folder: Path, running: contextlib.ExitStack) -> S3Server:
    for name in ("mon", "osd", "rgw", "run"):
        (folder / name).mkdir()
    cluster, disk, mon_port, rgw_port = uuid.uuid4(), uuid.uuid4(), free_port(), free_port()
    (folder / "ceph.conf").write_text(
        _SETTINGS.format(cluster=cluster, folder=folder, mon_port=mon_port, rgw_port=rgw_port)
    )
    conf = ["-c", str(folder / "ceph.conf")]
    ceph = ["ceph", "--connect-timeout", "5", *conf]
    monmap, address = str(folder / "monmap"), f"[v1:127.0.0.1:{mon_port}]"
    mon_data = ["--mon-data", str(folder / "mon")]

    def attempt(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90)

    def call(*command: str) -> None:
        _wait_until(lambda: attempt(*command).returncode == 0, lambda: str(attempt(*command)))

    def daemon(name: str, *command: str, ready: Callable[[], bool]) -> None:
        """Keep a daemon running until it is ready."""
        log, processes = folder / f"{name}.out", list[subprocess.Popen[bytes]]()

        def ready_or_again() -> bool:
            if not processes or processes[-1].poll() is not None:
                with log.open("ab") as output:
                    processes.append(
                        subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
                    )
                running.callback(_stop, processes[-1])
            return ready()

        _wait_until(ready_or_again, lambda: f"{name}: {log.read_text(errors='replace')[-2000:]}")

    call("monmaptool", "--create", "--addv", "a", address, "--fsid", str(cluster), monmap)
    call("ceph-mon", "--mkfs", "-i", "a", *conf, "--monmap", monmap, *mon_data)
    daemon(
        *("mon", "ceph-mon", "-i", "a", *conf, "-f"),
        ready=lambda: "leader" in attempt(*ceph, "quorum_status").stdout,
    )
    call(*ceph, "osd", "new", str(disk), "0")
    call("ceph-osd", "-i", "0", *conf, "--mkfs", "--osd-uuid", str(disk))
    daemon(
        *("osd", "ceph-osd", "-i", "0", *conf, "-f"),
        ready=lambda: "1 up" in attempt(*ceph, "osd", "stat").stdout,
    )
    call(*ceph, "osd", "crush", "add", "osd.0", "1", "root=default", "host=local")
    daemon(
        *("gateway", "radosgw", "-n", "client.rgw.a", *conf, "-f"),
        ready=lambda: _listens(rgw_port),
    )
    call(
        *("radosgw-admin", *conf, "-n", "client.rgw.a", "user", "create", "--uid=t"),
        *("--display-name=t", "--access-key=radosgw-key", "--secret=radosgw-secret"),
    )
    return S3Server(f"http://127.0.0.1:{rgw_port}", "radosgw-key", "radosgw-secret")


def _wait_until(done: Callable[[], bool], report: Callable[[], str]) -> None:
    """Try for two minutes, because Ceph's first steps fail by chance.

    Whoever talks to a fresh monitor before it was told the cluster's id gets "wrong fsid" or
    EPERM; an OSD ends then. Seen in 2 of 13 starts.
    """
    end = time.monotonic() + 120
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"Ceph did not start: {report()}")
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()  # the OSD does not always listen
        process.wait(30)
