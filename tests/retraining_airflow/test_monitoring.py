"""The monitoring DAG: every day a report, one message per incident, and nothing that a dead
notification service could break."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.fixtures.airflow_server import AirflowServer, eventually
from tests.fixtures.ports import free_port
from tests.fixtures.traffic import (
    add_traffic,
    champion_answers,
    copy_of,
    flipped,
    make_day,
    promote_one,
    write_labels,
    write_predictions,
)
from tests.fixtures.workspace import WEEKS, Workspace

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAYS = tuple(f"2026-02-{number}" for number in range(10, 16))
HERE = "tests.retraining_airflow.notifiers"
SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
APPRISE = "airflow.providers.apprise.notifications.apprise.AppriseNotifier"
SUBJECT = "{{ incident.model }}: {{ incident.name }} since {{ incident.opened }}"
BODY = (
    "{{ incident.day }}: {{ incident.observed }}; allowed: {{ incident.allowed }}."
    " {{ incident.next_step }}"
)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return promote_one(tmp_path_factory.mktemp("promoted") / "workspace")


@pytest.fixture
def home(promoted: Workspace, tmp_path: Path) -> Workspace:
    return copy_of(promoted, tmp_path / "workspace")


@pytest.fixture
def run_day(run_dag: Callable[..., Any]) -> Callable[..., Any]:
    """Run a day of the monitoring DAG; return the colours of its tasks."""
    from retraining_airflow.dag_factory import build_monitoring

    def run(home: Workspace, day: str, **form: Any) -> dict[str, str]:
        return run_dag(home, build=build_monitoring, day=day, **form).states

    return run


def told(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def notify(home: Workspace, *notifiers: tuple[str, dict[str, Any]]) -> None:
    on_incident = [{"notifier": name, "arguments": arguments} for name, arguments in notifiers]
    home.edit_spec({"notifications": {"on_incident": on_incident}})


def to_file(path: Path) -> tuple[str, dict[str, Any]]:
    text = "{{ incident.name }} since {{ incident.opened }}, {{ incident.day }}"
    return f"{HERE}.FileNotifier", {"path": str(path), "text": text}


def collapse(home: Workspace, day: str, share: float = 0.4) -> None:
    """A day on which that share of the answers turns out wrong."""
    rows = make_day(day, answer=champion_answers(home))
    write_predictions(home, day, rows)
    write_labels(home, day, flipped(rows, share))


# --- one message per incident -----------------------------------------------------------------


def test_a_collapse_over_three_days_is_one_message(
    home: Workspace, run_day: Callable[..., Any], tmp_path: Path
) -> None:
    notify(home, to_file(tmp_path / "told"))
    for day, share in zip(DAYS, (0, 0.4, 0.4, 0.4, 0, 0.4), strict=True):
        collapse(home, day, share)

    states = [run_day(home, day)["alert"] for day in DAYS]

    assert states == ["skipped", "success", "skipped", "skipped", "skipped", "success"]
    assert told(tmp_path / "told") == [
        f"alert: accuracy since {DAYS[1]}, {DAYS[1]}",
        f"alert: accuracy since {DAYS[5]}, {DAYS[5]}",
    ]


def test_the_measure_is_green_whatever_it_found_and_its_xcom_names_the_signed_report(
    home: Workspace, run_dag: Callable[..., Any]
) -> None:
    from retraining.digests import Digest
    from retraining.records import MonitoringReport
    from retraining_airflow.dag_factory import build_monitoring

    outcome = run_dag(home, build=build_monitoring, day=DAYS[0])

    assert outcome.states == {"measure": "success", "alert": "skipped"}
    result = home.steps().open_any("monitoring", Digest(outcome.xcom("measure")), MonitoringReport)
    assert [item.name for item in result.report.incidents] == ["missing:predictions"]


def test_a_day_that_was_done_is_skipped_and_what_is_due_is_told_all_the_same(
    home: Workspace, run_day: Callable[..., Any], tmp_path: Path
) -> None:
    home.steps().monitor(home.model, DAYS[0])  # no predictions; nobody was told
    notify(home, to_file(tmp_path / "told"))

    assert run_day(home, DAYS[0]) == {"measure": "skipped", "alert": "success"}
    assert told(tmp_path / "told") == [f"alert: missing:predictions since {DAYS[0]}, {DAYS[0]}"]


def test_without_a_day_yesterday_is_measured(home: Workspace, run_dag: Callable[..., Any]) -> None:
    from retraining_airflow.dag_factory import build_monitoring

    outcome = run_dag(home, build=build_monitoring)

    yesterday = outcome.dag_run.run_after.astimezone(UTC).date() - timedelta(days=1)
    assert home.steps().newest_monitored(home.model).day == str(yesterday)


def test_a_run_by_hand_needs_a_reason(home: Workspace, run_day: Callable[..., Any]) -> None:
    assert run_day(home, DAYS[0], reason="   ")["measure"] == "failed"
    assert home.steps().newest_monitored(home.model) is None


# --- services that are dead, deaf or wrong ----------------------------------------------------


def test_a_dead_mail_server_fails_no_task_and_the_next_day_sends(
    home: Workspace,
    run_day: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    notify(home, mail_to_on_call())
    connect_smtp(monkeypatch, port)

    dead = run_day(home, DAYS[0])
    with MailServer(port) as server:
        alive = run_day(home, DAYS[1])

    assert (dead["alert"], alive["alert"]) == ("success", "success")
    (mail,) = server.received
    assert mail["Subject"] == f"{home.model}: missing:predictions since {DAYS[0]}"
    assert (
        "no message on missing:predictions was sent (ConnectionRefusedError"
        in capsys.readouterr().out
    )


def test_one_service_that_took_it_is_enough_and_the_other_is_named(
    home: Workspace,
    run_day: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    notify(home, mail_to_on_call(), to_file(tmp_path / "told"))
    connect_smtp(monkeypatch, free_port())

    states = [run_day(home, day)["alert"] for day in DAYS[:2]]

    assert states == ["success", "skipped"]
    assert len(told(tmp_path / "told")) == 1
    assert f"{SMTP}: no message on missing:predictions was sent" in capsys.readouterr().out


def test_a_webhook_that_answers_with_an_error_did_not_take_the_message(
    home: Workspace, run_day: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    notify(home, (APPRISE, {"title": SUBJECT, "body": BODY}))
    with Webhook(status=503) as broken:
        connect_apprise(monkeypatch, broken.port)
        assert run_day(home, DAYS[0])["alert"] == "success"
    assert broken.received
    with Webhook() as working:
        connect_apprise(monkeypatch, working.port)
        run_day(home, DAYS[1])

    assert [item["title"] for item in working.received] == [
        f"{home.model}: missing:predictions since {DAYS[0]}"
    ]


def test_a_service_that_never_answers_is_left_after_a_minute(
    home: Workspace,
    run_day: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from retraining_airflow import notifications

    assert notifications._SECONDS_TO_SEND == 60
    monkeypatch.setattr(notifications, "_SECONDS_TO_SEND", 0.5)
    notify(home, mail_to_on_call())
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, says nothing
        connect_smtp(monkeypatch, silent.getsockname()[1])
        assert run_day(home, DAYS[0])["alert"] == "success"

    assert "was sent (AirflowTaskTimeout" in capsys.readouterr().out


def test_a_dead_service_is_asked_once_a_day_however_many_incidents_there_are(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    import logging

    from retraining.spec import NotificationPolicy
    from retraining_airflow.notifications import IncidentMessages

    broken = {"notifier": f"{HERE}.FileNotifier", "arguments": {"path": str(tmp_path / "no/such")}}
    policy = NotificationPolicy.model_validate({"on_incident": [broken]})
    messages = IncidentMessages(policy, logging.getLogger("task"))

    sent = [messages.send({"name": name}, {}) for name in ("accuracy", "recall")]  # type: ignore[typeddict-item]

    assert sent == [False, False]
    assert caplog.text.count("tried again on the next day") == 1
    assert "No message on recall was sent, either." in caplog.text


def test_a_notifier_that_cannot_be_built_is_named_before_anything_is_measured(
    home: Workspace, run_day: Callable[..., Any]
) -> None:
    notify(home, (f"{HERE}.Missing", {}))

    assert run_day(home, DAYS[0])["measure"] == "failed"
    assert home.steps().newest_monitored(home.model) is None


# --- really received --------------------------------------------------------------------------


def test_a_mail_is_received_with_what_was_seen_what_is_allowed_and_what_to_do(
    home: Workspace, run_day: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    collapse(home, DAYS[0])
    notify(home, mail_to_on_call())

    with MailServer(free_port()) as server:
        connect_smtp(monkeypatch, server.port)
        assert run_day(home, DAYS[0]) == {"measure": "success", "alert": "success"}

    (mail,) = server.received
    assert (mail["From"], mail["To"]) == ("monitoring@example.org", "on-call@example.org")
    assert mail["Subject"] == f"{home.model}: accuracy since {DAYS[0]}"
    text = mail.get_body(("html",)).get_content()
    assert text.startswith(f"{DAYS[0]}: 0.600 (0.544 to 0.654) over 300 rows; allowed: at least 0.")
    assert "If the newest promotion did this, take it back (rollback)" in text


def test_a_webhook_is_received(
    home: Workspace, run_day: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    collapse(home, DAYS[0])
    notify(home, (APPRISE, {"title": SUBJECT, "body": BODY}))

    with Webhook() as server:
        connect_apprise(monkeypatch, server.port)
        run_day(home, DAYS[0])

    (message,) = server.received
    assert message["title"] == f"{home.model}: accuracy since {DAYS[0]}"
    assert message["message"].startswith(f"{DAYS[0]}: 0.600 (0.544 to 0.654) over 300 rows")


def mail_to_on_call() -> tuple[str, dict[str, Any]]:
    return SMTP, {
        "from_email": "monitoring@example.org",
        "to": "on-call@example.org",
        "subject": SUBJECT,
        "html_content": BODY,
    }


def smtp_connection(port: int) -> dict[str, Any]:
    extra = {"disable_ssl": True, "disable_tls": True, "timeout": 30, "retry_limit": 1}
    return {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}


def connect_smtp(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(smtp_connection(port)))


def connect_apprise(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    service = {"path": f"json://127.0.0.1:{port}/alerts", "tag": "alerts"}
    connection = {"conn_type": "apprise", "extra": {"config": service}}
    monkeypatch.setenv("AIRFLOW_CONN_APPRISE_DEFAULT", json.dumps(connection))


class MailServer:
    """A real SMTP server that keeps what it is sent."""

    def __init__(self, port: int) -> None:
        from aiosmtpd.controller import Controller

        self.port = port
        self.received: list[EmailMessage] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=port)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        from email import message_from_bytes, policy

        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.received.append(mail)
        return "250 kept"

    def __enter__(self) -> "MailServer":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


class Webhook:
    """A real HTTP server that keeps the JSON that it is sent."""

    def __init__(self, status: int = 200) -> None:
        self.received: list[dict[str, Any]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                received.append(json.loads(self.rfile.read(length)))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Webhook":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# --- under a real scheduler -------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_the_form_and_the_schedule_measure_days_and_a_mail_arrives(
    airflow_server: AirflowServer,
) -> None:
    home = airflow_server.workspace.add_model("watched_filter", weeks=WEEKS[:1])
    add_traffic(home)
    notifier, arguments = mail_to_on_call()
    notify(home, (notifier, arguments | {"smtp_conn_id": "mail_of_a_test"}))
    home.edit_spec({"monitoring": {"schedule": None}})
    home.run_week(WEEKS[0])
    collapse(home, DAYS[0])
    dag_id = f"model_monitoring__{home.model}"
    with MailServer(free_port()) as server:
        connection = smtp_connection(server.port)
        airflow_server.as_user("admin").call(
            "POST",
            "connections",
            json=connection
            | {"connection_id": "mail_of_a_test", "extra": json.dumps(connection["extra"])},
        ).raise_for_status()
        airflow_server.wait_for_dag(dag_id)

        run_id = airflow_server.trigger(dag_id, day=DAYS[0])

        assert airflow_server.wait_for_run(dag_id, run_id) == "success"
        assert airflow_server.states(dag_id, run_id) == {"measure": "success", "alert": "success"}
        assert [mail["Subject"] for mail in server.received] == [
            f"{home.model}: accuracy since {DAYS[0]}"
        ]

        yesterday = str(datetime.now(UTC).date() - timedelta(days=1))
        collapse(home, yesterday, share=0)
        home.edit_spec({"monitoring": {"schedule": "* * * * *"}})
        eventually(lambda: home.steps().newest_monitored(home.model).day == yesterday, seconds=400)
        runs = airflow_server.get(f"dags/{dag_id}/dagRuns", run_type="scheduled")["dag_runs"]
        assert airflow_server.wait_for_run(dag_id, runs[0]["dag_run_id"]) == "success"
        airflow_server.wait_for_dag(dag_id, paused=True)

    newest = home.steps().newest_monitored(home.model)
    assert (newest.reason, newest.incidents, len(server.received)) == ("scheduled", (), 1)


# --- the DAG itself ---------------------------------------------------------------------------


def test_only_a_model_that_asks_for_it_is_monitored(home: Workspace) -> None:
    from retraining.spec import load_spec
    from retraining_airflow.dag_factory import build_monitoring
    from retraining_airflow.settings import DagSettings

    home.edit_spec({"monitoring": {"schedule": "0 2 * * *"}})
    spec = load_spec(home.spec_file)
    dag = build_monitoring(spec, DagSettings())

    assert dag is not None
    assert dag.dag_id == f"model_monitoring__{home.model}"
    assert dag.schedule == "0 2 * * *"
    assert dag.task_dict["alert"].upstream_task_ids == {"measure"}
    assert build_monitoring(spec.model_copy(update={"monitoring": None}), DagSettings()) is None


@pytest.mark.parametrize(
    ("day", "right"),
    [(None, True), ("", True), ("2026-02-14", True), ("2026-2-14", False), ("2026-02-14\n", False)],
)
def test_the_form_takes_a_day_or_none(home: Workspace, day: str | None, right: bool) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from retraining.spec import load_spec
    from retraining_airflow.dag_factory import build_monitoring
    from retraining_airflow.settings import DagSettings

    dag = build_monitoring(load_spec(home.spec_file), DagSettings())
    param = dag.params.get_param("day")

    if right:
        assert param.resolve(value=day) == day
    else:
        with pytest.raises(ParamValidationError):
            param.resolve(value=day)
