"""LocalExecutor on a real Postgres, with the settings and the commands of deployment.md."""

import contextlib
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from retraining.settings import REPOSITORY
from tests.fixtures.airflow_server import NOT_NEEDED, AirflowServer, eventually
from tests.fixtures.ports import free_port
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

DOCUMENT = (REPOSITORY / "include" / "docs" / "deployment.md").read_text()
OPERATIONS = (REPOSITORY / "include" / "docs" / "operations.md").read_text()
SECTION = DOCUMENT[DOCUMENT.index("## Without Docker") :]
RETRAINING = Path(sys.executable).with_name("retraining")
ADMIN = "admin"  # for once its own password: AirflowServer logs in that way


def blocks(language: str) -> list[list[str]]:
    """The lines of each block of that language in the section."""
    found = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return [[line for line in block.splitlines() if line.strip()] for block in found]


def settings(replaced: dict[str, str]) -> dict[str, str]:
    """The section's airflow.env, with other values where this machine has others."""
    (lines,) = blocks("ini")
    text = "\n".join(lines)
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    assert "<" not in text
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make setup` and the cluster's lock, in an environment of the test's own."""
    uv = shutil.which("uv") or next(iter((REPOSITORY / ".uv" / "bin").glob("uv")), None)
    if uv is None:
        pytest.skip("no uv here")
    _setup, install = blocks("sh")[0]
    assert install.startswith("uv pip install --python .venv/bin/python ")
    folder = tmp_path_factory.mktemp("without-docker") / "venv"
    python = f"--python={folder}/bin/python"
    options = shlex.split(install.partition(".venv/bin/python ")[2])
    for command in (
        ["venv", "--quiet", "--python", "3.11", str(folder)],
        ["pip", "install", "--quiet", python, "--no-deps", "-r", "requirements.lock"],
        ["pip", "install", "--quiet", python, *options],
        ["pip", "install", "--quiet", python, "--no-deps", "--no-build-isolation", "-e", "."],
    ):
        subprocess.run([uv, *command], cwd=REPOSITORY, check=True, timeout=600)
    return folder


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[int]:
    """A cluster with the role and the database that the section asks for; its port."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Not in pytest's folder, which another user may not enter.
    folder = Path(subprocess.check_output([*as_postgres, "mktemp", "-d"], text=True).strip())
    port = free_port()

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [*as_postgres, programs[-1] / program, *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
        )

    call("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "-E", "UTF8")
    listen = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    call("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", listen, "start")
    try:
        server = ("-h", "127.0.0.1", "-p", str(port), "-U", "postgres")
        call("createuser", *server, "airflow")
        call("createdb", *server, "--owner", "airflow", *("--template", "template0"), "airflow")
        yield port
    finally:
        call("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
        subprocess.run([*as_postgres, "rm", "-rf", str(folder)], check=True)


def test_a_week_is_promoted_with_the_documents_settings_and_commands_and_can_be_restored(
    tmp_path: Path, environment: Path, postgres: int
) -> None:
    workspace = make_workspace(tmp_path / "workspace")
    workspace.deliver(WEEKS[0])
    home, port = tmp_path / "airflow", free_port()
    home.mkdir()
    values = settings(
        {
            "/srv/retraining/airflow": str(home),
            "/srv/retraining/store": str(workspace.home / "store"),
            "/opt/retraining/dags": str(REPOSITORY / "dags"),
            "/opt/retraining/plugins": str(REPOSITORY / "plugins"),
            "/opt/retraining/include/pipelines": str(workspace.spec_file.parent),
            "127.0.0.1:5432": f"127.0.0.1:{postgres}",
            "8080": str(port),
            "<PASSWORD>": "unused",
            "<FERNET_KEY>": Fernet.generate_key().decode(),
            "<SECRET_KEY>": secrets.token_hex(32),
            "<JWT_SECRET>": secrets.token_hex(64),
        }
    )
    inherited = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    variables = inherited | values | workspace.environment | {"ADMIN_PASSWORD": ADMIN}
    parts: list[subprocess.Popen[bytes]] = []

    def start(line: str, log: Path) -> subprocess.Popen[bytes]:
        command = line.replace(".venv/bin/", f"exec {environment}/bin/", 1).rstrip("& ")
        with log.open("wb") as output:
            return subprocess.Popen(
                ["bash", "-c", command],
                cwd=home,
                env=variables,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    commands = blocks("sh")[1]
    assert "keys create" in commands[0]  # the workspace has its own
    try:
        for number, line in enumerate(commands[1:]):
            process = start(line, log := home / f"{number}.log")
            if line.endswith("&"):
                parts.append(process)
            else:
                assert process.wait(300) == 0, log.read_text()[-2000:]
        assert len(parts) == 4
        server = AirflowServer(f"http://127.0.0.1:{port}", home, workspace, ADMIN)
        eventually(lambda: healthy(server.url), seconds=300)
        dag_id = f"secure_retraining__{workspace.model}"
        server.wait_for_dag(dag_id)

        run_id, state = server.run_week(dag_id, WEEKS[0])

        states = server.states(dag_id, run_id)
        # Nobody has to be asked, and nothing has to be taken out.
        assert {states.pop(name) for name in NOT_NEEDED} == {"skipped"}
        assert (state, set(states.values())) == ("success", {"success"})
        (entry,) = workspace.registry()
        assert (entry.verdict, entry.version) == ("PROMOTE", 1)
        page = f"{server.url}/retraining/gate/{entry.decision.hex[:16]}"
        lines = [line["event"] for line in server.log(dag_id, run_id, "gate")]
        assert any(page in line for line in lines)
        shown = httpx.get(page, headers=dict(server.client.headers), timeout=60)
        assert (shown.status_code, "PROMOTE" in shown.text) == (200, True)
        assert httpx.get(page, timeout=60).status_code == 401
    finally:
        for part in parts:
            part.terminate()
        deadline = time.monotonic() + 60
        for part in parts:
            with contextlib.suppress(subprocess.TimeoutExpired):
                part.wait(max(1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.pid, 9)

    restore(tmp_path, postgres)
    assert runs(postgres, "airflow_restored") == runs(postgres, "airflow") != []
    restored = shutil.copytree(workspace.settings.store, tmp_path / "restored_store")
    assert verified(workspace, restored) == verified(workspace, Path(workspace.settings.store))


def restore(folder: Path, port: int) -> None:
    """Back Airflow's database up and restore it, as operations.md says."""
    (commands,) = re.findall(r"```bash\n(.*?)```", OPERATIONS, re.DOTALL)
    server = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres"}
    path = f"{sorted(Path('/usr/lib/postgresql').glob('*/bin'))[-1]}:{os.environ['PATH']}"
    for line in commands.splitlines():
        subprocess.run(
            shlex.split(line), cwd=folder, env={**os.environ, **server, "PATH": path}, check=True
        )


def runs(port: int, database: str) -> list[str]:
    """The runs that Airflow's grid shows."""
    query = "select dag_id, run_id, state, start_date, end_date from dag_run order by id"
    program = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1] / "psql"
    server = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    return subprocess.check_output(
        [program, *server, "-At", "-c", query, database], text=True
    ).splitlines()


def verified(workspace: Workspace, store: Path) -> str:
    """What an auditor reads of a store, or of a copy."""
    root = str(workspace.settings.root_key)
    return subprocess.check_output(
        [RETRAINING, "verify", "--store", store, "--root-key", root],
        text=True,
    )


def healthy(url: str) -> bool:
    """Whether all four parts say so."""
    with contextlib.suppress(httpx.HTTPError, ValueError):
        found = httpx.get(f"{url}/api/v2/monitor/health").json()
        return all(state["status"] == "healthy" for state in found.values())
    return False
