"""What every step does around its conclusion: pinning, reuse, the ledger, leaving sources out."""

import datetime
import shutil
from pathlib import Path

import pytest

from retraining import step_requests
from retraining.chains import ledger_chain
from retraining.digests import Digest
from retraining.errors import (
    ChainBrokenError,
    ConfigError,
    NothingToDo,
    RegistryMovedError,
    SpecError,
    TrainerError,
)
from retraining.evidence import TrustedKey, public_key_of, sign_trust_list, signer_from_file
from retraining.registry import next_week, week_of
from retraining.store import open_store
from retraining.trust_history import TrustHistory
from retraining.weekly import DecidedWeek, run_week, screen_week
from tests.fixtures.s3 import S3Server
from tests.fixtures.workspace import MODEL, WEEKS, Workspace, flip_labels, make_workspace

pytestmark = pytest.mark.slow  # each test runs whole weeks
FIRST, SECOND, THIRD = WEEKS[:3]


def run(workspace: Workspace, week: str, *left_out: str) -> DecidedWeek:
    return run_week(workspace.steps(), workspace.model, week, left_out=left_out)


def charges(workspace: Workspace) -> int:
    store = open_store(workspace.settings.store)
    trust = TrustHistory.load(store, public_key_of(workspace.settings.root_key, "root"))
    return len(ledger_chain(store, trust, workspace.model).load())


def test_two_clean_weeks_are_promoted_and_a_poisoned_one_is_not(workspace: Workspace) -> None:
    assert run(workspace, FIRST).entry is not None
    second = run(workspace, SECOND)
    assert second.validation is not None and second.validation.report.champion is not None
    workspace.edit_spec({"sources": _stopping(workspace)})
    workspace.deliver(THIRD, change=flip_labels("spam", "ham", share=0.7))
    poisoned = run(workspace, THIRD)
    assert poisoned.training is None and poisoned.gate.report.verdict == "HOLD"
    verdicts = [(entry.week, entry.verdict, entry.version) for entry in workspace.registry()]
    assert verdicts == [(FIRST, "PROMOTE", 1), (SECOND, "PROMOTE", 2), (THIRD, "HOLD", 2)]


def _stopping(workspace: Workspace) -> list[dict[str, object]]:
    import yaml

    sources = yaml.safe_load(workspace.spec_file.read_text())["sources"]
    return [{**source, "on_refusal": "stop"} for source in sources]


def test_the_same_week_again_has_nothing_to_do(workspace: Workspace) -> None:
    run(workspace, FIRST)
    with pytest.raises(NothingToDo, match="promoted already"):
        workspace.steps().pin(MODEL, FIRST)


def test_a_week_in_the_future_is_refused(workspace: Workspace) -> None:
    coming = next_week(week_of(datetime.datetime.now(datetime.UTC).date()))
    with pytest.raises(ConfigError, match="future"):
        workspace.steps().pin(MODEL, coming)


def test_no_step_of_a_dry_run_is_done_twice(workspace: Workspace) -> None:
    first = run_week(workspace.steps(), MODEL, FIRST, dry_run=True)
    again = run_week(workspace.steps(), MODEL, FIRST, dry_run=True)
    assert first.training is not None and again.training is not None
    for step in (*again.screened.ingest, *again.screened.provenance, again.screened.screening):
        assert step.reused
    assert again.training.reused and again.validation is not None and again.validation.reused
    assert not again.gate.reused  # the gate decides each time
    assert charges(workspace) == 1


def test_reports_are_the_same_wherever_a_week_is_run(tmp_path: Path) -> None:
    """Same bytes, same keys, another store: the digests up to screening agree."""
    one = make_workspace(tmp_path / "one", weeks=[FIRST])
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    other = Workspace(tmp_path / "two", MODEL, one.settings.load(tmp_path / "two"))
    found = [screen_week(w.steps(), MODEL, FIRST) for w in (one, other)]
    digests = [
        [r.attestation.report for r in (*week.ingest, *week.provenance, week.screening)]
        for week in found
    ]
    assert digests[0] == digests[1]
    assert found[0].screening.attestation.digest != found[1].screening.attestation.digest


def test_a_source_left_out_by_hand_is_on_record(workspace: Workspace) -> None:
    outcome = run(workspace, FIRST, "feed")
    assert outcome.screened.run.report.left_out == ("feed",)
    (entry,) = workspace.registry()
    assert [batch.batch.source for batch in entry.batches] == ["gateway"]
    with pytest.raises(SpecError, match="no source 'stranger'"):
        workspace.steps().pin(MODEL, SECOND, left_out=["stranger"])
    with pytest.raises(ConfigError, match="keep one at least"):
        workspace.steps().pin(MODEL, SECOND, left_out=["gateway", "feed"])


def test_leaving_sources_out_does_not_get_round_the_share_caps(workspace: Workspace) -> None:
    capped = [{**source, "max_share_of_batch": 0.8} for source in _stopping(workspace)]
    workspace.edit_spec({"sources": capped})
    outcome = run(workspace, FIRST, "feed")
    assert outcome.gate.report.verdict == "HOLD"
    assert any("share" in check.name for check in outcome.gate.report.failed())


def test_a_held_week_is_looked_at_again_by_the_next_run(workspace: Workspace) -> None:
    run(workspace, FIRST)
    champions = workspace.spec_file.read_text()
    workspace.edit_spec({"gate": {"limits": {"accuracy": {"min": 0.0, "max": 0.1}}}})
    assert run(workspace, SECOND).gate.report.verdict == "REJECT"
    workspace.spec_file.write_text(champions)  # nobody has to sign what is as it was
    third = run(workspace, THIRD)
    assert third.screened.run.report.weeks == (SECOND, THIRD)
    assert third.entry is not None
    weeks = {b.batch.week for b in third.entry.record.batches if b.accepted}
    assert weeks == {SECOND, THIRD}


def test_a_run_goes_on_with_the_spec_that_it_pinned(workspace: Workspace) -> None:
    steps = workspace.steps()
    pinned = steps.pin(MODEL, FIRST).attestation.digest
    workspace.edit_spec({"owner": "somebody-else@example.org"})
    assert steps.pinned(pinned).spec.owner == "mail-security@example.org"


def test_a_changed_reference_set_is_noticed(workspace: Workspace) -> None:
    path = workspace.home / "data" / "reference.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ConfigError, match="spec pins"):
        workspace.steps().pin(MODEL, FIRST)


def test_a_run_is_started_again_after_an_upgrade(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = workspace.steps().pin(MODEL, FIRST).attestation.digest
    monkeypatch.setattr("retraining.steps.workbench.code_version", lambda: Digest.of(b"other code"))
    with pytest.raises(RegistryMovedError, match="code changed"):
        workspace.steps().ingest(pinned, "gateway")


def test_the_code_version_covers_sources_and_locks() -> None:
    assert step_requests.code_version() == step_requests.code_version()
    assert step_requests.code_version() != Digest.of(b"")


def test_a_training_that_was_killed_is_charged_and_so_is_the_next(
    workspace: Workspace, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-trainer"
    broken.write_text("#!/bin/sh\nkill -9 $$\n")
    broken.chmod(0o755)
    good = workspace.settings
    workspace.settings = good.model_copy(update={"trainer_python": broken})
    with pytest.raises(TrainerError):
        run(workspace, FIRST)
    assert charges(workspace) == 1 and workspace.registry() == []
    workspace.settings = good
    outcome = run(workspace, FIRST)
    assert outcome.training is not None and len(outcome.training.report.charges) == 2
    assert charges(workspace) == 2 and len(workspace.registry()) == 1


def test_a_spent_budget_refuses_the_week_before_it_is_spent(workspace: Workspace) -> None:
    workspace.edit_spec({"training": {"epsilon_per_run": 8, "epsilon_per_block": 8.0}})
    assert run(workspace, FIRST).entry is not None
    second = run(workspace, SECOND)  # would read the first week's rows once more
    assert second.training is not None and second.training.report.refusal is not None
    assert second.training.report.refusal.code == "budget_exceeded"
    assert second.validation is None and second.gate.report.verdict == "HOLD"
    assert charges(workspace) == 1


def test_screening_a_batch_again_gives_no_fresh_budget(workspace: Workspace) -> None:
    """One row more or less makes other accepted rows, but the batch was read before."""
    workspace.edit_spec({"training": {"epsilon_per_run": 8, "epsilon_per_block": 8.0}})
    workspace.edit_spec({"gate": {"limits": {"accuracy": {"min": 0.0, "max": 0.1}}}})
    workspace.edit_spec({"screening": {"false_discovery_rate": 1e-9}})
    workspace.deliver(FIRST, ["feed"], change=flip_labels("spam", "ham", share=0.1))
    first = run(workspace, FIRST)
    workspace.edit_spec({"screening": {"false_discovery_rate": 0.3}})
    second = run(workspace, FIRST)
    assert first.screened.screening.report.n_accepted != second.screened.screening.report.n_accepted
    assert second.training is not None and second.training.report.refusal is not None
    assert charges(workspace) == 1


def test_a_new_trust_list_makes_new_records(workspace: Workspace) -> None:
    dry = run_week(workspace.steps(), MODEL, FIRST, dry_run=True)
    pinned_before = workspace.steps().pin(MODEL, FIRST).attestation.digest
    _publish_again(workspace)
    again = run_week(workspace.steps(), MODEL, FIRST, dry_run=True)
    assert dry.training is not None and again.training is not None and not again.training.reused
    assert again.screened.run.report.trust_list != dry.screened.run.report.trust_list
    assert (
        workspace.steps().pinned(pinned_before).run.trust_list == dry.screened.run.report.trust_list
    )


def _publish_again(workspace: Workspace) -> None:
    store = open_store(workspace.settings.store)
    latest = TrustHistory.load(store, public_key_of(workspace.settings.root_key, "root")).latest
    keys = {name: TrustedKey.model_validate(key) for name, key in latest.keys.items()}
    root = signer_from_file(workspace.settings.keys / "root.pem", "root")
    store.create("trust/0000000002.dsse.json", sign_trust_list(2, keys, root))


def test_the_gate_gives_its_decision_again_when_it_was_killed_after_appending(
    workspace: Workspace,
) -> None:
    workspace.edit_spec({"gate": {"limits": {"accuracy": {"min": 0.0, "max": 0.1}}}})
    outcome = run(workspace, FIRST)
    week, training, validation = outcome.screened, outcome.training, outcome.validation
    assert training is not None and validation is not None
    again = workspace.steps().decide(
        week.run.attestation.digest,
        provenance=[r.attestation.digest for r in week.provenance],
        screening=week.screening.attestation.digest,
        training=training.attestation.digest,
        validation=validation.attestation.digest,
    )
    assert again.reused and again.attestation.digest == outcome.gate.attestation.digest
    assert len(workspace.registry()) == 1


def test_records_of_another_model_are_not_taken(workspace: Workspace) -> None:
    other = workspace.add_model("other_filter", weeks=[FIRST])
    foreign = screen_week(other.steps(), "other_filter", FIRST)
    steps = workspace.steps()
    pinned = steps.pin(MODEL, FIRST).attestation.digest
    with pytest.raises(ChainBrokenError, match="a record of other_filter"):
        steps.screen(pinned, [r.attestation.digest for r in foreign.provenance])


def test_a_batch_cannot_be_kept_from_screening(workspace: Workspace) -> None:
    steps = workspace.steps()
    pinned = steps.pin(MODEL, FIRST).attestation.digest
    ingested = [r.attestation.digest for r in steps.ingest(pinned, "gateway")]
    checked = [r.attestation.digest for r in steps.verify_provenance(pinned, ingested)]
    with pytest.raises(ChainBrokenError, match="feed"):
        steps.screen(pinned, checked)


@pytest.mark.s3
def test_a_week_runs_with_store_and_inbox_on_s3(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.settings().items():
        monkeypatch.setenv(name, value)
    bucket, client = s3_server.new_bucket(), s3_server.client()
    workspace = make_workspace(tmp_path, weeks=[FIRST], store=f"s3://{bucket}/store")
    inbox = workspace.home / "inbox"
    for path in inbox.rglob("*"):
        if path.is_file():
            key = f"inbox/{path.relative_to(inbox).as_posix()}"
            client.upload_file(str(path), bucket, key)
    shutil.rmtree(inbox)
    sources = [
        {**source, "uri": f"s3://{bucket}/{source['uri']}"} for source in _stopping(workspace)
    ]
    workspace.edit_spec({"sources": sources})
    assert run(workspace, FIRST).entry is not None
    assert [entry.verdict for entry in workspace.registry()] == ["PROMOTE"]
