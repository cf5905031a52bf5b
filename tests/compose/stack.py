"""The stack of docker-compose.yaml under test: its folder, its containers, its S3, its API."""

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx
from botocore.config import Config

REPOSITORY = Path(__file__).parents[2]
BUCKET = "retraining"
_PATH_STYLE = "[default]\nregion = us-east-1\ns3 =\n    addressing_style = path\n"
_FINISHED = {"success", "failed"}

T = TypeVar("T")


class Failure(Exception):
    """The stack did not do what it should."""


def check(holds: bool, otherwise: str) -> None:
    """Raise Failure unless it holds."""
    if not holds:
        raise Failure(otherwise)


def eventually(found: Callable[[], T], *, seconds: float, what: str, pause: float = 0.5) -> T:
    """Call again and again until what comes back is true; return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(pause)
    raise Failure(f"{what}: not within {seconds:g} seconds")


def run(*command: str | Path, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit status."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **keywords
    )


@dataclass
class Stack:
    """One compose project with secrets, settings and pipeline files of its own in `folder`."""

    folder: Path
    project: str
    port: int
    told: Callable[[str], None] = print

    # --- compose ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """What a person does before the first start: make secrets, say where S3 is."""
        done = run(
            *("python3", "include/deploy/make_secrets.py"),
            *("--secrets", self.secrets, "--env-file", self.folder / "env"),
            *("--store", f"s3://{BUCKET}/store", "--endpoint", "http://s3:7480"),
            *("--egress", "s3:7480"),
            cwd=REPOSITORY,
        )
        check(done.returncode == 0, f"make_secrets.py: {done.stderr}")
        text = (self.folder / "env").read_text()
        for name, value in {
            "RETRAINING_PORT": str(self.port),
            "RETRAINING_URL": f"http://127.0.0.1:{self.port}",
            "RETRAINING_PIPELINES": str(self.folder / "pipelines"),
            "RETRAINING_LOST_TASK_SECONDS": "30",  # a team waits five minutes; a test does not
            "RETRAINING_RETRY_SECONDS": "5",
        }.items():
            text = re.sub(rf"^{name}=.*\n", "", text, flags=re.MULTILINE) + f"{name}={value}\n"
        (self.folder / "env").write_text(text)
        access, secret = secrets.token_hex(10), secrets.token_hex(20)
        _write(self.secrets / "s3_user", f"{access} {secret}\n")
        for own in (self.secrets / "workers").iterdir():
            _write(own / "aws_config", _PATH_STYLE)
            _write(
                own / "aws_credentials",
                f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n",
            )

    @property
    def secrets(self) -> Path:
        """Where `make compose-secrets` puts them."""
        return self.folder / "secrets"

    def compose(self, *arguments: str, check_status: bool = True, **keywords: Any) -> str:
        """Run `docker compose` on the stack; return stdout."""
        done = run(
            *("docker", "compose", "--project-name", self.project),
            *("--env-file", self.folder / "env", "--ansi", "never", "--progress", "plain"),
            *("-f", "docker-compose.yaml", "-f", "tests/compose/s3.yaml"),
            *arguments,
            cwd=REPOSITORY,
            **keywords,
        )
        if check_status and done.returncode:
            raise Failure(f"docker compose {' '.join(arguments)}:\n{done.stderr[-3000:]}")
        return done.stdout

    def services(self) -> dict[str, str]:
        """Every running service, and the id of its container."""
        lines = self.compose("ps", "--format", "json").splitlines()
        return {found["Service"]: found["ID"] for found in map(json.loads, lines)}

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows about a service's container."""
        found: list[dict[str, Any]] = json.loads(
            run("docker", "inspect", self.services()[service]).stdout
        )
        return found[0]

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run something in a service's container."""
        return run("docker", "exec", self.services()[service], *command)

    def python(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in a service's container."""
        return self.inside(service, "python", "-c", code)

    def address(self, service: str, network: str) -> str:
        """A container's address on a network; this machine reaches it, internal or not."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks[f"{self.project}_{network}"]["IPAddress"])

    def down(self) -> None:
        """Stop everything, and remove volumes and networks."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "20")

    # --- S3, as seen from this machine ----------------------------------------------------------

    def aws_environment(self) -> dict[str, str]:
        """The usual AWS chain, set to the stack's S3."""
        own = self.secrets / "workers" / "init"
        return {
            "AWS_ENDPOINT_URL_S3": f"http://{self.address('s3', 'outside')}:7480",
            "AWS_SHARED_CREDENTIALS_FILE": str(own / "aws_credentials"),
            "AWS_CONFIG_FILE": str(own / "aws_config"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "*",
        }

    @cached_property
    def s3(self) -> Any:
        """A client."""
        with _environment(self.aws_environment()):
            return boto3.session.Session().client(
                "s3", config=Config(retries={"total_max_attempts": 5})
            )

    def upload(self, folder: Path, prefix: str) -> int:
        """Copy a folder into the bucket, manifests last; return how many files."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda file: "manifest" in file.name):
            self.s3.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")
        return len(files)

    def retraining(self, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Our command line on this machine, with the root's public key and nothing else."""
        home = self.folder / "auditor"
        home.mkdir(exist_ok=True)
        shutil.copy(self.secrets / "keys" / "root.pub.json", home)
        environment = {
            **os.environ,
            **self.aws_environment(),
            "RETRAINING_HOME": str(home),
            "RETRAINING_STORE": f"s3://{BUCKET}/store",
            "RETRAINING_ROOT_KEY": str(home / "root.pub.json"),
            "RETRAINING_PIPELINES": str(self.folder / "pipelines"),
            "COLUMNS": "160",
        }
        return run(program, *arguments, env=environment)

    # --- Airflow's API, on the one published port -----------------------------------------------

    @cached_property
    def api(self) -> httpx.Client:
        """Somebody who logged in with the password that `make compose-secrets` made."""
        url = f"http://127.0.0.1:{self.port}"
        login = {"username": "admin", "password": (self.secrets / "admin_password").read_text()}
        answer = httpx.post(f"{url}/auth/token", json=login, timeout=60, trust_env=False)
        check(answer.status_code in (200, 201), f"login: {answer.status_code} {answer.text}")
        token = answer.json()["access_token"]
        return httpx.Client(
            base_url=f"{url}/api/v2/",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=60,
            trust_env=False,
        )

    def get(self, path: str, **parameters: Any) -> Any:
        """Read one resource."""
        answer = self.api.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()

    def unpause(self, dag_id: str) -> None:
        """Wait until the DAG was parsed, and let it run."""
        eventually(
            lambda: self.api.get(f"dags/{dag_id}").status_code == 200,
            seconds=120,
            what=f"{dag_id} is parsed",
        )
        self.api.patch(f"dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def trigger(self, dag_id: str, **form: Any) -> str:
        """Start a run; return its id."""
        form = {"reason": "make compose-test", **form}
        answer = self.api.post(f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": form})
        answer.raise_for_status()
        return str(answer.json()["dag_run_id"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run."""
        found: list[dict[str, Any]] = self.get(
            f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100
        )["task_instances"]
        return found

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """One task instance."""
        return next(t for t in self.tasks(dag_id, run_id) if t["task_id"] == task_id)

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> list[dict[str, Any]]:
        """The log of one try, which the API server fetches from its worker."""
        found: list[Any] = self.get(
            f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        )["content"]
        return [line for line in found if isinstance(line, dict)]

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float = 600) -> str:
        """The state in which a run ends."""

        def state() -> str | None:
            found = str(self.get(f"dags/{dag_id}/dagRuns/{run_id}")["state"])
            return found if found in _FINISHED else None

        return str(eventually(state, seconds=seconds, what=f"{run_id} ends", pause=1))


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o444)


@contextlib.contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
