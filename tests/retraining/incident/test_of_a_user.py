"""An incident of a user: who learned from his rows is taken back, and he is not read again."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from retraining.audit import audit, audit_incidents, audit_reviews
from retraining.cli import app
from retraining.errors import ChainBrokenError, ReviewRefusedError, SpecError
from retraining.records import ReviewSubject, SourceUser
from retraining.steps.incident import IncidentOutcome
from retraining.steps.tracing import Traced
from tests.fixtures.workspace import MODEL, WEEKS, Change, Workspace, make_workspace
from tests.retraining.reviews.cases import WHY, accepted_rows, add_reviewer, review

pytestmark = pytest.mark.slow  # on a workspace with whole weeks

FIRST, SECOND, THIRD = WEEKS[:3]
MALLORY = ReviewSubject(user=SourceUser(source="feed", user="mallory"))


def by(*users: str) -> Change:
    """The rows are theirs in turn; every tenth row is nobody's."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        named = [users[n % len(users)] if n % 10 else None for n in range(len(rows))]
        return rows.assign(sender=named)

    return change


@pytest.fixture(scope="session")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Mallory hands in rows of the second and third week; the third is delivered only."""
    workspace = make_workspace(
        tmp_path_factory.mktemp("users") / "workspace", spec={"user": "sender"}
    )
    add_reviewer(workspace)
    for week in (FIRST, SECOND, THIRD):
        workspace.deliver(week, ["gateway"], change=by("mallory", "trent"))  # a namesake
        users = ("alice", "bob") * 6 + (() if week == FIRST else ("mallory",))
        workspace.deliver(week, ["feed"], change=by(*users))
    for week in (FIRST, SECOND):
        assert workspace.run_week(week).entry is not None
    return workspace


@pytest.fixture
def workspace(with_users: Workspace, tmp_path: Path) -> Workspace:
    return with_users.copied(tmp_path / "workspace")


def report(workspace: Workspace, about: ReviewSubject = MALLORY, **options: Any) -> IncidentOutcome:
    key = workspace.home / "reviewers" / "anna.pem"
    done = workspace.steps().incident(MODEL, (about,), why=WHY, key=key, **options)
    assert isinstance(done, IncidentOutcome)
    return done


def test_his_rows_go_and_stay_out_and_his_namesakes_stay(workspace: Workspace) -> None:
    his = accepted_rows(workspace, "feed", SECOND)["sender"] == "mallory"
    assert his.sum() > 5

    done = report(workspace)

    assert (done.plan.learned, done.plan.convict, done.serves) == ((2,), (2,), 1)
    third = workspace.run_week(THIRD)
    assert third.entry is not None, third.gate.report.failed()
    trained = accepted_rows(workspace, "feed", THIRD)["sender"]
    assert "mallory" not in set(trained) and {"alice", "bob"} <= set(trained)
    assert trained.isna().any()  # a row that names nobody is nobody's
    assert "mallory" in set(accepted_rows(workspace, "gateway", THIRD)["sender"])
    steps = workspace.steps()
    assert (audit_reviews(steps.store, steps.trust), audit_incidents(steps.store, steps.trust)) == (
        *(1, 1),
    )
    assert len(list(audit(steps.store, steps.trust))) == 4


def test_a_screening_that_lets_him_through_is_not_promoted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retraining.reviews.reviewed import Reviewed
    from retraining.steps import screening

    review(workspace, "confirm", user=MALLORY.user)
    monkeypatch.setattr(screening.purging, "confirmed_in_history", lambda *_: {})
    honest = Reviewed.confirmed_rows
    with monkeypatch.context() as patch:
        patch.setattr(Reviewed, "confirmed_rows", _none_while_screening(honest))
        with pytest.raises(ChainBrokenError, match="confirmed as poison by a reviewer"):
            workspace.run_week(THIRD)
    assert [entry.week for entry in workspace.registry()] == [FIRST, SECOND]


def _none_while_screening(honest: Any) -> Any:
    def confirmed_rows(self: Any, column: Any, **about: Any) -> Any:
        import inspect

        found = honest(self, column, **about)
        lineage = any(frame.function == "check_lineage" for frame in inspect.stack(0))
        return found if lineage else found & False

    return confirmed_rows


def test_released_he_is_read_again(workspace: Workspace) -> None:
    review(workspace, "confirm", user=MALLORY.user)
    review(workspace, "release", user=MALLORY.user)
    assert workspace.run_week(THIRD).entry is not None
    assert "mallory" in set(accepted_rows(workspace, "feed", THIRD)["sender"])


def test_what_can_be_nobody_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ReviewRefusedError, match="never confirmed"):
        review(workspace, "release", user=MALLORY.user)
    with pytest.raises(SpecError, match="nowhere"):
        report(workspace, ReviewSubject(user=SourceUser(source="nowhere", user="mallory")))
    workspace.edit_spec({"user": None})
    with pytest.raises(ReviewRefusedError, match="names no column `user`"):
        report(workspace)
    assert workspace.steps().reviews(MODEL).links == ()


@pytest.mark.parametrize(
    ("source", "user"), [("feed", "Mallory"), ("feed", "trent"), ("gateway", "alice")]
)
def test_a_user_of_whom_no_row_was_ever_read_is_refused(
    workspace: Workspace, source: str, user: str
) -> None:
    """Another case of letters, and users that only the other source knows."""
    nobody = SourceUser(source=source, user=user)
    steps = workspace.steps()
    said = rf"No row of {source} was ever handed in by '{user}': found none in the 2 batches"
    for ask in (
        lambda: report(workspace, ReviewSubject(user=nobody)),
        lambda: report(workspace, ReviewSubject(user=nobody), dry_run=True),
        lambda: review(workspace, "confirm", user=nobody),
        lambda: steps.trace(MODEL, Traced(source=source, user=user)),
    ):
        with pytest.raises(ReviewRefusedError, match=said) as refused:
            ask()
        assert not any(name in str(refused.value) for name in ("mallory", "bob"))
    assert workspace.steps().reviews(MODEL).links == ()


def test_a_confirmed_user_stays_known_when_his_rows_are_taken_out(workspace: Workspace) -> None:
    review(workspace, "confirm", user=MALLORY.user)
    assert workspace.run_week(THIRD).entry is not None
    assert report(workspace).plan.learned == (2,)


def test_trace_counts_his_rows_alone(workspace: Workspace) -> None:
    review(workspace, "confirm", user=MALLORY.user)
    review(workspace, "confirm", user=SourceUser(source="feed", user="bob"))
    found = workspace.steps().trace(MODEL, Traced(source="feed", user="mallory"))
    his = accepted_rows(workspace, "feed", SECOND)["sender"] == "mallory"
    assert [(b.batch.week, b.accepted) for b in found.batches] == [(SECOND, his.sum())]
    assert (found.versions, len(found.reviews)) == ((2,), 1)


def command(workspace: Workspace, *words: str, fails: bool = False) -> Any:
    done = CliRunner().invoke(
        app, ["--home", str(workspace.home), *words], env=workspace.environment
    )
    assert (done.exit_code != 0) == fails, done.output
    return done


def test_the_commands_take_him_with_his_source(workspace: Workspace) -> None:
    him = ["--source", "feed", "--user", "mallory"]
    traced = json.loads(command(workspace, "trace", MODEL, *him, "--json").stdout)
    assert traced["versions"] == [2]
    key = ["--why", WHY, "--key", str(workspace.home / "reviewers" / "anna.pem")]
    dry = command(workspace, "incident", MODEL, *key, *him, "--dry-run").stdout
    assert "would confirm: all rows of one user of feed" in dry and "mallory" not in dry
    assert "Would restore version 1" in dry
    command(workspace, "review", "confirm", MODEL, *key, *him)
    assert "one user of feed" in command(workspace, "review", "list", MODEL).stdout
    typo = ["--source", "feed", "--user", "malory"]
    refused = command(workspace, "incident", MODEL, *key, *typo, fails=True)
    assert "handed in by 'malory'" in " ".join((refused.output + refused.stderr).split())
    for words in (["review", "confirm", MODEL, *key], ["trace", MODEL]):
        said = command(workspace, *words, "--user", "mallory", fails=True)
        assert "--source" in said.output + said.stderr
