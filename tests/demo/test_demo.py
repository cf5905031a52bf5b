"""`make demo` as a person runs it: a real Airflow, real training, interrupted once and resumed."""

import contextlib
import http.client
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.cut_data import WEEKS
from demo.following import STEPS
from demo.layout import POISONED_WEEK
from tests.fixtures.ports import free_port

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.trainer,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
]


class Demo:
    """One run of the program, its output in a file."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.output = home.with_name(f"output-{time.monotonic_ns()}.txt")
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "demo", "--home", str(home), *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, text: str, *, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.2)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(120)

    def wait(self) -> int:
        return self.process.wait(900)


def processes_of(home: Path) -> list[int]:
    """Everything that belongs to the Airflow of that workspace, by its folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(home):
                found.append(int(entry.name))
    return found


def listening_addresses(pids: list[int]) -> set[str]:
    """Addresses, as /proc writes them, on which these processes accept connections."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes |= {*re.findall(r"socket:\[(\d+)\]", str(link.readlink()))}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A: LISTEN
                found.add(fields[1].partition(":")[0])
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Demo, Demo]]:
    """A workspace after an interrupted and a resumed run: home, and both of them."""
    home = tmp_path_factory.mktemp("demo") / "workspace"
    interrupted = Demo(home, "--once")
    interrupted.wait_for(f"{WEEKS[0]}  ingest")
    status = interrupted.interrupt()
    assert status == 130, interrupted.said
    assert processes_of(home) == []
    resumed = Demo(home, "--once")
    assert resumed.wait() == 0, resumed.said
    yield home, interrupted, resumed


def test_clean_weeks_are_promoted_and_the_poisoned_one_ends_in_a_red_gate(
    finished: tuple[Path, Demo, Demo],
) -> None:
    home, _, resumed = finished
    for week in WEEKS:
        steps = [line.split()[1] for line in resumed.said.splitlines() if line.startswith(week)]
        assert steps == list(STEPS)
    rows = {
        week: [cell.strip() for cell in line.split("│")[1:-1]]
        for line in resumed.said.splitlines()
        for week in WEEKS
        if line.startswith(f"│ {week}")
    }
    assert [rows[week][1] for week in WEEKS[:2]] == ["PROMOTE", "PROMOTE"]
    assert rows[POISONED_WEEK][1] in ("HOLD", "REJECT")
    assert "purchased_feed" in rows[POISONED_WEEK][2]
    assert rows[WEEKS[1]][3] == "version 2 (new)"
    assert rows[POISONED_WEEK][3] == "version 2"
    assert float(rows[WEEKS[0]][4]) == pytest.approx(4.0, abs=0.1)
    assert rows[POISONED_WEEK][4] == "-"
    assert processes_of(home) == []


def test_an_interruption_says_how_to_go_on_and_the_next_run_does(
    finished: tuple[Path, Demo, Demo],
) -> None:
    _, interrupted, resumed = finished
    assert "the next `make demo` goes on from here" in interrupted.said
    assert "Traceback" not in interrupted.said + resumed.said


def test_a_finished_demo_reprints_its_table_without_an_airflow(
    finished: tuple[Path, Demo, Demo],
) -> None:
    home, _, resumed = finished
    again = Demo(home, "--once")
    assert again.wait() == 0
    assert "Airflow runs at" not in again.said
    tables = [
        [line for line in run.said.splitlines() if line.startswith("│")] for run in (resumed, again)
    ]
    assert tables[0] == tables[1]


def test_the_verify_command_that_it_prints_works(finished: tuple[Path, Demo, Demo]) -> None:
    home, _, resumed = finished
    [command] = re.findall(r"verify it: \S+retraining (.*)", resumed.said)
    assert command == f"--home {home} verify"
    program = Path(sys.executable).with_name("retraining")
    done = subprocess.run([program, *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Verified: 3 concluded weeks of spam_filter" in done.stdout


def test_secrets_are_for_their_owner_only(finished: tuple[Path, Demo, Demo]) -> None:
    home, _, resumed = finished
    for name in ("airflow/secrets.json", "airflow/passwords.json", "keys/promoter.pem"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("fernet_key", "jwt_secret"):
        secret = re.findall(rf'"{name}": "([^"]+)"', (home / "airflow/secrets.json").read_text())
        assert secret and secret[0] not in resumed.said


def test_the_tour_goes_on_from_there(finished: tuple[Path, Demo, Demo]) -> None:
    home, _, _ = finished
    whole = home.with_name("tour")
    shutil.copytree(home, whole, symlinks=True, ignore=shutil.ignore_patterns("airflow"))
    tour = Demo(whole, "--once", "--tour")
    assert tour.wait() == 0, tour.said
    rows = {
        cells[0]: cells[1]
        for line in tour.said.splitlines()
        if line.startswith("│")
        for cells in [[cell.strip() for cell in line.split("│")[1:-1]]]
    }
    assert "account_too_young" in rows["feedback"]  # the ring of liars
    assert "items become a signed batch" in rows["feedback"]
    assert "accuracy" in rows["monitoring"]
    assert "PROMOTE, version 3" in rows["second attempt"]
    assert "kept" in rows["second attempt"]
    assert rows["rollback"] == "version 3 gave way, version 2 serves"
    program = Path(sys.executable).with_name("retraining")
    done = subprocess.run([program, "--home", whole, "verify"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 concluded weeks and 1 rollback" in done.stdout
    again = Demo(whole, "--once", "--tour")
    assert again.wait() == 0
    assert "Airflow runs at" not in again.said


def test_it_serves_on_loopback_only_until_ctrl_c(finished: tuple[Path, Demo, Demo]) -> None:
    home, _, _ = finished
    port = free_port()
    serving = Demo(home, "--port", str(port))
    try:
        serving.wait_for("Serving until Ctrl-C")
        assert listening_addresses(processes_of(home)) == {"0100007F"}  # 127.0.0.1
        [link] = re.findall(rf"http://127\.0\.0\.1:{port}(/dags/\S+/tasks/gate)", serving.said)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", link)
        assert connection.getresponse().status == 200
    finally:
        status = serving.interrupt()
    assert status == 0, serving.said
    assert processes_of(home) == []
