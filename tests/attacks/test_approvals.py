"""Whoever wants a held week promoted without the people who have to say yes.

The insider may do what Airflow lets him do; a thief holds a key of another role, or replays what
was signed for something else. Every forgery here is well formed and well signed; it is only not
what the pipeline file asks for.
"""

from pathlib import Path
from typing import Any

import pytest

from retraining.audit import audit, audit_approvals
from retraining.chains import registry_chain
from retraining.digests import Digest
from retraining.errors import (
    ApprovalRefusedError,
    ChainBrokenError,
    EvidenceError,
    NameTakenError,
    RetrainingError,
)
from retraining.evidence.keys import signer_from_file
from retraining.records import RegistryEntry
from tests.fixtures.workspace import WEEKS, Workspace, flip_labels, make_workspace
from tests.retraining.approvals.cases import (
    TOO_FEW_ROWS,
    WHY,
    add_people,
    approve,
    decision_of,
    forge,
    key_of,
)

pytestmark = pytest.mark.slow  # whole weeks are run

FIRST, SECOND, THIRD, _ = WEEKS


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A first week that was held, for four eyes. Not to be changed."""
    home = tmp_path_factory.mktemp("held") / "workspace"
    spec = TOO_FEW_ROWS | {"approval": {"reviewers": 2}}
    workspace = make_workspace(home, spec=spec, weeks=WEEKS[:3])
    add_people(workspace)
    workspace.run_week(FIRST)
    return workspace


@pytest.fixture
def held(held_once: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it, to do what one likes with."""
    return held_once.copied(tmp_path / "workspace")


def keys(workspace: Workspace) -> dict[str, Path]:
    """Every private key there is, by the id under which the trust list knows it."""
    team = {role: workspace.home / "keys" / f"{role}.pem" for role in ("pipeline", "promoter")}
    people = {name: key_of(workspace, name) for name in ("anna", "ben", "olga")}
    return team | people | {"gateway": workspace.provider_key("gateway")}


def refused(workspace: Workspace, decision: Digest | None = None) -> None:
    """Promotion, as the task or the command does it, changes nothing."""
    before = workspace.registry()
    with pytest.raises(RetrainingError):
        workspace.steps().promote(decision or decision_of(workspace))
    assert workspace.registry() == before


# --- whose signature ------------------------------------------------------------------------


@pytest.mark.parametrize("thief", ["pipeline", "promoter", "olga", "gateway"])
def test_a_key_of_another_role_approves_no_week(held: Workspace, thief: str) -> None:
    for approver in (thief, "anna"):
        with pytest.raises(EvidenceError, match=r"key of role|not signed"):
            forge(held, keys(held)[thief], thief, approver=approver)
    refused(held)


@pytest.mark.parametrize("thief", ["pipeline", "promoter", "anna", "gateway"])
def test_a_key_of_another_role_answers_for_no_pipeline_file(held: Workspace, thief: str) -> None:
    said = {"spec": Digest.of(b"a file"), "decision": None, "expires_on": None}
    for approver in (thief, "olga"):
        with pytest.raises(EvidenceError, match=r"key of role|not signed"):
            forge(held, keys(held)[thief], thief, approver=approver, **said)


def test_nobody_approves_in_anothers_name(held: Workspace) -> None:
    approve(held, "anna")
    with pytest.raises(EvidenceError, match="names the approver 'ben', and 'anna' signed it"):
        forge(held, key_of(held, "anna"), "anna", approver="ben")
    refused(held)


def test_one_person_is_not_four_eyes_however_often_he_signs(held: Workspace) -> None:
    approve(held, "anna")
    for why in ("again", "and again"):
        forge(held, key_of(held, "anna"), "anna", why=why, expires_on=in_an_hour())

    refused(held)


def test_the_weak_form_does_not_count_where_keys_are_asked_for(held: Workspace) -> None:
    """Whoever took over the promotion worker may sign answers that nobody gave."""
    approve(held, "anna")
    promoter = keys(held)["promoter"]
    forge(
        held, promoter, "promoter", approver="airflow:ben", strength="ui", expires_on=in_an_hour()
    )

    refused(held)
    assert audit_approvals(held.steps().store, held.steps().trust) == 2  # signed, and worth nothing


def test_a_ui_answer_needs_the_promoters_key(held: Workspace) -> None:
    for thief in ("pipeline", "anna", "olga"):
        with pytest.raises(EvidenceError, match=r"role promoter|not signed"):
            forge(held, keys(held)[thief], thief, approver="airflow:ben", strength="ui")


# --- for what, and for how long -------------------------------------------------------------


def in_an_hour() -> str:
    from datetime import UTC, datetime, timedelta

    from retraining.records import moment_text

    return moment_text(datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.parametrize("expires_on", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_an_expired_or_an_endless_approval_does_not_count(held: Workspace, expires_on: str) -> None:
    for name in ("anna", "ben"):
        forge(held, key_of(held, name), name, expires_on=expires_on)

    refused(held)


def test_an_approval_of_an_earlier_attempt_is_no_approval_of_the_next(held: Workspace) -> None:
    first = decision_of(held)
    for name in ("anna", "ben"):
        approve(held, name)
    held.run_week(FIRST)

    refused(held)  # what was not looked at
    refused(held, first)  # what was, but is not what the registry holds now


def test_an_approval_of_another_decision_under_the_right_entry_is_found(held: Workspace) -> None:
    """A reviewer's key that signs a decision which no entry holds: it counts for nothing."""
    for name in ("anna", "ben"):
        forge(held, key_of(held, name), name, decision=Digest.of(b"x"), expires_on=in_an_hour())

    refused(held)
    steps = held.steps()
    with pytest.raises(ChainBrokenError, match="holds no such decision"):
        audit_approvals(steps.store, steps.trust)


def test_nobody_approves_a_reject(tmp_path: Path) -> None:
    workspace = make_workspace(
        tmp_path / "workspace",
        spec={"gate": {"limits": {"accuracy": {"min": 0.0, "max": 0.1}}}},
        weeks=[FIRST],
    )
    add_people(workspace)
    decided = workspace.run_week(FIRST)
    assert decided.gate.report.verdict == "REJECT"

    with pytest.raises(ApprovalRefusedError, match="nobody can approve that"):
        approve(workspace)
    forge(workspace, key_of(workspace, "anna"), "anna", expires_on=in_an_hour())
    refused(workspace)


def test_nobody_approves_a_model_that_nobody_measured(tmp_path: Path) -> None:
    """An insider skips the validation; the gate holds, and the reviewer means well."""
    from retraining.weekly import screen_week

    workspace = make_workspace(tmp_path / "workspace", weeks=[FIRST])
    add_people(workspace)
    steps = workspace.steps()
    screened = screen_week(steps, workspace.model, FIRST)
    run, screening = screened.run.attestation.digest, screened.screening.attestation.digest
    decided = steps.decide(
        run,
        provenance=[result.attestation.digest for result in screened.provenance],
        screening=screening,
        training=steps.train(run, screening).attestation.digest,
        validation=None,
    )
    assert decided.report.verdict == "HOLD" and decided.report.challenger is not None

    with pytest.raises(ApprovalRefusedError, match="has to be measured"):
        approve(workspace)
    forge(workspace, key_of(workspace, "anna"), "anna", expires_on=in_an_hour())
    refused(workspace)


def test_nobody_approves_a_poisoned_week_without_a_challenger(held: Workspace) -> None:
    held.deliver(SECOND, ["gateway"], change=flip_labels("spam", "ham", share=0.6))
    decided = held.run_week(SECOND)
    assert decided.gate.report.challenger is None

    with pytest.raises(ApprovalRefusedError, match="has no challenger"):
        approve(held)


# --- who holds the promoter's key, and writes by hand ---------------------------------------


def append_by_hand(workspace: Workspace, **said: Any) -> None:
    """The next registry entry, promoted after the held one, signed with the promoter's key."""
    steps = workspace.steps()
    registry = steps.registry(workspace.model)
    newest = registry.links[-1]
    challenger = steps.decision(newest.record.decision).report.challenger
    entry = newest.record.model_copy(
        update={
            "sequence": newest.record.sequence + 1,
            "previous": newest.digest,
            "verdict": "PROMOTE",
            "champion": challenger,
            "version": 1,
            **said,
        }
    )
    signer = signer_from_file(keys(workspace)["promoter"], "promoter")
    chain = registry_chain(steps.store, steps.trust, workspace.model)
    chain.append(RegistryEntry.model_validate(entry.model_dump()), signer)


def test_an_auditor_sees_a_promotion_that_nobody_approved(held: Workspace) -> None:
    append_by_hand(held)
    found(held, "another registry head|old decision|something else|forged")


def test_an_auditor_sees_a_promotion_that_one_of_two_approved(held: Workspace) -> None:
    append_by_hand(held, approvals=(approve(held, "anna").digest,))
    found(held, "1 more reviewer would have to sign")


def test_an_auditor_sees_one_approval_named_twice(held: Workspace) -> None:
    once = approve(held, "anna").digest
    append_by_hand(held, approvals=(once, once))
    found(held, "approvals are named")


def test_an_auditor_sees_an_approval_of_another_week(held: Workspace) -> None:
    old = tuple(approve(held, name).digest for name in ("anna", "ben"))
    held.run_week(FIRST)
    append_by_hand(held, approvals=old)
    found(held, "0 of them count")


def test_an_auditor_sees_an_answer_in_the_ui_where_keys_are_asked_for(held: Workspace) -> None:
    anna = approve(held, "anna").digest
    promoter = keys(held)["promoter"]
    weak = forge(held, promoter, "promoter", approver="airflow:ben", strength="ui")
    append_by_hand(held, approvals=(anna, weak.digest))
    found(held, "1 of them count")


def found(workspace: Workspace, what: str) -> None:
    steps = workspace.steps()
    with pytest.raises(EvidenceError, match=what):
        list(audit(steps.store, steps.trust))


# --- two at once ----------------------------------------------------------------------------


def test_two_promotions_of_one_approved_week_append_once(
    held: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the registry when the first of them writes."""
    for name in ("anna", "ben"):
        approve(held, name)
    decision = decision_of(held)
    slow = held.steps()
    stale = slow.registry(held.model)
    held.steps().promote(decision)
    monkeypatch.setattr(slow, "registry", lambda _model: stale)

    with pytest.raises((RetrainingError, NameTakenError), match="concluded first"):
        slow.promote(decision)
    assert [entry.verdict for entry in held.registry()] == ["HOLD", "PROMOTE"]


def test_the_reason_is_on_record(held: Workspace) -> None:
    approve(held, "anna")
    (link,) = held.steps().approvals(held.model).links
    assert link.record.why == WHY
