"""An incident: poison found late is confirmed, taken back, and tied together in one record."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from retraining.audit import audit_incidents
from retraining.chains import incident_chain
from retraining.cli import app
from retraining.digests import Digest
from retraining.errors import (
    ChainBrokenError,
    EvidenceError,
    RegistryMovedError,
    ReviewRefusedError,
    SpecError,
)
from retraining.evidence.keys import signer_from_file
from retraining.records import BatchId, IncidentEntry, ReviewSubject, RollbackRequest
from retraining.steps import incident as step
from retraining.steps.incident import IncidentOutcome
from tests.fixtures.workspace import MODEL, WEEKS, Workspace
from tests.retraining.approvals import cases as people
from tests.retraining.reviews.cases import WHY, review

pytestmark = pytest.mark.slow  # on a workspace with whole weeks

FIRST, SECOND = WEEKS[:2]
OLD = ReviewSubject(batch=BatchId(source="feed", week=FIRST))
NEW = ReviewSubject(batch=BatchId(source="feed", week=SECOND))


def key_of(workspace: Workspace) -> Path:
    return workspace.home / "reviewers" / "anna.pem"


def report(workspace: Workspace, *about: ReviewSubject, **options: Any) -> IncidentOutcome:
    """Start the incident as anna."""
    options = {"why": WHY, "key": key_of(workspace)} | options
    done = workspace.steps().incident(MODEL, about, **options)
    assert isinstance(done, IncidentOutcome)
    return done


def entries(workspace: Workspace) -> list[IncidentEntry]:
    steps = workspace.steps()
    return [link.record for link in incident_chain(steps.store, steps.trust, MODEL).load()]


def audited(workspace: Workspace) -> int:
    steps = workspace.steps()
    return audit_incidents(steps.store, steps.trust, models=[MODEL])


def state(workspace: Workspace) -> tuple[list[str], int, int]:
    """Names of all records, how many reviews there are, and the version that serves."""
    steps = workspace.steps()
    names = [
        n for part in ("attestations", "incidents", "registry") for n in steps.store.names(part)
    ]
    return sorted(names), len(steps.reviews(MODEL).links), steps.registry(MODEL).version


def without_key(workspace: Workspace, role: str) -> Path:
    """Take a key off this machine; return where it lies now."""
    key = workspace.settings.keys / f"{role}.pem"
    return key.rename(workspace.home / f"{role}.elsewhere")


def test_the_newest_poison_takes_the_model_back_and_is_one_record(workspace: Workspace) -> None:
    done = report(workspace, NEW)

    steps = workspace.steps()
    (entry,) = entries(workspace)
    registry = steps.registry(MODEL)
    assert (done.serves, done.missing, registry.version) == (1, "", 1)
    assert (entry.serving, entry.learned, entry.restore_to, entry.convict) == (2, (2,), 1, (2,))
    assert (entry.about, entry.why, entry.reviewer) == ((NEW,), WHY, "anna")
    assert set(registry.convicted) == {2}
    (confirmed,) = steps.reviews(MODEL).links
    assert (entry.reviews, confirmed.record.verb) == ((confirmed.digest,), "confirm")
    assert confirmed.record.about == NEW
    assert entry.rollback == registry.links[-1].record.decision
    asked = steps.open_any("rollback", entry.rollback, RollbackRequest).report
    assert (asked.to_version, asked.convict, asked.reason) == (1, True, WHY)
    assert audited(workspace) == 1


def test_a_second_start_does_nothing_twice(workspace: Workspace) -> None:
    first = report(workspace, NEW)
    before = state(workspace)

    again = report(workspace, NEW)

    assert state(workspace) == before
    assert again.entry == first.entry
    assert (again.serves, again.missing) == (1, "")


@pytest.mark.parametrize("killed_in", ["request_rollback", "_append", "restore"])
def test_a_start_after_a_kill_finishes_what_was_left(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    def kill(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(step, killed_in, kill)
        with pytest.raises(KeyboardInterrupt):
            report(workspace, NEW)
    assert state(workspace)[1:] == (1, 2)

    report(workspace, NEW)

    assert (state(workspace)[1:], len(entries(workspace))) == ((1, 1), 1)
    assert [e.verdict for e in workspace.registry()] == ["PROMOTE", "PROMOTE", "ROLLBACK"]
    assert audited(workspace) == 1


def test_without_the_promoters_key_it_is_asked_for_and_done_where_the_key_is(
    workspace: Workspace,
) -> None:
    key = without_key(workspace, "promoter")
    waiting = report(workspace, NEW)
    assert (waiting.serves, waiting.missing) == (2, "promoter")
    before = state(workspace)
    assert report(workspace, NEW).missing == "promoter"
    assert state(workspace) == before

    key.rename(workspace.settings.keys / "promoter.pem")
    done = report(workspace, NEW, key=None)  # nobody has to sign the incident again

    assert (done.serves, done.missing, done.entry) == (1, "", waiting.entry)
    assert audited(workspace) == 1


def test_without_the_pipelines_key_the_purge_is_on_record_and_the_request_is_missing(
    workspace: Workspace,
) -> None:
    key = without_key(workspace, "pipeline")
    waiting = report(workspace, NEW)
    assert (waiting.serves, waiting.missing) == (2, "pipeline")
    assert [entry.rollback for entry in entries(workspace)] == [None]
    assert report(workspace, NEW).entry == waiting.entry

    key.rename(workspace.settings.keys / "pipeline.pem")
    assert report(workspace, NEW).serves == 1
    assert [entry.rollback is None for entry in entries(workspace)] == [True, False]
    assert state(workspace)[1] == 1
    assert audited(workspace) == 2


def test_where_every_version_learned_from_it_nothing_is_rolled_back(workspace: Workspace) -> None:
    done = report(workspace, OLD)

    (entry,) = entries(workspace)
    assert (entry.learned, entry.restore_to, entry.convict) == ((1, 2), 0, ())
    assert (entry.rollback, done.plan.stuck, done.serves) == (None, True, 2)
    assert state(workspace)[1:] == (1, 2)
    assert report(workspace, OLD).entry == done.entry
    assert audited(workspace) == 1


def test_where_every_version_learned_from_it_the_command_says_what_is_left_to_do(
    workspace: Workspace,
) -> None:
    """And it is so: the next week is promoted, and its model learned from none of these rows."""
    workspace.deliver(WEEKS[2])
    subject = ["--source", "feed", "--week", FIRST, "--why", WHY]

    said = command(workspace, "incident", MODEL, *subject, "--key", str(key_of(workspace))).stdout

    assert "No version is left that did not learn from it" in said
    assert "version 2 still serves. Withdraw it with the same command and --withdraw" in said
    assert "It is on record all the same." in said and f"incident {head(workspace)}" in said
    assert "Convicted" not in said and audited(workspace) == 1
    assert workspace.run_week(WEEKS[2]).entry is not None
    steps = workspace.steps()
    assert steps.trace(MODEL, step.Traced(source="feed", week=FIRST)).versions == (1, 2)
    again = report(workspace, OLD)  # now there is nothing left to take back
    assert (again.plan.stuck, again.serves, len(entries(workspace))) == (False, 3, 1)


def test_where_every_version_learned_from_it_the_model_can_be_withdrawn(
    workspace: Workspace,
) -> None:
    """Also later than it was found; and the next model learns from none of the convicted weeks."""
    report(workspace, OLD)

    done = report(workspace, OLD, withdraw=True)

    _, entry = entries(workspace)
    assert (entry.serving, entry.restore_to, entry.convict) == (2, 0, (1, 2))
    assert (done.serves, done.missing, done.plan.stuck) == (0, "", False)
    assert state(workspace)[1:] == (1, 0)
    assert report(workspace, OLD, withdraw=True).serves == 0
    assert (len(entries(workspace)), audited(workspace)) == (2, 2)
    workspace.deliver(WEEKS[2])
    people.add_people(workspace, {"olga": "owner"})
    workspace.steps().sign_spec(MODEL, why="start over", key=people.key_of(workspace, "olga"))
    assert workspace.run_week(WEEKS[2]).entry is not None
    assert workspace.steps().trace(MODEL, step.Traced(source="feed", week=FIRST)).versions == (1, 2)


def test_a_withdrawal_waits_for_the_key_that_is_missing(workspace: Workspace) -> None:
    key = without_key(workspace, "promoter")
    options = ["--source", "feed", "--week", FIRST, "--why", WHY, "--key", str(key_of(workspace))]

    said = command(workspace, "incident", MODEL, *options, "--withdraw").stdout

    assert "Version 2 still serves" in said
    assert f"`retraining rollback {MODEL} --to 0 --convict`" in said
    key.rename(workspace.settings.keys / "promoter.pem")
    said = command(workspace, "incident", MODEL, *options, "--withdraw").stdout
    assert "No version serves, in place of version 2." in said
    assert "Convicted: 1, 2." in said and f"retraining approve --spec {MODEL}" in said
    assert audited(workspace) == 1


def head(workspace: Workspace) -> Digest:
    """The newest incident on record."""
    steps = workspace.steps()
    return Digest(incident_chain(steps.store, steps.trust, MODEL).load()[-1].digest)


def test_what_nobody_learned_from_is_purged_only(workspace: Workspace) -> None:
    report(workspace, NEW)  # version 1 serves, and never saw the second week

    later = ReviewSubject(batch=BatchId(source="gateway", week=SECOND))
    done = report(workspace, later)

    assert (done.plan.learned, done.plan.stuck, done.serves) == ((), False, 1)
    assert len(workspace.registry()) == 3


def test_a_learner_above_a_clean_serving_version_is_no_reason_to_roll_back(
    workspace: Workspace,
) -> None:
    steps = workspace.steps()
    asked = steps.request_rollback(MODEL, to_version=1, reason=WHY)
    steps.restore(asked.attestation.digest)

    plan = report(workspace, NEW, dry_run=True).plan

    assert (plan.learned, plan.serving, plan.restore_to, plan.convict) == ((2,), 1, 0, ())


def test_with_a_clean_version_between_nobody_is_convicted(workspace: Workspace) -> None:
    """Version 3 learned from no row of the second week's feed: it was taken out before."""
    workspace.deliver(WEEKS[2])
    confirmed = review(workspace, "confirm", batch=NEW.batch)
    assert workspace.run_week(WEEKS[2]).entry is not None
    steps = workspace.steps()
    assert steps.trace(MODEL, step.Traced(source="feed", week=SECOND)).versions == (2,)
    before = report(workspace, NEW, dry_run=True).plan
    assert (before.serving, before.learned, before.restore_to) == (3, (2,), 0)
    asked = steps.request_rollback(MODEL, to_version=2, reason=WHY)
    steps.restore(asked.attestation.digest)

    plan = report(workspace, NEW, dry_run=True).plan

    assert (plan.serving, plan.learned, plan.restore_to) == (2, (2,), 1)
    assert plan.convict == ()  # it would strike version 3 as well
    assert plan.confirmed == (confirmed.digest,)


def test_a_run_that_was_concluded_meanwhile_stops_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = step.request_rollback

    def after_another(bench: Any, model: str, **options: Any) -> Any:
        other = workspace.steps()
        asked = other.request_rollback(MODEL, to_version=1, reason=WHY)
        other.restore(asked.attestation.digest)
        other.restore(other.request_rollback(MODEL, to_version=2, reason=WHY).attestation.digest)
        return honest(bench, model, **options)

    monkeypatch.setattr(step, "request_rollback", after_another)
    with pytest.raises(RegistryMovedError, match="concluded meanwhile"):
        report(workspace, NEW)
    assert entries(workspace) == []


def test_two_incidents_at_once_are_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, raced = step._append, []

    def after_another(*arguments: Any) -> Any:
        if not raced:
            raced.append(True)
            report(workspace, NEW)
        return honest(*arguments)

    monkeypatch.setattr(step, "incident_chain", lambda *a: _Stale(incident_chain(*a), raced))
    monkeypatch.setattr(step, "_append", after_another)
    with pytest.raises(RegistryMovedError, match="at the same time"):
        report(workspace, NEW)
    assert (len(entries(workspace)), state(workspace)[2]) == (1, 1)


class _Stale:
    """A chain that its reader read before another wrote."""

    def __init__(self, chain: Any, raced: list[bool]) -> None:
        self._chain, self._raced = chain, raced

    def load(self) -> list[Any]:
        found = self._chain.load()
        return [] if self._raced and found else found

    def append(self, *arguments: Any) -> Any:
        return self._chain.append(*arguments)


def test_a_confirmation_that_was_taken_back_is_made_again(workspace: Workspace) -> None:
    report(workspace, NEW)
    review(workspace, "release", batch=NEW.batch)

    report(workspace, NEW)

    verbs = [link.record.verb for link in workspace.steps().reviews(MODEL).links]
    assert verbs == ["confirm", "release", "confirm"]
    assert (len(entries(workspace)), audited(workspace)) == (2, 2)


def test_a_dry_run_says_the_same_and_signs_nothing(workspace: Workspace) -> None:
    before = state(workspace)
    dry = report(workspace, NEW, dry_run=True, key=None)
    assert (state(workspace), dry.entry) == (before, None)

    done = report(workspace, NEW)

    assert done.plan == dry.plan


def test_what_cannot_be_confirmed_is_refused_and_nothing_is_signed(workspace: Workspace) -> None:
    before = state(workspace)
    nowhere = ReviewSubject(batch=BatchId(source="nobody", week=FIRST))
    with pytest.raises(SpecError, match="nobody"):
        report(workspace, nowhere)
    with pytest.raises(ReviewRefusedError, match="Say why"):
        report(workspace, NEW, why=" ")
    with pytest.raises(ReviewRefusedError, match="Name the week"):
        report(workspace)
    assert state(workspace) == before


def append(workspace: Workspace, key: Path, key_id: str, **lies: Any) -> None:
    """Write an incident by hand, as `entries` ends with but for the lies."""
    steps = workspace.steps()
    chain = incident_chain(steps.store, steps.trust, MODEL)
    last = chain.load()[-1]
    told = last.record.model_dump() | {
        "sequence": last.record.sequence + 1,
        "previous": last.digest,
    }
    entry = IncidentEntry.model_validate(told | lies)
    chain.append(entry, signer_from_file(key, key_id))


def test_an_incident_that_contradicts_itself_is_no_record(workspace: Workspace) -> None:
    report(workspace, NEW)
    for lies, said in (
        ({"reviews": ()}, "confirmed by one review"),
        ({"serving": 1}, "only a serving version that learned from it is taken back"),
        ({"convict": (1,)}, "only versions that learned from it are convicted"),
    ):
        with pytest.raises(ValidationError, match=said):
            append(workspace, key_of(workspace), "anna", **lies)


def test_only_reviewers_record_incidents_and_in_no_others_name(workspace: Workspace) -> None:
    report(workspace, NEW)
    pipeline = workspace.settings.keys / "pipeline.pem"
    with pytest.raises(EvidenceError, match="not signed by a reviewer key"):
        append(workspace, pipeline, "pipeline", reviewer="pipeline")
    with pytest.raises(EvidenceError, match="names the reviewer 'ben'"):
        append(workspace, key_of(workspace), "anna", reviewer="ben")


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        ({"reviews": (Digest.of(b"no review"),)}, "no review"),
        ({"about": (OLD,)}, "no review"),
        ({"serving": 1, "learned": (1, 2)}, "did not serve then"),
        ({"convict": ()}, "asks for another rollback"),
        ({"rollback": Digest.of(b"no request")}, "incident 2"),
    ],
)
def test_an_auditor_finds_an_incident_that_does_not_fit(
    workspace: Workspace, lies: dict[str, Any], said: str
) -> None:
    report(workspace, NEW)
    append(workspace, key_of(workspace), "anna", **lies)
    with pytest.raises(ChainBrokenError, match=said):
        audited(workspace)


def command(workspace: Workspace, *words: str) -> Any:
    done = CliRunner().invoke(
        app, ["--home", str(workspace.home), *words], env=workspace.environment
    )
    assert done.exit_code == 0, done.output
    return done


def test_the_command_takes_a_whole_source_and_verify_counts_it(workspace: Workspace) -> None:
    options = ["incident", MODEL, "--why", WHY, "--key", str(key_of(workspace))]
    dry = command(workspace, *options, "--source", "feed", "--dry-run")
    assert "would confirm: all rows of feed" in dry.stdout
    assert "No version is left that did not learn from it" in dry.stdout
    assert "Would be put on record all the same." in dry.stdout

    said = command(workspace, *options, "--source", "feed", "--week", SECOND, "--json")

    told = json.loads(said.stdout)
    assert (told["learned"], told["restore_to"], told["serves"]) == ([2], 1, 1)
    assert told["entry"]["reviewer"] == "anna"
    assert "1 incident of" in command(workspace, "verify").stdout
    shown = command(workspace, "show", told["digest"])
    assert "incident" in shown.stdout and "anna" in shown.stdout
