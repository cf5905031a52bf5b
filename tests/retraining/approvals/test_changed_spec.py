"""A changed pipeline file waits for its owner; whoever changes it cannot switch that off."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from retraining.audit import audit, audit_approvals
from retraining.cli import app
from retraining.digests import Digest
from retraining.errors import ApprovalRefusedError, ChainBrokenError, ConfigError
from retraining.gate.people_checks import changed_settings
from retraining.keyring import change_trust
from retraining.records import Check
from retraining.spec import load_spec, parse_spec
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace
from tests.retraining.approvals.cases import TOO_FEW_ROWS, add_people, approve, key_of

pytestmark = pytest.mark.slow  # each runs weeks up to the gate

FIRST, SECOND, THIRD, _ = WEEKS
STRICTER = {"gate": {"margin": 0.09}}
WHY = "agreed with the team"


def sign(workspace: Workspace, name: str = "olga") -> Digest:
    link = workspace.steps().sign_spec(workspace.model, why=WHY, key=key_of(workspace, name))
    return Digest(link.digest)


def spec_check(decided: Any) -> Check:
    (found,) = (check for check in decided.gate.report.checks if check.name == "spec")
    return found


def test_an_unchanged_file_asks_nobody(served: Workspace) -> None:
    decided = served.run_week(SECOND)

    assert (decided.gate.report.verdict, spec_check(decided).observed) == ("PROMOTE", "the same")


def test_a_changed_file_is_held_until_its_owner_signs_it(served: Workspace) -> None:
    served.edit_spec(STRICTER)

    held = served.run_week(SECOND)
    assert [c.name for c in held.gate.report.failed()] == ["spec"]
    said = spec_check(held)
    assert said.observed == "changed and not signed: gate.margin"
    assert said.next_step.startswith("have its owner (olga) sign it: `retraining approve --spec")
    with pytest.raises(ApprovalRefusedError, match="an owner of its pipeline file would have to"):
        served.steps().promote(held.gate.attestation.digest)
    signed = sign(served)
    entry = served.steps().promote(held.gate.attestation.digest).record  # and trained once

    assert (entry.version, entry.approvals) == (2, (signed,))
    steps = served.steps()
    assert len(list(audit(steps.store, steps.trust))) == 3
    assert audit_approvals(steps.store, steps.trust) == 1


def test_a_file_that_was_signed_before_the_run_is_not_held(served: Workspace) -> None:
    served.edit_spec(STRICTER)
    sign(served)

    decided = served.run_week(SECOND)

    assert decided.entry is not None and decided.entry.record.approvals == ()
    assert spec_check(decided).observed == "changed (gate.margin), signed by olga"
    steps = served.steps()
    assert len(list(audit(steps.store, steps.trust))) == 2


def test_people_hear_of_an_unsigned_file_before_anything_is_trained(
    served: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the run is pinned, and from `check`; in the words that the gate would use."""
    served.steps().pin(served.model, SECOND)
    assert "warning" not in capsys.readouterr().out + checked(served)
    served.edit_spec(STRICTER)

    served.steps().pin(served.model, SECOND)

    told = capsys.readouterr().out
    assert "warning: the gate will HOLD every week of small_filter" in told
    for said in (told, checked(served)):
        assert "the pipeline file is changed and not signed: gate.margin" in said
        assert "(olga) sign it: `retraining approve --spec small_filter --key KEY" in said
    sign(served)
    served.steps().pin(served.model, SECOND)
    assert "warning" not in capsys.readouterr().out + checked(served)


def test_check_says_when_it_cannot_see_and_makes_no_store(served: Workspace) -> None:
    store = served.home / "store"
    store.rename(served.home / "elsewhere")

    said = checked(served)

    assert "whether an owner has to sign it could not be seen: " in said
    assert not store.exists()
    served.settings.root_key.unlink()
    assert "warning" not in checked(served)


def checked(workspace: Workspace) -> str:
    """What `retraining check` says of a file that is right."""
    command = ["--home", str(workspace.home), "check", workspace.model]
    done = CliRunner().invoke(app, command, env=workspace.environment)
    assert done.exit_code == 0, done.output
    assert f"{workspace.model}: right." in done.stdout
    return str(done.stdout)


def test_a_week_that_is_held_for_two_reasons_needs_both(served: Workspace) -> None:
    served.edit_spec(TOO_FEW_ROWS)
    held = served.run_week(SECOND).gate
    assert {check.name for check in held.report.failed()} == {"spec", "holdout rows"}

    reviewed = approve(served)
    with pytest.raises(
        ApprovalRefusedError, match=r"and an owner of its .*: retraining approve --"
    ):
        served.steps().promote(held.attestation.digest)
    signed = sign(served)

    promoted = served.steps().promote(held.attestation.digest).record
    assert promoted.approvals == (reviewed.digest, signed)


def test_an_owners_signature_is_no_reviewers(served: Workspace) -> None:
    served.edit_spec(TOO_FEW_ROWS)
    held = served.run_week(SECOND).gate.attestation.digest
    sign(served)

    with pytest.raises(ApprovalRefusedError, match="HOLD, and 1 more reviewer would"):
        served.steps().promote(held)


def test_a_reviewer_cannot_answer_for_a_changed_file(served: Workspace) -> None:
    served.edit_spec(STRICTER)
    served.run_week(SECOND)

    with pytest.raises(ApprovalRefusedError, match="pipeline file alone, which an owner signs"):
        approve(served)
    for name in ("anna", "pipeline"):
        key = {"pipeline": served.home / "keys" / "pipeline.pem"}.get(name, key_of(served, name))
        with pytest.raises(ConfigError, match=r"owner key .* is not on trust list"):
            served.steps().sign_spec(served.model, why=WHY, key=key)


def test_a_signature_is_for_one_file(served: Workspace) -> None:
    served.edit_spec(STRICTER)
    sign(served)
    served.edit_spec({"gate": {"margin": 0.5}})

    assert spec_check(served.run_week(SECOND)).verdict == "HOLD"


def test_an_old_signature_brings_no_old_file_back(served: Workspace) -> None:
    """Signed once for good reasons, replaced since: whoever puts it back needs a new signature."""
    served.edit_spec(STRICTER)
    sign(served)
    assert served.run_week(SECOND).entry is not None
    served.edit_spec({"gate": {"margin": 0.08}})
    sign(served)
    assert served.run_week(THIRD).entry is not None
    served.deliver(WEEKS[3])
    served.edit_spec(STRICTER)

    assert spec_check(served.run_week(WEEKS[3])).verdict == "HOLD"


def test_after_a_rollback_the_newer_file_is_signed_again(served: Workspace) -> None:
    served.edit_spec(STRICTER)
    sign(served)
    assert served.run_week(SECOND).entry is not None
    steps = served.steps()
    asked = steps.request_rollback(served.model, to_version=1, reason="a test")
    steps.restore(asked.attestation.digest)

    assert spec_check(served.run_week(THIRD)).verdict == "HOLD"
    sign(served)
    assert spec_check(served.run_week(THIRD)).verdict == "PROMOTE"


def test_a_key_that_was_taken_off_signs_nothing_any_more(served: Workspace) -> None:
    served.edit_spec(STRICTER)
    sign(served)
    change_trust(served.settings, remove=["olga"])

    said = spec_check(served.run_week(SECOND))

    assert said.verdict == "HOLD"
    assert said.next_step.startswith("no key may sign it: `retraining keys provider NAME`")
    assert "--role owner" in said.next_step


def test_another_key_under_the_same_name_did_not_sign_it(served: Workspace) -> None:
    from retraining.evidence import create_key
    from retraining.keyring import NewKey

    served.edit_spec(STRICTER)
    sign(served)
    folder = served.home / "exchanged"
    create_key(folder / "olga.pem")
    new = [NewKey("olga", "owner", folder / "olga.pub.json")]
    change_trust(served.settings, remove=["olga"], add=new)

    assert spec_check(served.run_week(SECOND)).verdict == "HOLD"


def test_what_was_signed_after_a_run_was_pinned_is_for_the_next(served: Workspace) -> None:
    from retraining.weekly import screen_week

    served.edit_spec(STRICTER)
    steps = served.steps()
    screened = screen_week(steps, served.model, SECOND)
    sign(served)
    run, screening = screened.run.attestation.digest, screened.screening.attestation.digest
    training = steps.train(run, screening).attestation.digest

    decided = steps.decide(
        run,
        provenance=[result.attestation.digest for result in screened.provenance],
        screening=screening,
        training=training,
        validation=steps.validate(run, training).attestation.digest,
    )

    assert [check.name for check in decided.report.failed()] == ["spec"]


def test_approvals_that_a_run_took_into_account_cannot_be_taken_away(served: Workspace) -> None:
    served.edit_spec(STRICTER)
    sign(served)
    assert served.run_week(SECOND).entry is not None
    (served.home / "store" / "approvals" / served.model / "0000000001.dsse.json").unlink()
    steps = served.steps()

    with pytest.raises(ChainBrokenError, match="approvals of small_filter have no entry"):
        list(audit(steps.store, steps.trust))


# --- whoever changes the file cannot switch the question off --------------------------------


@pytest.mark.parametrize(
    "rules",
    [{"ask": []}, {"ask": ["on_hold"]}, {"in_ui": True}, {"expires_hours": 720}],
    ids=["ask nobody", "ask less", "ask in the UI", "ask longer"],
)
def test_a_file_that_asks_less_is_held_like_any_other(
    served: Workspace, rules: dict[str, Any]
) -> None:
    served.edit_spec({"approval": rules})

    assert spec_check(served.run_week(SECOND)).verdict == "HOLD"


def test_until_an_owner_signs_the_champions_file_says_who_is_asked(tmp_path: Any) -> None:
    """Its rules ask for every promotion, and not about files: so a new file may come, and ask."""
    workspace = make_workspace(
        tmp_path / "workspace", spec={"approval": {"ask": ["always"]}}, weeks=WEEKS[:3]
    )
    add_people(workspace)
    workspace.run_week(FIRST)
    approve(workspace)
    workspace.steps().promote(workspace.registry()[-1].decision)
    workspace.edit_spec({"approval": {"ask": [], "in_ui": True}})

    decided = workspace.run_week(SECOND)

    assert spec_check(decided).observed.endswith("nobody asked")
    assert [check.name for check in decided.gate.report.failed()] == ["approval"]
    with pytest.raises(ApprovalRefusedError, match="counts no answer in Airflow"):
        workspace.steps().approve_in_ui(decided.gate.attestation.digest, user="eve", why=WHY)
    sign(workspace)
    assert workspace.run_week(SECOND).entry is not None  # the owner's word: nobody is asked now


def test_a_setting_that_a_release_added_is_no_change(served: Workspace) -> None:
    new = load_spec(served.spec_file)
    old = json.loads(new.to_json())
    del old["approval"], old["gate"]["require_behaviour"]

    assert changed_settings(parse_spec(old, origin="an older release"), new) == []
    loose = parse_spec(old | {"approval": {"ask": []}, "owner": "eve"}, origin="today")
    assert changed_settings(loose, new) == ["approval.ask", "owner"]
