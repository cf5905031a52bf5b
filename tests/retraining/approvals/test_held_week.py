"""A week that was held, and people who approve it: who counts, for what, and for how long."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retraining.approvals import refuse_unapprovable
from retraining.audit import audit, audit_approvals
from retraining.digests import Digest
from retraining.errors import (
    ApprovalRefusedError,
    ChainBrokenError,
    ConfigError,
    EvidenceError,
    RegistryMovedError,
    RetrainingError,
)
from retraining.records import Check, GateDecision
from retraining.spec import ApprovalPolicy
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


def promote(workspace: Workspace, **options: Any) -> Any:
    return workspace.steps().promote(decision_of(workspace), **options).record


def audited(workspace: Workspace) -> int:
    """Verify every entry and approval, as an auditor does; return how many approvals there are."""
    steps = workspace.steps()
    assert len(list(audit(steps.store, steps.trust))) == len(workspace.registry())
    return audit_approvals(steps.store, steps.trust)


def test_one_reviewer_promotes_a_held_week(held: Workspace) -> None:
    decision = decision_of(held)
    with pytest.raises(
        ApprovalRefusedError, match=f"1 more reviewer would .*: retraining approve {decision}"
    ):
        promote(held)

    link = approve(held)
    entry = promote(held)

    assert (entry.verdict, entry.version, entry.decision) == ("PROMOTE", 1, decision)
    assert entry.approvals == (link.digest,)
    assert entry.champion == held.registry()[-1].champion is not None
    assert [e.verdict for e in held.registry()] == ["HOLD", "PROMOTE"]
    assert (link.record.approver, link.record.strength, link.record.why) == ("anna", "signed", WHY)
    assert audited(held) == 1


def test_promoting_twice_promotes_once(held: Workspace) -> None:
    approve(held)
    decision = decision_of(held)

    assert held.steps().promote(decision).digest == held.steps().promote(decision).digest
    assert len(held.registry()) == 2
    with pytest.raises(ApprovalRefusedError, match="was promoted already: version 1"):
        approve(held, "ben")


def test_rows_of_an_approved_week_are_accepted_history(held: Workspace) -> None:
    approve(held)
    promote(held)

    second = held.run_week(WEEKS[1])

    assert len(second.screened.screening.report.window) == 2
    assert second.gate.report.verdict == "HOLD"  # the holdout is as small as it was
    approve(held)
    assert promote(held).version == 2
    assert audited(held) == 2


def test_four_eyes_are_the_keys_of_two_reviewers(tmp_path: Any) -> None:
    spec = TOO_FEW_ROWS | {"approval": {"reviewers": 2}}
    workspace = make_workspace(tmp_path / "workspace", spec=spec, weeks=WEEKS[:1])
    add_people(workspace)
    workspace.run_week(WEEKS[0])

    first = approve(workspace)
    with pytest.raises(ApprovalRefusedError, match="1 more reviewer would"):
        promote(workspace)
    second = approve(workspace, "ben")

    assert promote(workspace).approvals == (first.digest, second.digest)
    assert audited(workspace) == 2


def test_always_asks_for_a_week_that_passed_every_other_check(tmp_path: Any) -> None:
    workspace = make_workspace(
        tmp_path / "workspace", spec={"approval": {"ask": ["always"]}}, weeks=WEEKS[:1]
    )
    add_people(workspace)

    decided = workspace.run_week(WEEKS[0])

    assert [check.name for check in decided.gate.report.failed()] == ["approval"]
    approve(workspace)
    assert promote(workspace).version == 1
    assert audited(workspace) == 1


def test_an_approval_counts_until_it_expires(held: Workspace) -> None:
    approve(held, expires_hours=2)
    later = datetime.now(UTC) + timedelta(hours=2, minutes=1)

    with pytest.raises(ApprovalRefusedError, match="1 more reviewer would"):
        promote(held, now=later)
    assert promote(held, now=later - timedelta(minutes=2)).version == 1


@pytest.mark.parametrize("hours", [0, -1, 73])
def test_nobody_approves_for_longer_than_the_pipeline_file_allows(
    held: Workspace, hours: int
) -> None:
    with pytest.raises(ApprovalRefusedError, match="expected 1 to 72"):
        approve(held, expires_hours=hours)


def test_an_approval_is_good_for_no_other_state_of_the_registry(held: Workspace) -> None:
    old = decision_of(held)
    approve(held)
    held.run_week(WEEKS[0])  # the same week, held again by another entry

    with pytest.raises(ChainBrokenError):
        held.steps().promote(old)
    with pytest.raises(ApprovalRefusedError, match="1 more reviewer would"):
        promote(held)
    with pytest.raises(ApprovalRefusedError, match="another run was concluded since"):
        approve(held, decision=old)


def test_a_reviewer_counts_once_and_is_told_so(held: Workspace) -> None:
    approve(held)
    with pytest.raises(
        ApprovalRefusedError, match=r"anna has approved this already.*: nothing more"
    ):
        approve(held)


@pytest.mark.parametrize("name", ["olga", "pipeline", "promoter", "gateway", "stranger"])
def test_only_a_reviewers_key_approves(held: Workspace, name: str) -> None:
    from retraining.evidence import create_key

    key = {"olga": key_of(held, name), "gateway": held.provider_key(name)}.get(
        name, held.home / "keys" / f"{name}.pem"
    )
    if name == "stranger":
        create_key(key)
    with pytest.raises(ConfigError, match=r"reviewer key .* is not on trust list"):
        held.steps().approve(decision_of(held), why=WHY, key=key)
    assert held.steps().approvals(held.model).links == ()


def test_a_reason_is_given(held: Workspace) -> None:
    with pytest.raises(ApprovalRefusedError, match="Say why"):
        held.steps().approve(decision_of(held), why=" x ", key=key_of(held, "anna"))


def test_a_new_trust_list_makes_the_question_stale(held: Workspace) -> None:
    """Whoever was taken off it cannot have a say in a week that was pinned before."""
    from retraining.keyring import change_trust

    approve(held)
    change_trust(held.settings, remove=["anna"])

    with pytest.raises(RegistryMovedError, match="trust list changed"):
        promote(held)
    with pytest.raises(RegistryMovedError, match="trust list changed"):
        approve(held, "ben")


def test_nobody_approves_what_does_not_verify(held: Workspace) -> None:
    store = held.steps().store
    champion = held.steps().decision(decision_of(held)).report.challenger
    assert champion is not None
    path = store.path_of(champion)
    path.chmod(0o644)
    path.write_bytes(b"another model")

    with pytest.raises(RetrainingError):
        approve(held)
    assert held.steps().approvals(held.model).links == ()


def test_an_entry_that_names_an_approval_which_is_gone_is_noticed(held: Workspace) -> None:
    approve(held)
    promote(held)
    (held.home / "store" / "approvals" / held.model / "0000000001.dsse.json").unlink()

    with pytest.raises(EvidenceError, match="approvals are named and 0 of them stand"):
        audited(held)


# --- which decisions may be approved at all -------------------------------------------------


def decision(verdict: Any, *checks: str, **said: Any) -> GateDecision:
    """A decision with these checks failed."""
    digest = Digest.of(b"any")
    failed = tuple(Check(name=n, verdict=verdict, observed="x", allowed="y") for n in checks)
    return GateDecision.model_validate(
        {
            "model": "small_filter",
            "week": WEEKS[0],
            "pinned_run": digest,
            "verdict": verdict,
            "checks": failed,
            "challenger": digest,
            "champion": None,
            "registry_head": None,
            "policy": digest,
            "spec": digest,
        }
        | said
    )


@pytest.mark.parametrize(
    ("ask", "checks"),
    [
        (["on_hold"], ["holdout rows"]),
        (["on_hold"], ["accuracy", "share of feed"]),
        (["on_purge"], ["purge"]),
        (["on_changed_spec"], ["spec"]),
        (["on_hold", "on_purge"], ["purge", "accuracy"]),
        (["always"], ["approval"]),
        (["always", "on_hold"], ["approval", "accuracy"]),
    ],
)
def test_what_may_be_approved(ask: list[Any], checks: list[str]) -> None:
    refuse_unapprovable(decision("HOLD", *checks), ApprovalPolicy(ask=tuple(ask)))


EVERYTHING = ["always", "on_hold", "on_purge", "on_changed_spec"]


@pytest.mark.parametrize(
    ("ask", "made", "why"),
    [
        (EVERYTHING, decision("REJECT", "accuracy"), "REJECTED, and nobody can approve that"),
        (EVERYTHING, decision("PROMOTE"), "is PROMOTE"),
        (EVERYTHING, decision("HOLD", "accuracy", dry_run=True), "a dry run"),
        (EVERYTHING, decision("HOLD", "screening", challenger=None), "has no challenger"),
        (["on_hold"], decision("HOLD", "spec"), "on_changed_spec"),
        (["on_changed_spec"], decision("HOLD", "spec", "accuracy"), "on_hold"),
        (EVERYTHING, decision("HOLD", "validation"), "has to be measured"),
        (EVERYTHING, decision("HOLD", "training"), "has to be trained"),
        ([], decision("HOLD", "accuracy"), "asks nobody"),
        (["always", "on_purge"], decision("HOLD", "accuracy"), "on_hold"),
        (["on_hold"], decision("HOLD", "purge"), "on_purge"),
        (["on_purge"], decision("HOLD", "purge", "accuracy"), "on_hold"),
        (["on_hold"], decision("HOLD", "approval"), "always"),
    ],
)
def test_what_nobody_can_approve(ask: list[Any], made: GateDecision, why: str) -> None:
    with pytest.raises(ApprovalRefusedError, match=why):
        refuse_unapprovable(made, ApprovalPolicy(ask=tuple(ask)))
