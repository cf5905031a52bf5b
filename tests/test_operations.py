"""What `operations.md` says is run, in its order, on a workspace with a history."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from retraining.chains import registry_chain
from retraining.digests import Digest
from retraining.records import RegistryEntry, ScreeningReport
from retraining.reviews import suspicious_rows
from retraining.settings import REPOSITORY, Settings
from retraining.steps import StepRunner, open_step_runner
from retraining.weekly import run_week
from tests.fixtures.workspace import WEEKS, Workspace, flip_labels, make_workspace

DOCUMENT = REPOSITORY / "include" / "docs" / "operations.md"
OURS = ".venv/bin/retraining"
LAST = WEEKS[2]


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def open_steps(settings: Settings) -> StepRunner:
    return open_step_runner(settings, run_id="r", requested_by="t", log=lambda _line: None)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two promoted weeks and one that the gate held, in a folder called `workspace`."""
    workspace = make_workspace(tmp_path_factory.mktemp("operations") / "workspace")
    for week in WEEKS[:2]:
        workspace.deliver(week)
    workspace.deliver(LAST, ["gateway"])
    workspace.deliver(LAST, ["feed"], change=flip_labels("spam", "ham", share=0.9))
    workspace.edit_spec({"sources": _stopping(workspace)})
    steps = open_steps(workspace.settings)
    verdicts = [run_week(steps, workspace.model, week).gate.report.verdict for week in WEEKS[:3]]
    assert verdicts == ["PROMOTE", "PROMOTE", "HOLD"]
    return workspace


def _stopping(workspace: Workspace) -> list[dict[str, object]]:
    import yaml

    sources = yaml.safe_load(workspace.spec_file.read_text())["sources"]
    return [source | {"on_refusal": "stop"} for source in sources]


def entries(workspace: Workspace) -> list[RegistryEntry]:
    steps = open_steps(workspace.settings)
    chain = registry_chain(steps.store, steps.trust, workspace.model)
    return [link.record for link in chain.load()]


def in_this_workspace(line: str, workspace: Workspace) -> list[str]:
    """The document speaks of the demo's model, weeks and digests; here they are others."""
    newest = entries(workspace)[-1].decision.hex[:12]
    held = next(entry for entry in entries(workspace) if entry.verdict == "HOLD").decision
    if "mail-20815" in line:
        line = line.replace("mail-20815", quarantined_row(workspace, held))
    said = {
        "spam_filter": workspace.model,
        "purchased_feed": "feed",
        "2026-W42": LAST,
        "7f3a9c": newest,
        "2b8d11": held.hex[:12],
    }
    for there, here in said.items():
        line = line.replace(there, here)
    return [str(REPOSITORY / OURS) if word == OURS else word for word in shlex.split(line)]


def quarantined_row(workspace: Workspace, decision: Digest) -> str:
    """The id of a row that screening held for what its scores say."""
    steps = open_steps(workspace.settings)
    screening = steps.decision(decision).attestation.inputs["screening"]
    report = steps.open_any("screening", screening, ScreeningReport).report
    found = suspicious_rows(steps.store, report)
    return next(
        name for name, reasons in sorted(found.items()) if "duplicate_row_id" not in reasons
    )


def test_every_command_of_the_document_works_in_its_order(
    history: Workspace, tmp_path: Path
) -> None:
    home = tmp_path / "workspace"
    shutil.copytree(history.home, home, symlinks=True)
    workspace = Workspace(home, history.model, Settings.load(home))
    environment = {**os.environ, **history.environment}
    environment |= {"RETRAINING_HOME": str(home), "RETRAINING_STORE": str(home / "store")}
    printed = {}
    assert len(commands()) >= 12
    for line in commands():
        done = subprocess.run(
            in_this_workspace(line, workspace),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        printed[line] = done.stdout

    assert [entry.verdict for entry in entries(workspace)] == [
        *("PROMOTE", "PROMOTE", "HOLD", "PROMOTE", "ROLLBACK")
    ]
    restored = next(said for line, said in printed.items() if "restored_store" in line and said)
    assert restored == printed[f"{OURS} verify"]  # the same verified registry
