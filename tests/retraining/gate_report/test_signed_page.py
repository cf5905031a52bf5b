"""The gate report of real weeks: named by the gate's record, and made again by an auditor."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retraining.cli import app
from retraining.digests import Digest
from retraining.errors import EvidenceError
from retraining.gate_report import HTML, JSON, open_decision, page_of
from retraining.recording import StepResult
from retraining.records import GateDecision
from retraining.store import open_store
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace

pytestmark = pytest.mark.slow  # whole weeks are run


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A promoted week, and one that nobody delivered."""
    workspace = make_workspace(tmp_path_factory.mktemp("story") / "workspace")
    workspace.deliver(WEEKS[0])
    for week in WEEKS[:2]:
        workspace.run_week(week)
    assert [entry.verdict for entry in workspace.registry()] == ["PROMOTE", "HOLD"]
    return workspace


def decision_of(workspace: Workspace, place: int) -> StepResult[GateDecision]:
    decided: StepResult[GateDecision] = workspace.steps().decision(
        workspace.registry()[place].decision
    )
    return decided


def report(home: Path, decision: str, out: Path, *options: str) -> Result:
    command = ["--home", str(home), "gate-report", decision, "--out", str(out), *options]
    return CliRunner().invoke(app, command)


@pytest.mark.parametrize("place", [0, 1], ids=["promoted", "held"])
def test_an_auditor_makes_the_very_bytes_that_the_gate_signed(
    story: Workspace, place: int, tmp_path: Path
) -> None:
    """With a copy of the store and the root's public key, in another place."""
    signed = decision_of(story, place).attestation
    shutil.copytree(story.settings.store, tmp_path / "copy")
    root_key = shutil.copy(story.settings.root_key, tmp_path / "root.pub.json")
    for name, file in ((HTML, tmp_path / "a.html"), (JSON, tmp_path / "a.json")):
        options = ("--store", str(tmp_path / "copy"), "--root-key", root_key)
        done = report(tmp_path / "elsewhere", signed.digest.hex[:12], file, *options)
        assert done.exit_code == 0, done.output
        assert "byte for byte" in done.output.replace("\n", " ")
        assert Digest.of(file.read_bytes()) == signed.artefacts[name]


def test_the_page_says_what_the_decision_says(story: Workspace, tmp_path: Path) -> None:
    decision = decision_of(story, 0)
    report(story.home, decision.attestation.digest, tmp_path / "a.json")
    said = json.loads((tmp_path / "a.json").read_bytes())
    assert said["decision"] == decision.attestation.report
    assert {check["name"] for check in said["checks"]} == {c.name for c in decision.report.checks}
    recorded = {record["name"]: record["attestation"] for record in said["records"]}
    assert recorded == decision.attestation.inputs
    rows = {source["batch"]["source"]: source["n_rows"] for source in said["sources"]}
    assert rows == {"feed": 150, "gateway": 250}


def test_a_week_that_nobody_can_approve_asks_nobody(story: Workspace, tmp_path: Path) -> None:
    """One was promoted; the other is held and has no challenger."""
    for place in (0, 1):
        report(story.home, decision_of(story, place).attestation.digest, tmp_path / "a.html")
        assert "retraining approve" not in (tmp_path / "a.html").read_text()


def test_the_commands_on_the_page_verify_a_record_with_openssl_alone(
    story: Workspace, tmp_path: Path
) -> None:
    if missing := [tool for tool in ("bash", "openssl", "jq") if not shutil.which(tool)]:
        pytest.skip(f"not installed: {missing}")
    decision = decision_of(story, 0).attestation
    report(story.home, decision.digest, tmp_path / "a.html")
    found = re.search(
        r'<pre id="openssl">(.*?)</pre>', (tmp_path / "a.html").read_text(), re.DOTALL
    )
    assert found
    commands = unescape(found.group(1))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=story.settings.store,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Signature Verified Successfully" in done.stdout
    assert decision.inputs["screening"].hex in done.stdout
    forged = commands.replace("DSSEv1 28", "DSSEv1 29")
    refused = subprocess.run(["bash", "-c", forged], cwd=story.settings.store, capture_output=True)
    assert b"Signature Verified Successfully" not in refused.stdout


def test_a_page_that_another_release_drew_is_said_to_be_another(
    story: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retraining.gate_report.render", lambda _page: b"<!doctype html>")
    done = report(story.home, decision_of(story, 0).attestation.digest, tmp_path / "a.html")
    assert done.exit_code == 0
    assert "not the bytes that promoter signed" in done.stderr.replace("\n", " ")


def test_a_record_that_was_exchanged_is_shown_on_no_page(story: Workspace, tmp_path: Path) -> None:
    copy = story.copied(tmp_path / "copy")
    signed = decision_of(copy, 0).attestation
    folder = Path(copy.settings.store) / "attestations"
    names = [f"{signed.inputs[step].hex}.dsse.json" for step in ("validation", "screening")]
    shutil.copyfile(folder / names[1], folder / names[0])
    steps = copy.steps()
    opened = open_decision(steps.store, steps.trust, signed.digest)
    with pytest.raises(EvidenceError, match="exchanged"):
        page_of(steps.store, opened.trust, opened.people, opened.gate.report, signed.inputs)


def test_what_is_no_decision_has_no_page(story: Workspace, tmp_path: Path) -> None:
    screening = decision_of(story, 0).attestation.inputs["screening"]
    done = report(story.home, screening, tmp_path / "a.html")
    assert done.exit_code == 1
    assert "attestation of screening, expected a gate's decision" in done.stderr.replace("\n", " ")
    assert not (tmp_path / "a.html").exists()


def test_the_store_keeps_the_page(story: Workspace) -> None:
    store = open_store(story.settings.store)
    named = decision_of(story, 1).attestation.artefacts
    assert store.get(named[HTML]).startswith(b"<!doctype html>")
    assert json.loads(store.get(named[JSON]))["verdict"] == "HOLD"
