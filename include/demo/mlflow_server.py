"""A real MLflow server beside the demo, for people who look there; nothing reads it back."""

import http.client
import os
import time
from pathlib import Path

from demo.processes import Server, free_port
from retraining.errors import ConfigError
from retraining.settings import REPOSITORY

_PROGRAM = REPOSITORY / ".venv-mlflow" / "bin" / "mlflow"
_PREFERRED_PORT = 5000
_START_SECONDS = 90
_STOP_SECONDS = 10
_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ")


class MlflowServer:
    """One server on SQLite, on loopback."""

    def __init__(self, home: Path) -> None:
        """Start it; its files lie in `home`/mlflow.

        Raises:
            ConfigError: Its environment was not made.
        """
        if not _PROGRAM.exists():
            raise ConfigError("--mlflow needs a third environment: run `make setup-mlflow` first.")
        folder = home / "mlflow"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port = free_port(_PREFERRED_PORT)
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._server = Server(
            [
                *(_PROGRAM, "server", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
                *("--default-artifact-root", folder / "artifacts"),
            ],
            env=environment | quiet,
            cwd=folder,
            log=folder / "server.log",
        )

    def wait_until_healthy(self) -> None:
        """Wait until it answers; raises ConfigError with its last lines when it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._server.returncode is not None or time.monotonic() > deadline:
                raise ConfigError(f"MLflow did not start:\n{self._server.last_lines()}")
            time.sleep(0.3)

    def stop(self) -> None:
        """Stop it and its workers."""
        self._server.ask_to_stop()
        self._server.end(deadline=time.monotonic() + _STOP_SECONDS)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
