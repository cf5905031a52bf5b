"""A real Airflow on one machine: the four parts of `airflow standalone`, on loopback only.

SQLite and LocalExecutor, as standalone has them. The parts are started one by one because
standalone gives no way to leave out the two log servers (ports 8793 and 8794), which listen on all
interfaces and which one machine does not need: tasks' logs are read from the disk.
"""

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from demo.airflow_api import AirflowApi
from demo.processes import Server, free_port, kill_processes_in
from retraining.errors import ConfigError
from retraining.settings import REPOSITORY, Settings

PARTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "api-server": ["api-server"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
USER = "admin"
_PREFERRED_PORT = 8080
_START_SECONDS = 180
_STOP_SECONDS = 20
_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "TZ")


@dataclass(frozen=True)
class Secrets:
    """What this Airflow keeps to itself; made once per workspace, readable by its owner only."""

    password: str
    fernet_key: str
    api_secret_key: str
    jwt_secret: str

    @classmethod
    def of(cls, home: Path) -> "Secrets":
        """Read them from `home`, or make them."""
        from cryptography.fernet import Fernet

        path = home / "secrets.json"
        with contextlib.suppress(FileNotFoundError):
            return cls(**json.loads(path.read_text()))
        made = cls(
            password=secrets.token_urlsafe(9),
            fernet_key=Fernet.generate_key().decode(),
            api_secret_key=secrets.token_hex(32),
            jwt_secret=secrets.token_hex(64),
        )
        write_private(path, json.dumps(asdict(made)))
        return made


class Airflow:
    """The parts, started and stopped together."""

    def __init__(self, settings: Settings, *, port: int = 0, mlflow: str = "") -> None:
        """Prepare; nothing runs yet.

        Args:
            settings: The workspace; Airflow lives in its folder `airflow`.
            port: Of the pages; 0: 8080, or any free one.
            mlflow: Address of an MLflow server for the mirror; empty: none.
        """
        self.home = settings.home / "airflow"
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port = port or free_port(_PREFERRED_PORT)
        self.url = f"http://127.0.0.1:{self.port}"
        self.secrets = Secrets.of(self.home)
        write_private(self.home / "passwords.json", json.dumps({USER: self.secrets.password}))
        self._environment = self._make_environment(settings, mlflow)
        self._parts: dict[str, Server] = {}
        self._migration: Server | None = None

    def start_database(self) -> None:
        """Begin to make the database, or to bring it up to date; `start` waits for it."""
        self._migration = self._run("migration", ["db", "migrate"])

    def start(self) -> None:
        """Start all parts; raises ConfigError when there is no database."""
        if self._migration is None:
            self.start_database()
        migration, self._migration = self._migration, None
        if migration is not None and migration.wait() != 0:
            raise ConfigError(f"Airflow's database was not made:\n{migration.last_lines()}")
        for name, arguments in PARTS.items():
            self._parts[name] = self._run(name, arguments)

    def wait_until_healthy(self, told: Callable[[str], None]) -> AirflowApi:
        """Wait for all four parts and log in.

        Args:
            told: Called with the names of the parts that are not there yet, as they change.

        Raises:
            ConfigError: A part ended, or they took too long; says what it last wrote.
        """
        api = AirflowApi("127.0.0.1", self.port)
        deadline, before = time.monotonic() + _START_SECONDS, ""
        while (missing := api.unhealthy_parts()) or not api.log_in(USER, self.secrets.password):
            self.raise_if_ended()
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"Airflow was not up within {_START_SECONDS} seconds; missing: {missing}."
                    f" Its logs are in {self.home}."
                )
            if missing != before:
                told(missing)
                before = missing
            time.sleep(0.3)
        return api

    def raise_if_ended(self) -> None:
        """Raise ConfigError with its last lines when a part is no longer running."""
        for name, part in self._parts.items():
            if part.returncode is not None:
                raise ConfigError(f"Airflow's {name} ended:\n{part.last_lines()}")

    def stop(self) -> None:
        """Stop everything, tasks included."""
        servers = [*self._parts.values(), *([self._migration] if self._migration else [])]
        for server in servers:
            server.ask_to_stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for server in servers:
            server.end(deadline=deadline)
        self._parts.clear()
        kill_processes_in(self.home)

    def _run(self, name: str, arguments: list[str]) -> Server:
        program = Path(sys.executable).with_name("airflow")
        return Server(
            [program, *arguments],
            env=self._environment,
            cwd=self.home,
            log=self.home / f"{name}.log",
        )

    def _make_environment(self, settings: Settings, mlflow: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        inherited["PATH"] = f"{Path(sys.executable).parent}:{inherited.get('PATH', '')}"
        airflow = {
            "CORE__DAGS_FOLDER": REPOSITORY / "dags",
            "CORE__PLUGINS_FOLDER": REPOSITORY / "plugins",
            "CORE__LOAD_EXAMPLES": False,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": 4,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self.home / "passwords.json",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__FERNET_KEY": self.secrets.fernet_key,
            "API__HOST": "127.0.0.1",
            "API__PORT": self.port,
            "API__BASE_URL": self.url,
            "API__WORKERS": 1,
            "API__SECRET_KEY": self.secrets.api_secret_key,
            "API_AUTH__JWT_SECRET": self.secrets.jwt_secret,
            # A team's defaults are minutes; here somebody waits.
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
            "DAG_PROCESSOR__REFRESH_INTERVAL": 10,
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 10,
            "USAGE_DATA_COLLECTION__ENABLED": False,
        }
        own: dict[str, object] = {
            "AIRFLOW_HOME": self.home,
            "RETRAINING_HOME": settings.home,
            "RETRAINING_STORE": settings.store,
            "RETRAINING_PIPELINES": settings.pipelines,
            "RETRAINING_KEYS": settings.keys,
            "RETRAINING_ROOT_KEY": settings.root_key,
            "RETRAINING_MEMORY": settings.memory,
            "RETRAINING_TRAINER_PYTHON": settings.trainer_python,
            "RETRAINING_CONSOLE_URL": self.url,
        }
        if mlflow:
            own["MLFLOW_TRACKING_URI"] = mlflow
        named: Mapping[str, object] = own | {f"AIRFLOW__{k}": v for k, v in airflow.items()}
        return inherited | {name: str(value) for name, value in named.items()}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(path)
