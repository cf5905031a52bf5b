"""What validation measures a challenger with: pinned bytes, and nothing that a provider chose."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from retraining.gate import sentence
from retraining.records import BatchId, BehaviourReport, BehaviourResult, TracedBatch
from retraining.validation import behaviour
from retraining.validation.behaviour import Case
from retraining.weekly import screen_week
from tests.fixtures.workspace import (
    HOLDOUT_ROWS,
    MODEL,
    SOURCES,
    WEEKS,
    Workspace,
    make_rows,
    make_workspace,
)
from tests.retraining.reviews.cases import (
    TRIGGER,
    accepted_rows,
    add_reviewer,
    review,
    screening_that_found,
)

pytestmark = pytest.mark.slow  # whole weeks are run

FIRST, SECOND, THIRD = WEEKS[:3]


@pytest.fixture(scope="module")
def cases() -> Iterator[list[Case]]:
    """Every case that a validation examines, in order; examining takes no time here."""
    seen: list[Case] = []

    def examined(case: Case) -> BehaviourReport:
        seen.append(case)
        return BehaviourReport(results=(), false_alarm_rate=case.false_alarm_rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "examine", examined)
        yield seen


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, cases: list[Case]) -> Workspace:
    """Two promoted weeks, and one after a reviewer confirmed ten rows of the first as poison."""
    home = tmp_path_factory.mktemp("validating") / "workspace"
    workspace = make_workspace(home, weeks=WEEKS, spec={"gate": {"false_alarm_rate": 0.03}})
    add_reviewer(workspace)
    for week in (FIRST, SECOND):
        assert workspace.run_week(week).entry is not None
    bad = confirmed_ids(workspace)
    found = screening_that_found(workspace, dict.fromkeys(bad, "gap"), patterns=(TRIGGER,))
    review(workspace, "confirm", screening=found, row_ids=tuple(sorted(bad)))
    review(workspace, "confirm", screening=found, pattern=TRIGGER)
    assert workspace.run_week(THIRD).entry is not None
    return workspace


def confirmed_ids(workspace: Workspace) -> list[str]:
    return [str(name) for name in accepted_rows(workspace, "feed", FIRST)["row_id"][:10]]


def ids(frame: pd.DataFrame) -> set[str]:
    return set(frame["row_id"].astype(str))


def of_week(week: str) -> set[BatchId]:
    return {BatchId(source=source, week=week) for source in SOURCES}


def test_the_accepted_new_rows_are_told_from_the_history(
    story: Workspace, cases: list[Case]
) -> None:
    first, second, _ = cases
    assert (set(first.new), set(first.history)) == (of_week(FIRST), set())
    assert (set(second.new), set(second.history)) == (of_week(SECOND), of_week(FIRST))
    for batch in (*second.new, *second.history):
        frame = (second.new | dict(second.history))[batch]
        assert ids(frame) == ids(accepted_rows(story, batch.source, batch.week))


def test_both_halves_are_the_pinned_holdout(story: Workspace, cases: list[Case]) -> None:
    for case in cases:
        assert not ids(case.tuning) & ids(case.judging)
        assert ids(case.tuning) | ids(case.judging) == ids(make_rows(HOLDOUT_ROWS, seed="holdout"))
        assert ids(case.tuning) == ids(cases[0].tuning)
        assert ids(case.reference) == ids(make_rows(HOLDOUT_ROWS, seed="reference"))


def test_the_challenger_is_held_against_the_model_that_serves(
    story: Workspace, cases: list[Case]
) -> None:
    first, second, third = cases
    assert first.champion is None
    rows = first.judging
    for earlier, later in ((first, second), (second, third)):
        assert later.champion is not None
        assert (later.champion.predict(rows) == earlier.challenger.predict(rows)).all()
        assert (later.challenger.predict(rows) != later.champion.predict(rows)).any()


def test_what_reviewers_confirmed_comes_back_as_a_canary_only(
    story: Workspace, cases: list[Case]
) -> None:
    first, second, third = cases
    bad = set(confirmed_ids(story))
    assert third.confirmed_rows is not None and ids(third.confirmed_rows) == bad
    assert third.confirmed == (TRIGGER,)
    assert not bad & set().union(*(ids(rows) for rows in third.history.values()))
    for case in (first, second):
        assert (case.confirmed_rows, case.confirmed) == (None, ())


def test_the_false_alarm_rate_is_that_of_the_pipeline_file(
    story: Workspace, cases: list[Case]
) -> None:
    assert [case.false_alarm_rate for case in cases] == [0.03] * 3


def test_a_review_after_the_pin_changes_nothing_and_one_before_asks_again(
    story: Workspace, cases: list[Case]
) -> None:
    steps = story.steps()
    week = screen_week(steps, MODEL, WEEKS[3])
    run, screening = (done.attestation.digest for done in (week.run, week.screening))
    training = steps.train(run, screening).attestation.digest
    found = screening_that_found(story, {}, patterns=(_other(),))
    review(story, "confirm", screening=found, pattern=_other())
    steps.validate(run, training)
    assert cases.pop().confirmed == (TRIGGER,)
    pinned = steps.pinned(run)
    newer = pinned.run.model_copy(update={"reviews_head": found})
    asked: Any = type(pinned)(run, newer, pinned.spec)
    assert asked.validation(training) != pinned.validation(training)


def test_what_a_challenger_learned_can_stop_the_week(
    story: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = BehaviourResult(
        name="transplant",
        measure="rows",
        p_value=1e-9,
        sentence="The values of 41 of 300 rows turn trusted rows of other classes.",
        traced=(TracedBatch(batch=BatchId(source="feed", week=WEEKS[3]), n_rows=41),),
        n_traced=41,
    )
    report = BehaviourReport(results=(found,), false_alarm_rate=0.03)
    monkeypatch.setattr(behaviour, "examine", lambda _case: report)
    week = story.run_week(WEEKS[3])
    assert (week.gate.report.verdict, week.entry) == ("REJECT", None)
    assert story.registry()[-1].verdict == "REJECT"
    said = sentence(week.gate.report, "x")
    assert "41 of 300 rows" in said and "start the week again without feed" in said


def _other() -> Any:
    return TRIGGER.model_copy(update={"values": (3.0, 500.0)})
