"""`retraining feedback`: the same step without Airflow."""

import json

import pytest
from typer.testing import CliRunner, Result

from retraining.chains import feedback_chain
from retraining.cli import app
from tests.fixtures.workspace import MODEL, Workspace
from tests.retraining.feedback.weeks import WEEK, make_feedback_workspace, say_a_week, write_lines

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Weeks that build on one another: the tests of this module run in their order."""
    return make_feedback_workspace(tmp_path_factory.mktemp("cli") / "workspace")


def call(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["--home", str(workspace.home), *arguments], env=workspace.environment
    )


def test_nothing_to_do_is_said_and_is_no_failure(workspace: Workspace) -> None:
    result = call(workspace, "feedback", MODEL, "--week", WEEK)

    assert (result.exit_code, "Nobody said anything" in result.output) == (0, True)
    said = call(workspace, "feedback", MODEL, "--week", WEEK, "--json").stdout
    assert json.loads(said)["nothing_to_do"].startswith("Nobody said anything")


def test_a_closed_week_is_shown_in_counts(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    write_lines(workspace, WEEK, ["{"], "broken.jsonl")
    (workspace.home / "said" / WEEK / "notes.txt").write_text("hello")

    result = call(workspace, "feedback", MODEL, "--week", WEEK)

    assert result.exit_code == 0, result.output
    assert (
        f"{MODEL} {WEEK}: 50 items closed as batch 1, by 200 votes of 241 lines." in result.output
    )
    assert "lines set aside: bad_json 1" in result.output
    assert f"refused: {WEEK}/notes.txt: The file does not end in .jsonl" in result.output
    assert "traffic-" not in result.output  # no item


def test_once_more_names_the_batch(workspace: Workspace) -> None:
    result = call(workspace, "feedback", MODEL, "--week", WEEK)

    assert (result.exit_code, "is closed already: batch 1" in result.output) == (0, True)


def test_a_week_that_does_not_exist_is_one_line(workspace: Workspace) -> None:
    result = call(workspace, "feedback", MODEL, "--week", "2026-99")

    assert result.exit_code == 1
    assert "expected one such as 2026-W07" in result.stderr


def test_what_is_on_record_can_be_shown(workspace: Workspace) -> None:
    steps = workspace.steps()
    (link,) = feedback_chain(steps.store, steps.trust, MODEL).load()

    for digest, kind in ((link.digest, "feedback entry"), (link.record.attestation, "feedback")):
        result = call(workspace, "show", digest)
        assert result.exit_code == 0, result.output
        assert kind in result.output
