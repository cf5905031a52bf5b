"""The page of a decision in Airflow: who sees it, what it is, and what is said where it is not."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from retraining.digests import Digest
from retraining.gate_report import HTML, JSON, open_decision
from retraining.records import GateDecision
from tests.fixtures.airflow_server import AirflowServer
from tests.fixtures.workspace import WEEKS, Workspace, flip_labels, make_workspace

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def address(decision: Digest, name: str = HTML) -> str:
    return f"/retraining/gate/{decision.hex[:16]}{'.json' if name == JSON else ''}"


def held(workspace: Workspace) -> Digest:
    """A decision that holds the first week."""
    workspace.deliver(WEEKS[0], change=flip_labels("spam", "ham", share=0.6))
    return Digest(workspace.run_week(WEEKS[0]).gate.attestation.digest)


def stored(workspace: Workspace, decision: Digest, name: str) -> tuple[Digest, bytes]:
    """What the decision's signed record names, and its bytes."""
    steps = workspace.steps()
    digest = open_decision(steps.store, steps.trust, decision).gate.attestation.artefacts[name]
    return digest, steps.store.get(digest)


# --- on a real server -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def decided(airflow_server: AirflowServer) -> tuple[Workspace, Digest]:
    workspace = airflow_server.workspace.add_model("paged_filter")
    return workspace, held(workspace)


def ask(server: AirflowServer, path: str, *, user: str = "", **headers: str) -> httpx.Response:
    """Ask for a page as somebody, or as nobody."""
    if user:
        headers["Authorization"] = server.as_user(user).client.headers["Authorization"]
    return httpx.get(f"{server.url}{path}", headers=headers, timeout=60)


@pytest.mark.parametrize(("name", "kind"), [(HTML, "text/html"), (JSON, "application/json")])
def test_whoever_sees_the_runs_sees_the_page_that_the_gate_signed(
    airflow_server: AirflowServer, decided: tuple[Workspace, Digest], name: str, kind: str
) -> None:
    answer = ask(airflow_server, address(decided[1], name), user="visitor")

    assert (answer.status_code, answer.content) == (200, stored(*decided, name)[1])
    assert answer.headers["content-type"].startswith(kind)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script" not in policy
    assert answer.headers["cache-control"] == "no-store"


def test_nobody_sees_it_without_logging_in(
    airflow_server: AirflowServer, decided: tuple[Workspace, Digest]
) -> None:
    """A program is told so; a person who follows the link logs in and comes back."""
    path = address(decided[1])
    assert ask(airflow_server, path).status_code == 401
    forged = ask(airflow_server, path, Authorization="Bearer nonsense")
    assert forged.status_code in (401, 403)
    led = ask(airflow_server, path, accept="text/html")
    assert led.status_code == 307
    assert "/login" in led.headers["location"] and decided[1].hex[:16] in led.headers["location"]
    for hidden in ("", "docs", "openapi.json", "redoc"):
        answer = ask(airflow_server, f"/retraining/{hidden}", user="admin")
        assert answer.status_code == 404


def test_what_is_no_decision_is_not_shown(
    airflow_server: AirflowServer, decided: tuple[Workspace, Digest]
) -> None:
    workspace, decision = decided
    report = workspace.steps().decision(decision).attestation.report
    for other in (Digest.of(b"nothing"), report):
        answer = ask(airflow_server, address(other), user="admin")
        assert answer.status_code == 404
        assert f"retraining gate-report {other.hex[:16]}" in answer.text
        assert str(workspace.home) not in answer.text
    assert ask(airflow_server, address(decision)[:-1], user="admin").status_code == 422


# --- the application alone ------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Digest]:
    workspace = make_workspace(tmp_path_factory.mktemp("console") / "workspace")
    return workspace, held(workspace)


class Manager:
    """Says no to all, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def is_authorized_dag(self, **asked: Any) -> bool:
        self.asked.append(asked)
        return False


@pytest.fixture
def console(
    alone: tuple[Workspace, Digest], monkeypatch: pytest.MonkeyPatch, airflow_database: None
) -> Iterator[Any]:
    """The application, for somebody who is logged in."""
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.testclient import TestClient

    from retraining_console.app import app

    for name, value in alone[0].environment.items():
        monkeypatch.setenv(name, value)
    app.dependency_overrides[get_user] = lambda: "somebody"
    yield TestClient(app)
    app.dependency_overrides.clear()


def test_whoever_may_not_see_the_runs_of_the_dag_does_not_see_its_decisions(
    console: Any, alone: tuple[Workspace, Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.core_api import security

    manager = Manager()
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)

    for name in (HTML, JSON):
        answer = console.get(address(alone[1], name).removeprefix("/retraining"))
        assert answer.status_code == 403 and alone[0].model not in answer.text
    for asked in manager.asked:
        assert (asked["method"], asked["access_entity"].name) == ("GET", "RUN")
        assert asked["details"].id == "secure_retraining__small_filter"
        assert asked["user"] == "somebody"
    assert len(manager.asked) == 2


def test_a_page_that_was_changed_or_a_store_that_is_not_there_is_not_shown(
    console: Any, alone: tuple[Workspace, Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, decision = alone
    path = address(decision).removeprefix("/retraining")
    digest, content = stored(workspace, decision, HTML)
    blob = workspace.steps().store.path_of(digest)
    blob.chmod(0o600)
    blob.write_bytes(content.replace(b"HOLD", b"GOOD"))
    try:
        assert console.get(path).status_code == 404
    finally:
        blob.write_bytes(content)
    monkeypatch.setenv("RETRAINING_STORE", str(workspace.home / "elsewhere"))
    assert console.get(path).status_code == 503
    monkeypatch.setenv("RETRAINING_ROOT_KEY", str(workspace.home / "no.pub.json"))
    assert console.get(path).status_code in (404, 503)


def test_a_decision_names_its_page_by_the_verdict(alone: tuple[Workspace, Digest]) -> None:
    workspace, decision = alone
    verdict: GateDecision = workspace.steps().decision(decision).report
    assert verdict.verdict == "HOLD"
    assert b"HOLD" in stored(workspace, decision, HTML)[1]
