"""`retraining verify`: with public keys only, everything that was concluded, or one sentence."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retraining.audit import audit
from retraining.chains import registry_chain
from retraining.cli import app
from retraining.digests import Digest
from retraining.errors import RetrainingError
from retraining.evidence import public_key_of
from retraining.evidence.keys import signer_from_file
from retraining.registry import HeadMemory, Registry
from retraining.step_requests import code_version
from retraining.store import open_store
from retraining.trust_history import TrustHistory
from tests.fixtures.workspace import WEEKS, Workspace, flip_labels, make_workspace

pytestmark = pytest.mark.slow  # whole weeks are run

FIRST, SECOND, THIRD = WEEKS[:3]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two promoted weeks and a refused one."""
    workspace = make_workspace(tmp_path_factory.mktemp("audit") / "workspace", weeks=WEEKS[:2])
    workspace.deliver(THIRD, change=flip_labels("spam", "ham", share=1.0))
    for week in WEEKS[:3]:
        result = verify_command(workspace, "run", workspace.model, "--week", week)
        assert result.exit_code in (0, 2, 3), result.output
    assert [entry.verdict for entry in workspace.registry()][:2] == ["PROMOTE", "PROMOTE"]
    assert workspace.registry()[2].verdict != "PROMOTE"
    yield workspace


@pytest.fixture
def copy(story: Workspace, tmp_path: Path) -> Path:
    """A copy of the store, as an auditor gets it."""
    return Path(shutil.copytree(story.settings.store, tmp_path / "exported"))


def verify_command(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["--home", str(workspace.home), *arguments], env=workspace.environment
    )


def audited(store: Path, root_key: Path, memory: HeadMemory | None = None) -> list[str]:
    """Verdicts of all entries; raises at the first thing that does not hold."""
    opened = open_store(store)
    trust = TrustHistory.load(opened, public_key_of(root_key, "root"))
    return [found.link.record.verdict for found in audit(opened, trust, memory=memory)]


def promised(story: Workspace, name: str) -> Path:
    """Where the blob of that digest lies in a store folder."""
    hexadecimal = name.removeprefix("sha256:")
    return Path("blobs") / "sha256" / hexadecimal[:2] / hexadecimal


def test_an_honest_store_verifies_whole(story: Workspace) -> None:
    shown = verify_command(story, "verify")
    assert shown.exit_code == 0, shown.output
    assert "Verified: 3 concluded weeks" in shown.output
    assert [
        line.split("│")[2].strip() for line in shown.output.splitlines() if "2026-W" in line
    ] == [
        FIRST,
        SECOND,
        THIRD,
    ]


def test_an_auditor_needs_a_copy_and_the_public_root_key_only(
    story: Workspace, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "root.pub.json").write_bytes(story.settings.root_key.read_bytes())
    program = (
        "import sys\n"
        "for name in ('airflow', 'boto3', 'botocore', 'mlflow'): sys.modules[name] = None\n"
        "from retraining.cli import app; app()"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "--home", str(tmp_path / "nothing"), "verify"),
            *("--store", str(copy), "--root-key", str(tmp_path / "root.pub.json")),
        ],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "Verified: 3 concluded weeks" in done.stdout


def test_verifying_writes_nothing(story: Workspace, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert len(audited(copy, story.settings.root_key)) == 3
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_a_swapped_byte_in_any_named_artefact_is_found(story: Workspace, copy: Path) -> None:
    entry = story.registry()[1]
    accepted = next(batch.accepted for batch in entry.batches if batch.accepted)
    decision = json.loads(verify_command(story, "show", entry.decision, "--json").stdout)
    named = {
        "champion": entry.champion,
        "accepted rows": accepted,
        "spec": entry.spec,
        "decision": decision["artefacts"]["report"],
    }
    for what, digest in named.items():
        blob = copy / promised(story, str(digest))
        honest = blob.read_bytes()
        blob.chmod(0o600)
        blob.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
        with pytest.raises(RetrainingError):
            audited(copy, story.settings.root_key)
            pytest.fail(f"nobody noticed that the {what} was changed")
        blob.write_bytes(honest)
    assert len(audited(copy, story.settings.root_key)) == 3


@pytest.mark.parametrize("number", [1, 2])
def test_an_entry_taken_out_is_found(story: Workspace, copy: Path, number: int) -> None:
    (copy / "registry" / story.model / f"{number:010d}.dsse.json").unlink()
    with pytest.raises(RetrainingError, match="was taken out"):
        audited(copy, story.settings.root_key)


def test_the_newest_entry_taken_away_is_found_by_memory_alone(
    story: Workspace, copy: Path, tmp_path: Path
) -> None:
    opened = open_store(copy)
    trust = TrustHistory.load(opened, public_key_of(story.settings.root_key, "root"))
    memory = HeadMemory(tmp_path / "memory")
    memory.remember(Registry(story.model, tuple(registry_chain(opened, trust, story.model).load())))
    (copy / "registry" / story.model / "0000000003.dsse.json").unlink()
    assert audited(copy, story.settings.root_key) == ["PROMOTE", "PROMOTE"]  # a chain can't tell
    with pytest.raises(RetrainingError, match="shortened"):
        audited(copy, story.settings.root_key, memory)


def test_a_missing_ledger_entry_is_found(story: Workspace, copy: Path) -> None:
    (copy / "ledger" / story.model / "0000000001.dsse.json").unlink()
    with pytest.raises(RetrainingError, match="was taken out"):
        audited(copy, story.settings.root_key)


def test_the_ledger_of_a_model_without_a_concluded_week_is_looked_at_too(
    story: Workspace, copy: Path
) -> None:
    (copy / "ledger" / "newcomer").mkdir()
    (copy / "ledger" / "newcomer" / "0000000001.dsse.json").write_bytes(b"{}")
    with pytest.raises(RetrainingError, match="newcomer"):
        audited(copy, story.settings.root_key)


@pytest.mark.parametrize(
    "lie",
    [
        {"verdict": "PROMOTE", "version": 3},
        {"champion": "sha256:" + "0" * 64},
        {"batches": ()},
        {"week": WEEKS[3]},
    ],
    ids=["verdict", "champion", "batches", "week"],
)
def test_an_entry_that_its_decision_does_not_lead_to_is_found(
    story: Workspace, copy: Path, lie: dict[str, object]
) -> None:
    """Whoever holds the promoter's key can sign anything; an auditor derives the entry again."""
    opened = open_store(copy)
    trust = TrustHistory.load(opened, public_key_of(story.settings.root_key, "root"))
    chain = registry_chain(opened, trust, story.model)
    entry = chain.load()[2].record
    forged = type(entry).model_validate(entry.model_dump() | lie)
    (copy / "registry" / story.model / "0000000003.dsse.json").unlink()
    signer = signer_from_file(story.settings.keys / "promoter.pem", "promoter")
    chain.append(forged, signer)
    with pytest.raises(RetrainingError, match=f"{story.model} entry 3"):
        audited(copy, story.settings.root_key)


def test_the_wrong_root_key_verifies_nothing(story: Workspace, tmp_path: Path) -> None:
    other = make_workspace(tmp_path / "other")
    shown = verify_command(story, "verify", "--root-key", str(other.settings.root_key))
    assert shown.exit_code == 1
    assert "No valid signature" in shown.stderr
    assert "Verified" not in shown.output


def by_the_next_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "retraining.verify.chain.code_version", lambda: Digest.of(b"the next release")
    )


def test_what_another_release_decided_is_verified_and_said_not_to_be_run_again(
    story: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_the_next_release(monkeypatch)

    result = verify_command(story, "verify")

    assert result.exit_code == 0, result.output
    assert f"3 of the decisions were made by the code {code_version().hex[:12]}" in result.output
    assert "Verified: 3 concluded weeks" in result.output


def test_the_same_release_runs_every_gate_again(story: Workspace) -> None:
    assert "were made by the code" not in verify_command(story, "verify").output


def test_what_was_changed_since_another_release_is_still_found(
    story: Workspace, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_the_next_release(monkeypatch)
    accepted = story.registry()[0].batches[0].accepted
    assert accepted is not None
    path = next(copy.rglob(f"*{accepted.hex}*"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(RetrainingError, match="hash"):
        audited(copy, story.settings.root_key)
