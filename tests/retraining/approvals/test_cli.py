"""`retraining approve` and `promote`, as a person types them."""

import json
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retraining.cli import app
from retraining.records import ScreeningReport
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace
from tests.retraining.approvals.cases import (
    TOO_FEW_ROWS,
    WHY,
    add_people,
    approve,
    decision_of,
    key_of,
)

pytestmark = pytest.mark.slow  # whole weeks are run


def call(workspace: Workspace, *words: str) -> Any:
    return CliRunner().invoke(
        app, ["--home", str(workspace.home), *words], env=workspace.environment
    )


def did(workspace: Workspace, *words: str) -> str:
    done = call(workspace, *words)
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def on_page(page: Path) -> list[str]:
    """The commands that the gate report says, line by line."""
    found = re.search(r'<pre id="approve">(.*?)</pre>', page.read_text(), re.DOTALL)
    assert found
    return unescape(found.group(1)).splitlines()


def test_two_reviewers_approve_and_the_promoter_promotes(tmp_path: Path) -> None:
    spec = TOO_FEW_ROWS | {"approval": {"reviewers": 2}}
    held = make_workspace(tmp_path / "workspace", spec=spec, weeks=WEEKS[:1])
    add_people(held)
    said = call(held, "run", held.model, "--week", WEEKS[0])
    decision = decision_of(held)
    assert said.exit_code == 2
    assert f"or approve it: retraining approve {decision} --key KEY --why WHY" in said.stdout

    page = held.home / "page.html"
    did(held, "gate-report", decision, "--out", str(page))
    (typed,) = on_page(page)
    assert "2 reviewers, each with a key of his own" in page.read_text()
    by_anna = shlex.split(typed.replace("WHY", f"'{WHY}'"))
    by_anna[by_anna.index("KEY")] = str(key_of(held, "anna"))
    first = did(held, *by_anna[1:])
    digits = decision.hex[:12]
    assert "HOLD holdout rows: found 400 rows; allowed: at least 401" in first
    assert "Approved by anna until" in first
    assert "Still needed, with the key of somebody else: retraining approve sha256:" in first
    early = call(held, "promote", digits)
    assert early.exit_code == 1 and "1 more reviewer would have to sign" in early.stderr

    options = ["--why", WHY, "--key", str(key_of(held, "ben")), "--expires-hours", "1", "--json"]
    second = json.loads(did(held, "approve", digits, *options))
    assert (second["approver"], second["complete"]) == ("ben", True)
    assert "version 1 serves (2026-W05, approved by 2)" in did(held, "promote", digits)
    assert "byte for byte" in did(held, "gate-report", decision, "--out", str(page))
    verified = did(held, "verify")
    assert "2 approvals of" in verified
    for table in (verified, did(held, "champions", held.model)):
        assert "PROMOTE, approved" in table and "HOLD" in table
    shown = did(held, "show", second["digest"])
    assert "approval" in shown and "Signed by ben, reviewer of trust list" in shown


def test_an_owner_signs_the_pipeline_file_and_the_held_week_goes_on(served: Workspace) -> None:
    served.edit_spec({"gate": {"margin": 0.09}})
    said = call(served, "run", served.model, "--week", WEEKS[1])
    assert f"or approve it: retraining approve --spec {served.model} --key KEY" in said.stdout
    key = ["--key", str(key_of(served, "olga"))]
    page = served.home / "page.html"
    did(served, "gate-report", decision_of(served), "--out", str(page))
    assert on_page(page) == [f"retraining approve --spec {served.model} --key KEY --why WHY"]

    signed = did(served, "approve", "--spec", served.model, "--why", WHY, *key)

    decision = decision_of(served)
    assert "olga answers for the pipeline file sha256:" in signed
    assert f"retraining promote {decision}" in signed
    assert "version 2 serves" in did(served, "promote", decision)


def test_a_file_that_no_week_waits_for_is_for_the_next_run(served: Workspace) -> None:
    served.edit_spec({"gate": {"margin": 0.09}})
    key = ["--key", str(key_of(served, "olga"))]

    assert "The next run takes it along" in did(
        served, "approve", "--spec", str(served.spec_file), "--why", WHY, *key
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "either a decision or --spec"),
        (["abcdef012345", "--spec", "small_filter"], "either a decision or --spec"),
        (["--spec", "small_filter", "--expires-hours", "3"], "has no expiry"),
        (["abcdef012345"], "No record in"),
        (["zz"], "expected a digest"),
    ],
)
def test_what_is_typed_wrongly_is_said(held: Workspace, words: list[str], why: str) -> None:
    done = call(held, "approve", *words, "--why", WHY)
    assert done.exit_code == 1 and why in done.stderr


def test_another_record_is_no_decision(held: Workspace) -> None:
    link = approve(held)
    screening = held.steps().decision(decision_of(held)).attestation.inputs["screening"]
    report = held.steps().open_any("screening", screening, ScreeningReport).attestation.report
    for unknown in (report, held.steps().store.put(b'{"model": "../trust"}')):
        done = call(held, "approve", unknown, "--why", WHY)
        assert done.exit_code == 1
        assert "names artefact, expected a gate's decision" in done.stderr.replace("\n", " ")
    for command in (["approve", link.digest.hex[:12], "--why", WHY], ["promote", link.digest.hex]):
        done = call(held, *command)
        assert done.exit_code == 1
        assert "names approval, expected a gate's decision" in done.stderr.replace("\n", " ")


def test_without_a_key_it_is_the_installations_own(held: Workspace) -> None:
    decision = decision_of(held)
    done = call(held, "approve", decision, "--why", WHY)
    assert done.exit_code == 1 and "reviewer.pem is missing" in done.stderr
    done = call(held, "approve", "--spec", held.model, "--why", WHY)
    assert done.exit_code == 1 and "owner.pem is missing" in done.stderr
