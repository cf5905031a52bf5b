"""`retraining monitor`: what a person at a shell sees."""

import json

import pytest
from typer.testing import CliRunner

from retraining.cli import app
from tests.fixtures.traffic import champion_answers, flipped, make_day, write_labels
from tests.fixtures.traffic import write_predictions as write
from tests.fixtures.workspace import Workspace

pytestmark = pytest.mark.slow  # a champion is trained

DAY = "2026-02-10"


def monitor(home: Workspace, *arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(
        app, ["--home", str(home.home), "monitor", home.model, "--day", DAY, *arguments]
    )
    return found.exit_code, found.output


def test_a_bad_day_is_shown_with_what_to_do_and_exits_with_0(home: Workspace) -> None:
    rows = make_day(DAY, answer=champion_answers(home))
    write(home, DAY, rows)
    write_labels(home, DAY, flipped(rows, 0.4))

    status, said = monitor(home, "--reason", "a test")

    assert status == 0
    (line,) = [line for line in said.splitlines() if line.startswith("│ accuracy")]
    assert "0.600 (0.544 to 0.654)" in line and "at least 0." in line and "breached" in line
    assert f"incident accuracy since {DAY}: 0.600" in said
    assert "take it back (rollback)" in said
    assert f"{home.model} version 1, {DAY}: 300 answers, 300 labelled" in said
    assert home.steps().newest_monitored(home.model).reason == "a test"

    assert monitor(home) == (0, f"{home.model} was monitored on {DAY} already.\n")


def test_json_is_the_report_and_its_attestation(home: Workspace) -> None:
    status, said = monitor(home, "--json")

    found = json.loads(said[said.index("{") :])
    assert status == 0
    assert found["attestation"].startswith("sha256:")
    assert [item["name"] for item in found["incidents"]] == ["missing:predictions"]


def test_what_is_wrong_is_one_line_and_exits_with_1(home: Workspace) -> None:
    home.edit_spec({"monitoring": None, "traffic": None})

    status, said = monitor(home)

    assert (status, said) == (
        1,
        f"retraining: {home.model} is not monitored; add `monitoring` to its pipeline file.\n",
    )
