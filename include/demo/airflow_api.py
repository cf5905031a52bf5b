"""Airflow's public REST API, as far as the demo needs it. Standard library, loopback only."""

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from retraining.errors import RetrainingError

FINISHED_RUN = {"success", "failed"}
FINISHED_TASK = {"success", "failed", "skipped", "upstream_failed", "removed"}
_HEALTH = ("metadatabase", "dag_processor", "scheduler", "triggerer")
_ANSWER_SECONDS = 60
_PATIENCE_SECONDS = 120  # a busy machine may not answer for a while


class ApiError(RetrainingError):
    """The server did not answer, or not with what was asked for."""

    def __init__(self, status: int, text: str) -> None:
        said = f"answered {status}: {text[:500]}" if status else f"did not answer: {text}"
        super().__init__(f"Airflow {said}")
        self.status = status


@dataclass(frozen=True)
class TaskRun:
    """One task of a run.

    Attributes:
        state: None before it is scheduled.
        seconds: That it ran; None before its end.
    """

    task_id: str
    map_index: int
    state: str | None
    seconds: float | None
    attempt: int


class AirflowApi:
    """What a person can do at the pages, for one logged-in user."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._token = ""

    def unhealthy_parts(self) -> str:
        """Names of the parts that are not running, comma-joined; empty when all are."""
        try:
            found = self._ask("GET", "/api/v2/monitor/health")
        except ApiError:
            return "api-server"
        return ", ".join(part for part in _HEALTH if found[part]["status"] != "healthy")

    def log_in(self, user: str, password: str) -> bool:
        """Get a token; False when the server is not ready for it."""
        try:
            answer = self._ask("POST", "/auth/token", {"username": user, "password": password})
        except ApiError:
            return False
        self._token = answer["access_token"]
        return True

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG was parsed."""
        try:
            self._call("GET", f"/api/v2/dags/{dag_id}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def import_errors(self) -> list[str]:
        """What is wrong with DAG files, the last line of each."""
        found = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [str(error["stack_trace"]).strip().splitlines()[-1] for error in found]

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG, oldest first."""
        query = urlencode({"limit": 100, "order_by": "run_after"})
        found: list[dict[str, Any]] = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{query}")[
            "dag_runs"
        ]
        return found

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Give up a run that nobody works on any more."""
        self._call("PATCH", _run_path(dag_id, run_id), {"state": "failed"})

    def trigger(self, dag_id: str, run_id: str, form: Mapping[str, Any]) -> None:
        """Start a run of that id with that form; nothing happens when it was started before."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(form)}
        try:
            self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        except ApiError as error:
            if error.status != 409:
                raise

    def run_state(self, dag_id: str, run_id: str) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self._call("GET", _run_path(dag_id, run_id))["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskRun]:
        """All task instances of a run, those of mapped tasks once they exist."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances?limit=100"
        return [
            TaskRun(
                task_id=item["task_id"],
                map_index=item["map_index"],
                state=item["state"],
                seconds=item["duration"],
                attempt=item["try_number"],
            )
            for item in self._call("GET", path)["task_instances"]
        ]

    def headline(self, dag_id: str, run_id: str, task: TaskRun) -> str:
        """What the log of a failed task shows first: its exception's message."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{task.attempt}"
        for line in self._call("GET", f"{path}?map_index={task.map_index}")["content"]:
            if isinstance(line, dict) and (details := line.get("error_detail")):
                return str(details[0]["exc_value"])
        return "its log says why"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """As `_ask`, but patient: to ask again for any of our requests changes nothing more."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._ask(method, path, body)
            except ApiError as error:
                # 500 is also what SQLite's "database is locked" becomes.
                passing = error.status == 0 or error.status >= 500
                if not passing or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_ANSWER_SECONDS)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if not 200 <= answer.status < 300:
                raise ApiError(answer.status, text)
            return json.loads(text) if text else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(0, f"{type(error).__name__} {error}".strip()) from error
        finally:
            connection.close()


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
