"""What every test gets: the shared fixtures, and a session that says what it did not run.

A skipped test proves nothing, so each one is listed with its reason; with STRICT=1 in the
environment, as in CI, one skip fails the whole session.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# One fixture module may import another before pytest loads it as a plugin.
pytest.register_assert_rewrite("tests.fixtures")

_FIXTURES = Path(__file__).parent / "fixtures"
pytest_plugins = [
    f"tests.fixtures.{module.stem}"
    for module in sorted(_FIXTURES.glob("*.py"))
    if module.stem != "__init__"
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Servers first: their files have few tests and take long, and would be the last to end."""
    items.sort(key=lambda item: item.get_closest_marker("airflow") is None)


class _FilesTogether(LoadFileScheduling):
    """One worker has all files that use the Airflow server: idle, it takes a third of a core."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "airflow_server" if _uses_the_server(file) else file


@cache
def _uses_the_server(file: str) -> bool:
    return "airflow_server: AirflowServer" in (_FIXTURES.parents[1] / file).read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Keep a file's tests, and those of one server, in one worker."""
    return _FilesTogether(config, log) if config.getoption("dist") == "loadfile" else None


def _skips(config: pytest.Config) -> list[str]:
    """Return one line per skip, or none in a worker of xdist: its controller counts them all."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return []
    reports = reporter.stats.get("skipped", [])
    return sorted(f"{report.nodeid}: {report.longrepr[2]}" for report in reports)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a strict session that skipped anything."""
    passed = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if os.environ.get("STRICT") == "1" and passed and _skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it loudly, next to the closing line."""
    skips = _skips(terminalreporter.config)
    if not skips:
        return
    strict = os.environ.get("STRICT") == "1"
    verdict = "STRICT=1: a skip is a failure" if strict else "these tests did not run"
    terminalreporter.section(f"{len(skips)} skipped, {verdict}", sep="!", red=strict, yellow=True)
    for line in skips:
        terminalreporter.line(line)
