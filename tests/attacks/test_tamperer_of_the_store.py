"""Whoever can write into the store, but holds no key, deletes, exchanges and forges records."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from retraining.audit import audit
from retraining.digests import Digest, canonical_json
from retraining.errors import (
    ArtifactMissingError,
    ArtifactTamperedError,
    ChainBrokenError,
    EvidenceError,
    RegistryMovedError,
    RetrainingError,
)
from retraining.evidence import (
    REGISTRY_ENTRY,
    Statement,
    create_key,
    public_key_of,
    sign,
    signer_from_file,
)
from retraining.records import ModelManifest
from retraining.store import DirectoryStore
from retraining.trust_history import TrustHistory
from retraining.weekly import DecidedWeek, run_week
from tests.fixtures.workspace import MODEL, WEEKS, Workspace, flip_labels, make_workspace

pytestmark = pytest.mark.slow  # each test runs whole weeks
FIRST, SECOND, THIRD = WEEKS[:3]


@pytest.fixture(scope="module")
def two_weeks(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("tampered"), weeks=WEEKS)
    for week in (FIRST, SECOND):
        assert run_week(workspace.steps(), MODEL, week).entry is not None
    return workspace


@pytest.fixture
def copied(two_weeks: Workspace, tmp_path: Path) -> DirectoryStore:
    """A copy of the store, to do what one likes with."""
    shutil.copytree(two_weeks.settings.store, tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


def verify_all(store: DirectoryStore, workspace: Workspace) -> list[str]:
    trust = TrustHistory.load(store, public_key_of(workspace.settings.root_key, "root"))
    return [found.link.record.verdict for found in audit(store, trust)]


@pytest.mark.control
def test_an_untouched_copy_verifies_with_the_public_key_alone(
    copied: DirectoryStore, two_weeks: Workspace
) -> None:
    assert verify_all(copied, two_weeks) == ["PROMOTE", "PROMOTE"]


def entry_file(store: DirectoryStore, number: int) -> Path:
    return store.path_of_record(f"registry/{MODEL}/{number:010d}.dsse.json")


def delete_the_first_entry(store: DirectoryStore) -> None:
    entry_file(store, 1).unlink()


def exchange_entries(store: DirectoryStore) -> None:
    shutil.copy(entry_file(store, 1), entry_file(store, 2))


def garbage_in_the_next_place(store: DirectoryStore) -> None:
    entry_file(store, 3).write_bytes(b"{}")


def repeat_the_last_entry(store: DirectoryStore) -> None:
    shutil.copy(entry_file(store, 2), entry_file(store, 3))


def stack_a_version(store: DirectoryStore) -> None:
    """The last entry once more, one place on, with the first champion; the signature is the old."""
    envelope = json.loads(entry_file(store, 2).read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    first = json.loads(base64.b64decode(json.loads(entry_file(store, 1).read_bytes())["payload"]))
    statement["predicate"] |= {
        "sequence": 3,
        "version": 3,
        "previous": str(Digest.of(base64.b64decode(envelope["payload"]))),
        "champion": first["predicate"]["champion"],
    }
    envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()
    entry_file(store, 3).write_bytes(canonical_json(envelope))


def exchange_the_pin(store: DirectoryStore) -> None:
    """Another week's pin, with its own valid signature, under the name of the newest."""
    pins = [
        path
        for path in sorted((Path(store.uri) / "attestations").iterdir())
        if b"/pin/v1" in base64.b64decode(json.loads(path.read_bytes())["payload"])
    ]
    first, second = pins
    shutil.copy(first, second)


def delete_the_ledger(store: DirectoryStore) -> None:
    shutil.rmtree(store.path_of_record(f"ledger/{MODEL}/0000000001.dsse.json").parent)


def delete_the_trust_list(store: DirectoryStore) -> None:
    store.path_of_record("trust/0000000001.dsse.json").unlink()


def champion_of(store: DirectoryStore) -> ModelManifest:
    entry = json.loads(entry_file(store, 2).read_bytes())
    predicate = json.loads(base64.b64decode(entry["payload"]))["predicate"]
    return ModelManifest.from_json(store.get(Digest(predicate["champion"])))


def swap_the_weights(store: DirectoryStore) -> None:
    path = store.path_of(champion_of(store).weights)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def delete_the_weights(store: DirectoryStore) -> None:
    store.path_of(champion_of(store).weights).unlink()


def exchange_two_attestations(store: DirectoryStore) -> None:
    first, second, *_ = store.names("attestations")
    shutil.copy(store.path_of_record(first), store.path_of_record(second))


def edit_a_report(store: DirectoryStore) -> None:
    """Raise a metric in a validation report, where it lies."""
    for path in Path(store.uri).rglob("*"):
        if path.is_file() and b'"challenger":{"accuracy"' in path.read_bytes():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes().replace(b'"value":0.', b'"value":1.', 1))


def edit_the_thresholds(store: DirectoryStore) -> None:
    """Lower a limit in the pinned spec, after training."""
    for path in Path(store.uri).rglob("*"):
        if path.is_file() and b'"bootstrap_resamples"' in path.read_bytes():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes().replace(b'"min":0.75', b'"min":0.05', 1))


@pytest.mark.parametrize(
    "attack",
    [
        delete_the_first_entry,
        exchange_entries,
        repeat_the_last_entry,
        stack_a_version,
        garbage_in_the_next_place,
        delete_the_ledger,
        delete_the_trust_list,
        swap_the_weights,
        delete_the_weights,
        exchange_two_attestations,
        exchange_the_pin,
        edit_a_report,
        edit_the_thresholds,
    ],
)
def test_an_auditor_sees_that_the_store_was_touched(
    copied: DirectoryStore, two_weeks: Workspace, attack: Callable[[DirectoryStore], None]
) -> None:
    attack(copied)
    with pytest.raises(RetrainingError) as seen:
        verify_all(copied, two_weeks)
    assert not seen.value.retryable and "\n" not in str(seen.value)


def trained_but_not_promoted(workspace: Workspace) -> DecidedWeek:
    """A week up to the gate's PROMOTE, as Airflow would have it before the promotion task."""
    steps = workspace.steps()
    steps.promote = lambda _decision: None  # type: ignore[assignment]
    return run_week(steps, MODEL, FIRST)


def test_weights_that_were_swapped_after_the_gate_are_not_promoted(workspace: Workspace) -> None:
    decided = trained_but_not_promoted(workspace)
    assert decided.gate.report.verdict == "PROMOTE" and decided.training is not None
    store = DirectoryStore(Path(workspace.settings.store))
    model = decided.training.report.model
    assert model is not None
    path = store.path_of(ModelManifest.from_json(store.get(model)).weights)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ArtifactTamperedError, match="changed"):
        workspace.steps().promote(decided.gate.attestation.digest)
    assert workspace.registry() == []


def test_a_decision_that_cannot_be_run_again_is_not_promoted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = trained_but_not_promoted(workspace)
    monkeypatch.setattr(
        "retraining.verify.chain.code_version", lambda: Digest.of(b"the next release")
    )
    with pytest.raises(RegistryMovedError, match="code changed"):
        workspace.steps().promote(decided.gate.attestation.digest)
    assert workspace.registry() == []


def test_rows_that_were_changed_after_screening_are_not_trained_on(workspace: Workspace) -> None:
    steps = workspace.steps()
    run = steps.pin(MODEL, FIRST).attestation.digest
    checked = []
    for source in ("gateway", "feed"):
        ingested = [r.attestation.digest for r in steps.ingest(run, source)]
        checked += [r.attestation.digest for r in steps.verify_provenance(run, ingested)]
    screened = steps.screen(run, checked)
    accepted = screened.report.batches[0].accepted
    assert accepted is not None
    path = DirectoryStore(Path(workspace.settings.store)).path_of(accepted)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ArtifactTamperedError):
        workspace.steps().train(run, screened.attestation.digest)


def test_one_decision_is_used_once(workspace: Workspace) -> None:
    first = run_week(workspace.steps(), MODEL, FIRST)
    decision = first.gate.attestation.digest
    again = workspace.steps().promote(decision)  # a retry of the task after it appended
    assert first.entry is not None and again.digest == first.entry.digest
    assert run_week(workspace.steps(), MODEL, SECOND).entry is not None
    with pytest.raises(ChainBrokenError, match="old decision"):
        workspace.steps().promote(decision)
    assert [entry.week for entry in workspace.registry()] == [FIRST, SECOND]


def test_a_refused_week_is_not_promoted_whoever_asks(workspace: Workspace) -> None:
    run_week(workspace.steps(), MODEL, FIRST)
    workspace.edit_spec({"gate": {"limits": {"accuracy": {"min": 0.0, "max": 0.5}}}})
    refused = run_week(workspace.steps(), MODEL, SECOND)
    assert refused.entry is None
    with pytest.raises(ChainBrokenError):
        workspace.steps().promote(refused.gate.attestation.digest)
    assert [entry.verdict for entry in workspace.registry()][1] != "PROMOTE"


def test_a_dry_run_promotes_nothing(workspace: Workspace) -> None:
    decided = run_week(workspace.steps(), MODEL, FIRST, dry_run=True)
    assert decided.gate.report.verdict == "PROMOTE" and decided.entry is None
    with pytest.raises(ChainBrokenError, match="dry run"):
        workspace.steps().promote(decided.gate.attestation.digest)
    assert workspace.registry() == []


def test_of_two_promotions_at_once_the_stale_one_is_refused(workspace: Workspace) -> None:
    slow = trained_but_not_promoted(workspace)
    assert run_week(workspace.steps(), MODEL, FIRST).entry is not None
    with pytest.raises(ChainBrokenError, match="old decision"):
        workspace.steps().promote(slow.gate.attestation.digest)
    assert len(workspace.registry()) == 1


def test_a_run_that_was_pinned_before_another_concluded_is_not_decided(
    workspace: Workspace,
) -> None:
    stale = workspace.steps()
    pinned_before = stale.pin(MODEL, FIRST).attestation.digest
    assert run_week(workspace.steps(), MODEL, FIRST).entry is not None
    checked = []
    for source in ("gateway", "feed"):
        ingested = [r.attestation.digest for r in stale.ingest(pinned_before, source)]
        checked += [r.attestation.digest for r in stale.verify_provenance(pinned_before, ingested)]
    screened = stale.screen(pinned_before, checked).attestation.digest
    with pytest.raises(RegistryMovedError, match="stale"):
        stale.decide(
            pinned_before, provenance=checked, screening=screened, training=None, validation=None
        )


def test_a_report_of_another_run_cannot_stand_in_for_training(workspace: Workspace) -> None:
    """The insider hands the gate last week's good challenger for this week's rows."""
    first = run_week(workspace.steps(), MODEL, FIRST)
    assert first.training is not None and first.validation is not None
    workspace.deliver(SECOND, change=flip_labels("spam", "ham", share=0.2))
    steps = workspace.steps()
    run = steps.pin(MODEL, SECOND).attestation.digest
    checked = []
    for source in ("gateway", "feed"):
        ingested = [r.attestation.digest for r in steps.ingest(run, source)]
        checked += [r.attestation.digest for r in steps.verify_provenance(run, ingested)]
    screened = steps.screen(run, checked).attestation.digest
    with pytest.raises((ChainBrokenError, EvidenceError)):
        decided = steps.decide(
            run,
            provenance=checked,
            screening=screened,
            training=first.training.attestation.digest,
            validation=first.validation.attestation.digest,
        )
        steps.promote(decided.attestation.digest)
    assert len(workspace.registry()) == 1


def test_a_deleted_store_is_not_a_fresh_start(workspace: Workspace) -> None:
    run_week(workspace.steps(), MODEL, FIRST)
    registry = Path(workspace.settings.store) / "registry"
    shutil.rmtree(registry)
    with pytest.raises(ChainBrokenError, match="this machine has seen"):
        workspace.steps().pin(MODEL, SECOND)


def test_a_deleted_last_entry_is_missed(two_weeks: Workspace, tmp_path: Path) -> None:
    """No chain can show it; what this machine saw before does, to whoever runs and who audits."""
    workspace = two_weeks.copied(tmp_path / "workspace")
    entry_file(DirectoryStore(Path(workspace.settings.store)), 2).unlink()
    steps = workspace.steps()
    with pytest.raises(ChainBrokenError, match="this machine has seen"):
        steps.pin(MODEL, THIRD)
    with pytest.raises(ChainBrokenError, match="this machine has seen"):
        list(audit(steps.store, steps.trust, memory=steps.memory))


@pytest.mark.parametrize("signer", ["pipeline", "gateway", "his own"])
def test_a_version_stacked_by_another_key_than_the_promoters_never_serves(
    two_weeks: Workspace, tmp_path: Path, signer: str
) -> None:
    """He writes an entry as promotion would, with the first champion, and signs it himself."""
    workspace = two_weeks.copied(tmp_path / "workspace")
    steps = workspace.steps()
    registry = steps.registry(MODEL)
    entry = registry.links[-1].record.model_copy(
        update={
            "sequence": 3,
            "version": 3,
            "previous": registry.head,
            "champion": registry.links[0].record.champion,
        }
    )
    if signer == "his own":
        create_key(tmp_path / "own.pem")
    key = {
        "pipeline": workspace.settings.keys / "pipeline.pem",
        "gateway": workspace.provider_key("gateway"),
        "his own": tmp_path / "own.pem",
    }[signer]
    statement = Statement(
        subjects=(("entry", entry.identity),),
        predicate_type=REGISTRY_ENTRY,
        predicate=entry.model_dump(mode="json"),
    )
    raw, _ = sign(statement, signer_from_file(key, "promoter" if signer == "his own" else signer))
    steps.store.create(f"registry/{MODEL}/0000000003.dsse.json", raw)
    with pytest.raises(ChainBrokenError, match="not signed by a promoter key"):
        workspace.steps().registry(MODEL)
    with pytest.raises(ChainBrokenError, match="not signed by a promoter key"):
        list(audit(steps.store, steps.trust))


def test_thresholds_that_were_edited_after_training_judge_nothing(workspace: Workspace) -> None:
    """A refused week is pinned again with a looser file; its old records do not fit that run."""
    assert run_week(workspace.steps(), MODEL, FIRST).entry is not None
    workspace.edit_spec({"gate": {"limits": {"accuracy": {"min": 0.0, "max": 0.5}}}})
    refused = run_week(workspace.steps(), MODEL, SECOND)
    assert refused.entry is None and refused.training and refused.validation
    workspace.edit_spec({"gate": {"limits": {"accuracy": {"min": 0.0, "max": 1.0}}}})
    steps = workspace.steps()
    again = steps.pin(MODEL, SECOND).attestation.digest
    with pytest.raises((ChainBrokenError, EvidenceError)):
        decided = steps.decide(
            again,
            provenance=[done.attestation.digest for done in refused.screened.provenance],
            screening=refused.screened.screening.attestation.digest,
            training=refused.training.attestation.digest,
            validation=refused.validation.attestation.digest,
        )
        steps.promote(decided.attestation.digest)
    assert workspace.steps().registry(MODEL).version == 1


def test_a_missing_record_is_said_and_nothing_is_guessed(workspace: Workspace) -> None:
    with pytest.raises(ArtifactMissingError):
        workspace.steps().promote(Digest.of(b"no such decision"))
