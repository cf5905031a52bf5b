"""A rollback: a signed request, verified with everything behind the old version, and one entry."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from retraining.audit import audit
from retraining.chains import registry_chain
from retraining.cli import app
from retraining.digests import Digest
from retraining.errors import (
    ArtifactMissingError,
    ArtifactTamperedError,
    ChainBrokenError,
    EvidenceError,
    NothingToDo,
    RegistryMovedError,
    RetrainingError,
    RollbackRefusedError,
)
from retraining.evidence import public_key_of
from retraining.evidence.keys import signer_from_file
from retraining.keyring import NewKey, change_trust
from retraining.models import Model
from retraining.records import Block, ModelManifest, RegistryEntry, RollbackRequest
from retraining.registry import HeadMemory, Registry
from retraining.rollback import named_inputs, verify_rollback
from retraining.signed_chain import Link
from retraining.steps import StepRunner
from retraining.store import DirectoryStore, open_store
from retraining.trust_history import TrustHistory
from retraining.weekly import run_week
from tests.fixtures.workspace import (
    MODEL,
    WEEKS,
    Workspace,
    flip_labels,
    make_rows,
    make_workspace,
)
from tests.retraining.approvals.cases import add_people, key_of

pytestmark = pytest.mark.slow  # whole weeks are run

FIRST, SECOND, THIRD, FOURTH = WEEKS
WHY = "customers complain since Tuesday"


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three promoted weeks; the fourth is delivered."""
    workspace = make_workspace(tmp_path_factory.mktemp("rollback") / "workspace", weeks=WEEKS)
    for week in (FIRST, SECOND, THIRD):
        assert workspace.run_week(week).entry is not None
    return workspace


@pytest.fixture
def workspace(three_versions: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it, to do what one likes with."""
    return three_versions.copied(tmp_path / "workspace")


def ask(workspace: Workspace, to_version: int, *, convict: bool = False) -> Digest:
    """Sign a request; nothing has changed yet."""
    asked = workspace.steps().request_rollback(
        workspace.model, to_version=to_version, reason=WHY, convict=convict
    )
    return Digest(asked.attestation.digest)


def roll_back(
    workspace: Workspace, to_version: int, *, convict: bool = False
) -> Link[RegistryEntry]:
    """Ask and restore."""
    link = workspace.steps().restore(ask(workspace, to_version, convict=convict))
    assert isinstance(link, Link)
    return link


def loaded(workspace: Workspace) -> Registry:
    """The verified registry."""
    registry = workspace.steps().registry(workspace.model)
    assert isinstance(registry, Registry)
    return registry


def audited(workspace: Workspace) -> list[str]:
    """Verdicts of all entries, each verified as an auditor does."""
    store = open_store(workspace.settings.store)
    trust = TrustHistory.load(store, public_key_of(workspace.settings.root_key, "root"))
    return [str(found.link.record.verdict) for found in audit(store, trust)]


# --- what a rollback does -------------------------------------------------------------------


def test_an_older_version_serves_again_and_nothing_is_rewritten(workspace: Workspace) -> None:
    before = loaded(workspace)

    link = roll_back(workspace, 1)

    entry, first = link.record, before.links[0].record
    assert (entry.verdict, entry.version, entry.champion) == ("ROLLBACK", 1, first.champion)
    assert (entry.week, entry.spec, entry.policy) == (first.week, first.spec, first.policy)
    assert (entry.batches, entry.convicted) == ((), ())
    assert entry.ledger_head == before.links[2].record.ledger_head
    after = loaded(workspace)
    assert after.links[:3] == before.links
    assert after.serving == before.links[0]
    assert audited(workspace) == ["PROMOTE", "PROMOTE", "PROMOTE", "ROLLBACK"]


def test_the_request_says_who_wants_what_and_why(workspace: Workspace) -> None:
    before = loaded(workspace)
    digest = ask(workspace, 2, convict=True)

    opened = workspace.steps().open_any("rollback", digest, RollbackRequest)

    said = opened.report
    assert (said.gives_up, said.to_version, said.convict, said.reason) == (3, 2, True, WHY)
    assert said.registry_head == before.head
    assert opened.attestation.key_id == "pipeline"
    raw = open_store(workspace.settings.store).read(f"attestations/{digest.hex}.dsse.json")
    assert b'"requestedBy":"test"' in payload(raw)
    assert loaded(workspace).links == before.links  # asking changes nothing


def payload(envelope: bytes) -> bytes:
    import base64

    return base64.b64decode(json.loads(envelope)["payload"])


def test_a_retry_after_the_append_finds_the_same_entry(workspace: Workspace) -> None:
    request = ask(workspace, 1)
    first = workspace.steps().restore(request)
    shutil.rmtree(workspace.settings.memory)  # killed before it was remembered

    assert workspace.steps().restore(request) == first

    assert len(workspace.registry()) == 4
    memory = HeadMemory(workspace.settings.memory)
    shortened = Registry(MODEL, loaded(workspace).links[:3])
    with pytest.raises(ChainBrokenError, match="this machine has seen"):
        memory.check(shortened)


def test_a_rollback_is_remembered_outside_the_store(workspace: Workspace) -> None:
    roll_back(workspace, 1)
    last = Path(workspace.settings.store) / "registry" / MODEL / "0000000004.dsse.json"
    last.unlink()
    with pytest.raises(ChainBrokenError, match="this machine has seen"):
        loaded(workspace)


def test_the_next_week_is_compared_with_the_version_that_serves(workspace: Workspace) -> None:
    restored = roll_back(workspace, 1).record.champion

    decided = workspace.run_week(FOURTH)

    assert decided.validation.report.champion == restored
    assert decided.gate.report.champion == restored
    assert decided.entry.record.version == 4  # 3 is taken for good
    assert weeks_of(decided.training.report.blocks) == list(WEEKS)
    assert audited(workspace)[-2:] == ["ROLLBACK", "PROMOTE"]


def test_a_refused_week_keeps_the_version_that_serves(workspace: Workspace) -> None:
    restored = roll_back(workspace, 1).record.champion
    workspace.deliver(FOURTH, ["gateway"], change=flip_labels("spam", "ham", share=0.6))

    assert workspace.run_week(FOURTH).entry is None

    held = workspace.registry()[-1]
    assert held.verdict != "PROMOTE"
    assert (held.version, held.champion) == (1, restored)
    assert audited(workspace)[-2:] == ["ROLLBACK", held.verdict]


def test_without_a_conviction_a_version_may_come_back(workspace: Workspace) -> None:
    roll_back(workspace, 1)
    roll_back(workspace, 3)
    assert loaded(workspace).serving == loaded(workspace).links[2]
    assert audited(workspace) == ["PROMOTE"] * 3 + ["ROLLBACK"] * 2


def weeks_of(blocks: tuple[Block, ...]) -> list[str]:
    return sorted({block.batch.week for block in blocks})


def test_rows_of_convicted_versions_are_trained_on_no_longer(workspace: Workspace) -> None:
    assert roll_back(workspace, 1, convict=True).record.convicted == (2, 3)

    decided = workspace.run_week(FOURTH)

    assert weeks_of(decided.training.report.blocks) == [FIRST, FOURTH]
    assert decided.screened.run.report.weeks == (FOURTH,)  # nor are their batches looked at again
    assert decided.entry.record.version == 4
    with pytest.raises(NothingToDo, match="promoted already"):
        workspace.run_week(THIRD)
    assert audited(workspace)[-2:] == ["ROLLBACK", "PROMOTE"]


def test_a_batch_of_a_convicted_week_cannot_be_delivered_once_more(workspace: Workspace) -> None:
    """Its sequence number stays used, so its rows come back in no later week either."""
    roll_back(workspace, 1, convict=True)
    for name in workspace.folder("feed", FOURTH).iterdir():
        name.unlink()
    shutil.copytree(
        workspace.folder("feed", THIRD), workspace.folder("feed", FOURTH), dirs_exist_ok=True
    )
    decided = workspace.run_week(FOURTH)
    refused = {b.batch.source: b.refusal for b in decided.screened.screening.report.batches}
    assert refused["gateway"] is None and refused["feed"] is not None


def test_roll_back_first_and_convict_when_it_is_known(workspace: Workspace) -> None:
    served = roll_back(workspace, 1).record

    convicted = roll_back(workspace, 1, convict=True).record

    assert (convicted.champion, convicted.version) == (served.champion, 1)
    assert convicted.convicted == (2, 3)
    assert loaded(workspace).standing == (1,)
    assert audited(workspace)[-2:] == ["ROLLBACK", "ROLLBACK"]


def test_what_was_trained_on_convicted_rows_is_convicted_with_them(workspace: Workspace) -> None:
    roll_back(workspace, 2)
    assert workspace.run_week(FOURTH).entry.record.version == 4  # it learned from week 3 too
    assert roll_back(workspace, 2, convict=True).record.convicted == (3, 4)


# --- no version serves ----------------------------------------------------------------------


def test_a_withdrawn_model_serves_no_longer_and_may_come_back(workspace: Workspace) -> None:
    before = loaded(workspace)

    entry = roll_back(workspace, 0).record

    newest = before.links[2].record
    assert (entry.verdict, entry.version, entry.champion) == ("ROLLBACK", 0, None)
    assert (entry.week, entry.spec, entry.convicted) == (newest.week, newest.spec, ())
    after = loaded(workspace)
    assert (after.serving, after.withdrawn) == (None, before.links[2])
    assert roll_back(workspace, 3).record.champion == newest.champion
    assert loaded(workspace).withdrawn is None
    assert audited(workspace)[3:] == ["ROLLBACK", "ROLLBACK"]


def test_the_first_version_is_convicted_where_none_takes_its_place(workspace: Workspace) -> None:
    assert roll_back(workspace, 0, convict=True).record.convicted == (1, 2, 3)

    registry = loaded(workspace)
    assert (registry.standing, registry.accepted_blocks(FOURTH, window_weeks=8)) == ((), ())
    request = json.loads(open_store(workspace.settings.store).read(asked_last(workspace)))
    assert request["signatures"]
    for version in (0, 1):
        with pytest.raises(RollbackRefusedError, match="versions that may serve: none"):
            ask(workspace, version)


def asked_last(workspace: Workspace) -> str:
    """Name of the envelope by which the newest entry was asked for."""
    asked = loaded(workspace).links[-1].record.decision
    return f"attestations/{asked.hex}.dsse.json"


def test_withdraw_first_and_convict_when_it_is_known(workspace: Workspace) -> None:
    roll_back(workspace, 0)
    assert roll_back(workspace, 0, convict=True).record.convicted == (1, 2, 3)
    assert audited(workspace)[3:] == ["ROLLBACK", "ROLLBACK"]


@pytest.mark.parametrize("convict", [False, True], ids=["accepted history", "no history"])
def test_after_a_withdrawal_the_next_model_needs_its_owners_signature(
    workspace: Workspace, convict: bool
) -> None:
    """Else whoever can withdraw a model could pass another one that is compared with nothing."""
    add_people(workspace)
    owner = key_of(workspace, "olga")
    workspace.steps().sign_spec(MODEL, why="before it was withdrawn: does not count", key=owner)
    roll_back(workspace, 0, convict=convict)

    held = workspace.run_week(FOURTH).gate.report
    assert (held.verdict, held.champion) == ("HOLD", None)
    (check,) = (check for check in held.checks if check.name == "spec")
    assert check.observed == "not signed since version 3 was withdrawn"
    workspace.steps().sign_spec(MODEL, why="start over", key=owner)
    entry = workspace.run_week(FOURTH).entry

    assert entry is not None and entry.record.version == 4
    assert audited(workspace)[-2:] == ["HOLD", "PROMOTE"]


def test_nothing_broken_stands_in_the_way_of_a_withdrawal(workspace: Workspace) -> None:
    model = loaded(workspace).champion
    assert model is not None
    blob(workspace, model).write_bytes(b"{}")
    assert roll_back(workspace, 0).record.version == 0


def test_the_command_says_that_none_serves_and_how_to_start_over(workspace: Workspace) -> None:
    done = call(workspace, "rollback", MODEL, "--to", "0", "--reason", WHY, "--convict")
    assert "small_filter: no version serves, in place of version 3." in done.output
    assert "Convicted of poison: 1, 2, 3." in done.output
    assert "`retraining approve --spec small_filter" in " ".join(done.output.split())
    said = call(workspace, "predict", MODEL, str(workspace.spec_file))
    assert said.exit_code == 1 and "No version of small_filter serves" in said.stderr


# --- what it refuses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to_version", "convict", "said"),
    [
        (9, False, "has no version 9; versions that may serve: 1, 2, 3"),
        (-1, False, "has no version -1"),
        (3, False, "Version 3 of small_filter serves already; versions that may serve: 1, 2, 3"),
        (3, True, "No version of small_filter above 3 is left to be convicted"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_signed(
    workspace: Workspace, to_version: int, convict: bool, said: str
) -> None:
    before = records(workspace)
    with pytest.raises(RollbackRefusedError) as refused:
        ask(workspace, to_version, convict=convict)
    assert said in str(refused.value) and not refused.value.retryable
    assert records(workspace) == before


def records(workspace: Workspace) -> set[str]:
    """Every signed record in the store."""
    store = open_store(workspace.settings.store)
    return {name for folder in ("attestations", "registry") for name in store.names(folder)}


@pytest.mark.parametrize("reason", ["", "  ", "\n", "x"])
def test_nobody_rolls_back_without_a_reason(workspace: Workspace, reason: str) -> None:
    with pytest.raises(RollbackRefusedError, match="Say why"):
        workspace.steps().request_rollback(MODEL, to_version=1, reason=reason)


def test_without_a_version_there_is_nothing_to_roll_back_to(tmp_path: Path) -> None:
    empty = make_workspace(tmp_path / "workspace")
    for wanted in (0, 1):
        with pytest.raises(RollbackRefusedError, match=r"no version .*may serve: none"):
            ask(empty, wanted)


def test_a_convicted_version_is_refused_with_those_that_may_serve(workspace: Workspace) -> None:
    by = roll_back(workspace, 2, convict=True)
    with pytest.raises(RollbackRefusedError) as refused:
        ask(workspace, 3)
    assert str(refused.value) == (
        "Version 3 of small_filter was convicted of poison by registry entry 4 (`retraining show"
        f" {by.digest}`) and never serves again; versions that may serve: 1, 2."
    )


def refuse(workspace: Workspace, request: Digest, error: type[RetrainingError], said: str) -> None:
    """Restoring fails at once with that error, and changes nothing."""
    before = loaded(workspace).links
    with pytest.raises(error, match=said) as refused:
        workspace.steps().restore(request)
    assert not refused.value.retryable and "\n" not in str(refused.value)
    assert loaded(workspace).links == before


def test_a_request_is_good_for_the_newest_entry_only(workspace: Workspace) -> None:
    stale = ask(workspace, 2)
    used = ask(workspace, 1)
    workspace.steps().restore(used)
    refuse(workspace, stale, RegistryMovedError, "gained an entry since")
    roll_back(workspace, 3)
    refuse(workspace, used, RegistryMovedError, "carried out already")


def test_a_week_concluded_in_between_wants_a_new_request(workspace: Workspace) -> None:
    request = ask(workspace, 1)
    assert workspace.run_week(FOURTH).entry is not None
    refuse(workspace, request, RegistryMovedError, "ask again")


def test_a_run_that_was_pinned_before_a_rollback_is_not_promoted(workspace: Workspace) -> None:
    steps = workspace.steps()
    steps.promote = lambda _decision: None
    slow = run_week(steps, MODEL, FOURTH)
    assert slow.gate.report.promotes
    link = roll_back(workspace, 1)
    with pytest.raises(ChainBrokenError, match="old decision"):
        workspace.steps().promote(slow.gate.attestation.digest)
    assert loaded(workspace).head == link.digest


def test_of_two_rollbacks_at_once_one_wins(workspace: Workspace) -> None:
    """Both have read the registry before either appends."""
    slow: Any = workspace.steps()
    seen = slow.registry(MODEL)
    slow.registry = lambda _model: seen
    mine, theirs = ask(workspace, 1), ask(workspace, 2)
    won = workspace.steps().restore(theirs)
    with pytest.raises(RegistryMovedError, match="concluded first"):
        slow.restore(mine)
    assert loaded(workspace).head == won.digest


class Killed(BaseException):
    """As a worker that dies: nothing after it runs."""


@pytest.mark.parametrize("point", ["append", "remember"])
def test_a_kill_changes_nothing_or_is_finished_by_the_next_try(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    request = ask(workspace, 1)  # a kill between the two steps: this was all
    before = loaded(workspace).links

    def die(*_: object) -> None:
        raise Killed

    from retraining import signed_chain

    where: Any = signed_chain.SignedChain if point == "append" else HeadMemory
    monkeypatch.setattr(where, point, die)
    with pytest.raises(Killed):
        workspace.steps().restore(request)
    monkeypatch.undo()

    assert len(loaded(workspace).links) == len(before) + (point == "remember")
    assert workspace.steps().restore(request).record.version == 1
    assert len(loaded(workspace).links) == len(before) + 1


# --- the old version has to be what it was --------------------------------------------------


def manifest_of(workspace: Workspace, version: int) -> ModelManifest:
    store = open_store(workspace.settings.store)
    champion = loaded(workspace).promotions[version].record.champion
    assert champion is not None
    return ModelManifest.from_json(store.get(champion))


def blob(workspace: Workspace, digest: Digest) -> Path:
    path = DirectoryStore(Path(workspace.settings.store)).path_of(digest)
    path.chmod(0o600)
    return path


def test_weights_that_were_swapped_in_the_store_do_not_serve_again(workspace: Workspace) -> None:
    old, new = (blob(workspace, manifest_of(workspace, v).weights) for v in (1, 3))
    request = ask(workspace, 1)
    old.write_bytes(new.read_bytes())  # a whole, sound model, but not that one
    refuse(workspace, request, ArtifactTamperedError, "changed")


def test_rows_that_the_old_version_learned_from_are_verified_too(workspace: Workspace) -> None:
    accepted = loaded(workspace).links[0].record.batches[0].accepted
    assert accepted is not None
    path = blob(workspace, accepted)
    path.write_bytes(path.read_bytes() + b"x")
    refuse(workspace, ask(workspace, 2), ArtifactTamperedError, "changed")


def test_a_record_behind_the_old_version_that_is_gone_is_said(workspace: Workspace) -> None:
    decision = loaded(workspace).links[0].record.decision
    store = DirectoryStore(Path(workspace.settings.store))
    store.path_of_record(f"attestations/{decision.hex}.dsse.json").unlink()
    refuse(workspace, ask(workspace, 1), ArtifactMissingError, decision.hex)


def test_a_model_that_answers_with_no_probabilities_does_not_serve(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "predict", lambda _self, rows: np.full((len(rows), 2), np.nan))
    refuse(workspace, ask(workspace, 1), EvidenceError, "no probabilities")


def test_a_version_that_knows_other_classes_is_refused(workspace: Workspace) -> None:
    workspace.edit_spec({"label": {"classes": ["ham", "scam"], "positive": "scam"}})
    said = r"knows the classes \['ham', 'spam'\], the pipeline file has \['ham', 'scam'\]"
    refuse(workspace, ask(workspace, 1), RollbackRefusedError, said)


def test_a_version_that_wants_other_features_is_refused(workspace: Workspace) -> None:
    features = yaml.safe_load(workspace.spec_file.read_text())["features"]
    workspace.edit_spec({"features": features[:2]})
    new_reference_set(workspace, make_rows(50, seed="newer").drop(columns="amount"))
    said = "cannot answer rows of today's reference set"
    refuse(workspace, ask(workspace, 1), RollbackRefusedError, said)


def test_a_new_reference_set_is_taken_in_by_the_request(workspace: Workspace) -> None:
    file = new_reference_set(workspace, make_rows(50, seed="newer"))
    request = ask(workspace, 1)
    file.unlink()  # the worker that restores reads the store alone
    assert workspace.steps().restore(request).record.version == 1


def new_reference_set(workspace: Workspace, rows: pd.DataFrame) -> Path:
    file = workspace.home / "data" / "newer.parquet"
    rows.to_parquet(file, index=False)
    digest = str(Digest.of(file.read_bytes()))
    workspace.edit_spec({"reference": {"uri": "data/newer.parquet", "digest": digest}})
    return file


# --- forgers --------------------------------------------------------------------------------


def forge(
    workspace: Workspace,
    *,
    key: str = "pipeline",
    week: str = FIRST,
    promotion: Digest | None = None,
    **lies: Any,
) -> tuple[StepRunner, Digest]:
    """A request that says what it likes, signed with a real key; and the steps of its victim."""
    steps: Any = workspace.steps()
    registry = loaded(workspace)
    honest = {
        "model": MODEL,
        "registry_head": registry.head,
        "gives_up": registry.version,
        "to_version": 1,
        "convict": False,
        "reason": WHY,
        "spec": registry.links[-1].record.spec,
    }
    request = RollbackRequest.model_validate(honest | lies)
    recorder = steps.recorder()
    if key != "pipeline":
        signer = signer_from_file(workspace.settings.keys / f"{key}.pem", key)

        class Keys:
            def signer(self, *_: object) -> object:
                return signer

        recorder._keys = Keys()
    asked = recorder.conclude(
        "rollback",
        request,
        model=MODEL,
        week=week,
        request=request.identity,
        started_on=recorder.started(),
        inputs=named_inputs(request, registry) | ({"promotion": promotion} if promotion else {}),
        policy=request.identity,
        memo=False,
    )
    return workspace.steps(), asked.attestation.digest


def test_whoever_signs_a_convicted_version_is_not_restored(workspace: Workspace) -> None:
    roll_back(workspace, 1, convict=True)
    _, request = forge(workspace, to_version=3, week=THIRD)
    refuse(workspace, request, RollbackRefusedError, "convicted of poison")


@pytest.mark.parametrize(
    "lie", [{"gives_up": 2}, {"week": SECOND}, {"promotion": Digest.of(b"another entry")}], ids=str
)
def test_a_request_that_misdescribes_the_registry_is_forged(
    workspace: Workspace, lie: dict[str, Any]
) -> None:
    _, request = forge(workspace, **lie)
    refuse(workspace, request, ChainBrokenError, "it was forged")


def test_a_request_signed_by_another_role_counts_for_nothing(workspace: Workspace) -> None:
    with pytest.raises(EvidenceError):
        forge(workspace, key="promoter")  # cannot even be recorded


def test_what_is_no_request_restores_nothing(workspace: Workspace) -> None:
    links = loaded(workspace).links
    refuse(workspace, links[0].record.decision, EvidenceError, "expected predicate|signed")
    refuse(workspace, Digest.of(b"nothing"), ArtifactMissingError, "never written")


def test_a_request_of_another_model_is_not_taken_for_this_one(workspace: Workspace) -> None:
    request = ask(workspace, 1)
    store = open_store(workspace.settings.store)
    trust = TrustHistory.load(store, public_key_of(workspace.settings.root_key, "root"))
    other = Registry("neighbour_filter", loaded(workspace).links)
    with pytest.raises(ChainBrokenError, match="is about small_filter, not about neighbour"):
        verify_rollback(store, trust, request, other, under=trust.latest)


def test_a_request_by_a_key_that_was_revoked_since_restores_nothing(workspace: Workspace) -> None:
    request = ask(workspace, 1)
    exchange(workspace, "pipeline")
    refuse(workspace, request, EvidenceError, "signature|signed|key")


def test_new_keys_can_roll_back_to_what_old_keys_promoted(workspace: Workspace) -> None:
    exchange(workspace, "pipeline")
    exchange(workspace, "promoter")
    assert roll_back(workspace, 1).key_id == "promoter_2"
    assert audited(workspace)[-1] == "ROLLBACK"


def exchange(workspace: Workspace, role: str) -> None:
    """Revoke the key of a role, and give it a new one."""
    from retraining.evidence import create_key

    create_key(workspace.home / "new" / f"{role}_2.pem")
    change_trust(
        workspace.settings,
        remove=[role],
        add=[NewKey(f"{role}_2", role, workspace.home / "new" / f"{role}_2.pub.json")],  # type: ignore[arg-type]
    )
    (workspace.settings.keys / f"{role}.pem").unlink()
    (workspace.home / "new" / f"{role}_2.pem").rename(workspace.settings.keys / f"{role}.pem")


# --- an auditor derives the entry again -----------------------------------------------------


def another_champion(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    return {"champion": registry.promotions[2].record.champion}


def no_conviction(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    return {"convicted": ()}


def one_conviction_fewer(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    return {"convicted": (3,)}


def rows_of_its_own(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    return {"batches": registry.links[2].record.batches}


def another_number(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    return {"version": 2}


def no_request(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    return {"decision": Digest.of(b"nobody asked")}


def a_decision_for_a_request(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    return {"decision": registry.links[0].record.decision}


def a_rollback_that_claims_to_be_a_promotion(
    entry: RegistryEntry, registry: Registry
) -> dict[str, Any]:
    return {"verdict": "PROMOTE"}


@pytest.mark.parametrize(
    "lie",
    [
        another_champion,
        no_conviction,
        one_conviction_fewer,
        rows_of_its_own,
        another_number,
        no_request,
        a_decision_for_a_request,
        a_rollback_that_claims_to_be_a_promotion,
    ],
)
def test_an_entry_that_no_request_leads_to_is_found(
    workspace: Workspace, lie: Callable[[RegistryEntry, Registry], dict[str, Any]]
) -> None:
    """Whoever holds the promoter's key can sign anything; nobody else has to believe it."""
    honest = roll_back(workspace, 1, convict=True).record
    registry = loaded(workspace)
    forged = RegistryEntry.model_validate(honest.model_dump() | lie(honest, registry))
    store = DirectoryStore(Path(workspace.settings.store))
    store.path_of_record(f"registry/{MODEL}/0000000004.dsse.json").unlink()
    trust = TrustHistory.load(store, public_key_of(workspace.settings.root_key, "root"))
    signer = signer_from_file(workspace.settings.keys / "promoter.pem", "promoter")
    registry_chain(store, trust, MODEL).append(forged, signer)
    with pytest.raises(ChainBrokenError, match=f"{MODEL} entry 4"):
        audited(workspace)


def test_the_pipeline_file_that_the_old_version_had_to_fit_is_verified_too(
    workspace: Workspace,
) -> None:
    workspace.edit_spec({"description": "Changed since."})
    request = ask(workspace, 1)
    workspace.steps().restore(request)
    assert audited(workspace)[-1] == "ROLLBACK"
    spec = workspace.steps().open_any("rollback", request, RollbackRequest).report.spec
    path = blob(workspace, spec)
    path.write_bytes(path.read_bytes().replace(b"Changed since.", b"Never changed."))
    with pytest.raises(ChainBrokenError, match=f"{MODEL} entry 4"):
        audited(workspace)


# --- the command line -----------------------------------------------------------------------


def call(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["--home", str(workspace.home), *arguments], env=workspace.environment
    )


@pytest.fixture(scope="module")
def by_command(
    three_versions: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """Rolled back to version 1, and the others convicted, by `retraining rollback`."""
    workspace = three_versions.copied(tmp_path_factory.mktemp("by_command") / "workspace")
    done = call(workspace, "rollback", MODEL, "--to", "1", "--reason", WHY, "--convict")
    assert done.exit_code == 0, done.output
    assert "small_filter: version 1 serves, in place of version 3." in done.output
    assert "Convicted of poison: 2, 3." in done.output
    yield workspace


def test_champions_shows_which_version_serves_and_which_never_will(by_command: Workspace) -> None:
    lines = [
        line for line in call(by_command, "champions", MODEL).output.splitlines() if "│" in line
    ]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert [(row[3], row[4]) for row in cells] == [
        *(("PROMOTE", "1"), ("PROMOTE", "2"), ("PROMOTE", "3"), ("ROLLBACK", "1"))
    ]
    assert cells[0][5].endswith("(champion)")
    assert [row[5].endswith("(convicted)") for row in cells] == [False, True, True, False]


def test_verify_counts_rollbacks(by_command: Workspace) -> None:
    done = call(by_command, "verify")
    assert done.exit_code == 0, done.output
    assert "Verified: 3 concluded weeks and 1 rollback of small_filter" in done.output
    assert "ROLLBACK" in done.output


def test_show_finds_the_entry_and_the_request(by_command: Workspace) -> None:
    link = loaded(by_command).links[-1]
    entry = json.loads(call(by_command, "show", link.digest.hex[:12], "--json").stdout)
    request = json.loads(call(by_command, "show", link.record.decision, "--json").stdout)
    assert (entry["kind"], entry["body"]["verdict"]) == ("registry entry", "ROLLBACK")
    assert (request["kind"], request["verified"]) == ("attestation of rollback", True)
    assert request["body"]["reason"] == WHY
    assert request["inputs"]["promotion"] == loaded(by_command).links[0].digest


def test_json_for_machines(workspace: Workspace) -> None:
    done = call(workspace, "rollback", MODEL, "--to", "2", "--reason", WHY, "--json")
    said = json.loads(done.stdout)
    assert said["entry"]["digest"] == loaded(workspace).head
    assert said["entry"]["decision"] == said["request"]["digest"]
    assert said["request"]["to_version"] == 2


def test_a_refused_rollback_is_one_line_and_status_1(by_command: Workspace) -> None:
    done = call(by_command, "rollback", MODEL, "--to", "3", "--reason", WHY)
    assert done.exit_code == 1
    assert done.stderr.startswith("retraining: Version 3 of small_filter was convicted of poison")
    assert done.stdout == ""
