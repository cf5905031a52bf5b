"""A forger hands in batches that the provider did not sign; a replayer hands in old ones."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from retraining.weekly import DecidedWeek, run_week, screen_week
from tests.fixtures.workspace import MODEL, WEEKS, Workspace

pytestmark = pytest.mark.slow  # each test runs whole weeks
FIRST, SECOND = WEEKS[:2]


def run(workspace: Workspace, week: str) -> DecidedWeek:
    return run_week(workspace.steps(), workspace.model, week)


def refusal_code(workspace: Workspace, source: str, week: str) -> str | None:
    screened = screen_week(workspace.steps(), MODEL, week)
    for batch in screened.screening.report.batches:
        if batch.batch.source == source and batch.batch.week == week:
            assert (batch.accepted is None) == (batch.refusal is not None)
            return batch.refusal.code if batch.refusal else None
    raise AssertionError(f"screening is silent about {source} {week}")


def unsigned(workspace: Workspace) -> None:
    (workspace.folder("feed", SECOND) / "batch.dsse.json").unlink()


def other_key(workspace: Workspace) -> None:
    workspace.sign("feed", SECOND, key="gateway")


def one_byte_changed(workspace: Workspace) -> None:
    path = workspace.folder("feed", SECOND) / "rows.csv"
    path.write_bytes(path.read_bytes().replace(b"spam\n", b"ham\n", 1))


def file_added(workspace: Workspace) -> None:
    folder = workspace.folder("feed", SECOND)
    shutil.copy(folder / "rows.csv", folder / "more.csv")


def file_removed_and_another_in_its_name(workspace: Workspace) -> None:
    folder = workspace.folder("feed", SECOND)
    shutil.copy(folder / "rows.csv", folder / "more.csv")
    workspace.sign("feed", SECOND)
    (folder / "more.csv").unlink()


def last_weeks_batch_as_this_weeks(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder("feed", SECOND))
    shutil.copytree(workspace.folder("feed", FIRST), workspace.folder("feed", SECOND))


def another_sources_batch(workspace: Workspace) -> None:
    # Signed by its own provider, for its own data set, but handed in elsewhere.
    folder = workspace.folder("feed", SECOND)
    shutil.copy(workspace.folder("gateway", SECOND) / "batch.dsse.json", folder)


def old_sequence(workspace: Workspace) -> None:
    workspace.sign("feed", SECOND, sequence=1)


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (unsigned, "unsigned"),
        (other_key, "bad_signature"),
        (one_byte_changed, "changed_files"),
        (file_added, "extra_files"),
        (file_removed_and_another_in_its_name, "missing_files"),
        (last_weeks_batch_as_this_weeks, "wrong_week"),
        (another_sources_batch, "bad_signature"),
        (old_sequence, "replayed_sequence"),
    ],
)
def test_a_batch_that_its_provider_did_not_hand_in_is_not_used(
    workspace: Workspace, attack: Callable[[Workspace], None], code: str
) -> None:
    assert run(workspace, FIRST).entry is not None
    attack(workspace)
    assert refusal_code(workspace, "feed", SECOND) == code


def test_a_week_that_is_a_link_to_our_keys_is_not_followed(workspace: Workspace) -> None:
    """The folder above `{week}` is ours; what the provider puts below it may lead nowhere else."""
    sources = yaml.safe_load(workspace.spec_file.read_text())["sources"]
    feed = {**sources[1], "uri": f"{sources[1]['uri']}/out", "signature": "none", "key_id": None}
    workspace.edit_spec({"sources": [sources[0], feed]})
    folder = workspace.folder("feed", FIRST)
    elsewhere = workspace.home / "keys" / "out"
    shutil.copytree(folder, elsewhere)
    (elsewhere / "batch.dsse.json").unlink()
    shutil.rmtree(folder)
    folder.symlink_to(workspace.home / "keys")
    assert refusal_code(workspace, "feed", FIRST) == "symlink"


def test_a_forged_batch_of_a_source_that_we_need_holds_the_week(workspace: Workspace) -> None:
    path = workspace.folder("gateway", FIRST) / "rows.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    outcome = run(workspace, FIRST)
    assert outcome.entry is None and outcome.training is None
    assert outcome.gate.report.verdict == "HOLD"
    assert any("gateway" in check.observed for check in outcome.gate.report.failed())
    assert [entry.verdict for entry in workspace.registry()] == ["HOLD"]


def test_a_forged_batch_of_a_source_that_may_be_left_out_is_left_out(workspace: Workspace) -> None:
    unsigned_first = workspace.folder("feed", FIRST) / "batch.dsse.json"
    unsigned_first.unlink()
    outcome = run(workspace, FIRST)
    assert outcome.entry is not None
    (entry,) = workspace.registry()
    assert {b.batch.source: b.refusal_code for b in entry.batches} == {
        "gateway": None,
        "feed": "unsigned",
    }


@pytest.mark.control
def test_the_corrected_delivery_is_taken_on_the_second_run(workspace: Workspace) -> None:
    manifest = workspace.folder("gateway", FIRST) / "batch.dsse.json"
    kept = manifest.read_bytes()
    manifest.write_bytes(b"garbage")
    assert run(workspace, FIRST).gate.report.verdict == "HOLD"
    manifest.write_bytes(kept)
    second = run(workspace, FIRST)
    assert second.gate.report.verdict == "PROMOTE"
    assert [entry.attempt for entry in workspace.registry()] == [1, 2]


def test_bytes_that_change_after_the_check_change_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    steps = workspace.steps()
    run_digest = steps.pin(MODEL, FIRST).attestation.digest
    ingested = {s: steps.ingest(run_digest, s)[0].attestation.digest for s in ("gateway", "feed")}
    checked = [steps.verify_provenance(run_digest, [d])[0] for d in ingested.values()]
    before = steps.screen(run_digest, [c.attestation.digest for c in checked]).report
    shutil.rmtree(workspace.home / "inbox")  # nobody looks at the inbox again
    other = workspace.steps().screen(run_digest, [c.attestation.digest for c in checked])
    assert other.report == before and other.reused
