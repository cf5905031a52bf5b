"""A refused week goes on without the rows that taught the challenger, for all to check."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from retraining.audit import audit
from retraining.digests import Digest
from retraining.errors import ChainBrokenError, EvidenceError, RetrainingError
from retraining.evidence import statements
from retraining.gate import sentence
from retraining.gate_report import Page
from retraining.records import BatchId, BehaviourReport
from retraining.steps import RoundDigests, purging
from retraining.validation import behaviour
from retraining.validation.behaviour import Case
from retraining.verify.window import TrainedVersions
from tests.fixtures.marked_rows import MARKED, N_MARKED, marked, n_marked, refuses_marked_rows
from tests.fixtures.workspace import MODEL, WEEKS, Workspace, make_workspace
from tests.retraining.approvals.cases import add_people, approve

pytestmark = pytest.mark.slow  # whole weeks are run

FIRST, SECOND, THIRD = WEEKS[:3]


@pytest.fixture(scope="module", autouse=True)
def looks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "examine", refuses_marked_rows)
        yield


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One promoted week, and a second in which the feed delivered marked rows."""
    # Tests change the pipeline file, and nobody has to sign that.
    home = tmp_path_factory.mktemp("purge") / "workspace"
    spec = {"approval": {"ask": ["on_hold", "on_purge"]}}
    workspace = make_workspace(home, weeks=WEEKS, spec=spec)
    assert workspace.run_week(FIRST).entry is not None
    workspace.deliver(SECOND, ["feed"], change=marked)
    return workspace


@pytest.fixture(scope="module")
def offered(promoted: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Any]:
    workspace = promoted.copied(tmp_path_factory.mktemp("offered") / "workspace")
    return workspace, workspace.run_week(SECOND)


def with_gate(workspace: Workspace, home: Any, **changes: Any) -> Workspace:
    copy = workspace.copied(home / "workspace")
    copy.edit_spec(changes)
    return copy


def rows_of(workspace: Workspace, digest: Digest) -> pd.DataFrame:
    path = workspace.home / "rows.parquet"
    workspace.steps().store.fetch(digest, path)
    frame = pd.read_parquet(path)
    path.unlink()
    return frame


def verdicts_of(workspace: Workspace) -> list[str]:
    """Of all entries, each verified with everything behind it."""
    steps = workspace.steps()
    return [str(found.link.record.verdict) for found in audit(steps.store, steps.trust)]


def test_the_challenger_without_them_is_offered(offered: tuple[Workspace, Any]) -> None:
    workspace, week = offered
    decision = week.gate.report
    assert decision.verdict == "HOLD"
    assert [check.name for check in decision.failed()] == ["purge"]
    (refused,) = decision.earlier
    assert refused.verdict == "REJECT" and refused.challenger == week.training.report.model
    assert decision.challenger == week.rounds[0].training.report.model != refused.challenger
    said = sentence(decision, "retraining gate-report")
    assert "feed" in said and "PROMOTE is possible" in said and "approve" in said
    assert workspace.registry()[-1].verdict == "HOLD"


def test_exactly_what_was_traced_and_its_source_is_taken_out(
    offered: tuple[Workspace, Any],
) -> None:
    workspace, week = offered
    report = week.rounds[0].purge.report
    (traced,) = report.traced
    assert (traced.check, traced.pattern) == ("transplant", MARKED)
    assert [(part.batch.source, part.n_rows) for part in traced.by_batch] == [("feed", N_MARKED)]
    assert traced.precision is not None and traced.precision.low > 0.5
    assert report.sources == ("feed",)
    for left in report.blocks:
        if left.batch == BatchId(source="feed", week=SECOND):
            assert left.rows is None and left.n_purged == left.n_rows
        else:
            assert (left.rows, left.n_purged) == (left.before, 0)
    named = rows_of(workspace, report.purged_rows)
    assert len(named) == report.n_purged
    assert (named["check"] == "transplant").sum() == N_MARKED
    assert set(named["check"]) == {"transplant", "source"}


def test_the_page_of_the_gate_says_so(offered: tuple[Workspace, Any]) -> None:
    workspace, week = offered
    named = week.gate.attestation.artefacts
    page = Page.from_json(workspace.steps().store.get(named["gate_report.json"]))
    (taken,) = page.rounds
    assert (taken.verdict, taken.again, taken.sources) == ("REJECT", True, ("feed",))
    assert [check.name for check in taken.failed] == ["behaviour: transplant"]
    assert {"purge/1", "training/1", "validation/1", "training", "validation"} <= {
        record.name for record in page.records
    }


def test_privacy_is_charged_twice(offered: tuple[Workspace, Any]) -> None:
    _, week = offered
    gateway = str(BatchId(source="gateway", week=SECOND))
    first, again = week.training.report, week.rounds[0].training.report
    assert again.epsilon_by_block[gateway] > first.epsilon_by_block[gateway]
    assert len(again.blocks) == len(first.blocks) - 1


def test_nothing_is_done_twice(offered: tuple[Workspace, Any]) -> None:
    workspace, week = offered
    steps = workspace.steps()
    again = steps.purge(week.screened.run.attestation.digest, week.validation.attestation.digest)
    assert again.reused and again.attestation.digest == week.rounds[0].purge.attestation.digest


def test_an_auditor_follows_both_challengers(offered: tuple[Workspace, Any]) -> None:
    workspace, _ = offered
    assert verdicts_of(workspace) == ["PROMOTE", "HOLD"]


def test_a_reviewers_yes_promotes_what_was_offered(
    offered: tuple[Workspace, Any], tmp_path: Any
) -> None:
    workspace, _ = offered
    workspace = workspace.copied(tmp_path / "workspace")
    add_people(workspace)
    week = workspace.run_week(SECOND)  # under the trust list that knows the reviewer
    assert [check.name for check in week.gate.report.failed()] == ["purge"]
    digest = week.gate.attestation.digest
    with pytest.raises(RetrainingError, match="retraining approve"):
        workspace.steps().promote(digest)
    approve(workspace, "anna")
    entry = workspace.steps().promote(digest).record
    assert (entry.verdict, entry.champion) == ("PROMOTE", week.rounds[0].training.report.model)
    feed = next(batch for batch in entry.batches if batch.batch.source == "feed")
    assert (feed.accepted, feed.refusal_code) == (None, "purged")
    assert verdicts_of(workspace) == ["PROMOTE", "HOLD", "HOLD", "PROMOTE"]


def test_where_the_file_allows_it_it_is_promoted_at_once(
    promoted: Workspace, tmp_path: Any
) -> None:
    workspace = with_gate(promoted, tmp_path, gate={"purge": "promote"})
    week = workspace.run_week(SECOND)
    assert week.entry is not None and week.gate.report.verdict == "PROMOTE"
    entry = workspace.registry()[-1]
    feed = next(batch for batch in entry.batches if batch.batch.source == "feed")
    assert (feed.accepted, feed.refusal_code) == (None, "purged")
    assert feed.n_quarantined >= N_MARKED
    steps = workspace.steps()
    registry = steps.registry(MODEL)
    learned = TrainedVersions(steps.store, steps.trust, registry).blocks_of(registry.version)
    assert learned == week.rounds[0].training.report.blocks
    # The next week trains on what was promoted, so not on them.
    third = workspace.run_week(THIRD)
    assert third.entry is not None and third.rounds == ()
    for block in third.training.report.blocks:
        assert n_marked(rows_of(workspace, block.rows)) == 0
    assert verdicts_of(workspace) == ["PROMOTE"] * 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"gate": {"purge": "never"}}, "", id="not asked for"),
        pytest.param({"training": {"epsilon_per_block": 13}}, "epsilon", id="budget"),
        pytest.param({"screening": {"min_rows": 300}}, "new rows would be left", id="rows"),
    ],
)
def test_else_the_week_stays_refused(
    promoted: Workspace, tmp_path: Any, changes: dict[str, Any], why: str
) -> None:
    workspace = with_gate(promoted, tmp_path, **changes)
    decision = workspace.run_week(SECOND).gate.report
    assert (decision.verdict, decision.earlier) == ("REJECT", ())
    notes = [check.observed for check in decision.checks if check.name == "purge"]
    assert (why in notes[0]) if why else not notes
    assert verdicts_of(workspace) == ["PROMOTE", "REJECT"]


def test_a_clean_week_is_not_purged(promoted: Workspace, tmp_path: Any) -> None:
    workspace = promoted.copied(tmp_path / "workspace")
    workspace.deliver(SECOND, ["feed"])
    week = workspace.run_week(SECOND)
    assert week.entry is not None and week.rounds == ()
    assert "no check of behaviour" in week.screened.skipped["purge 1"]


def test_the_second_challenger_is_asked_for_what_the_first_obeyed(
    promoted: Workspace, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To take rows out and draw new noise must be no second try at the same lie."""
    cases: list[Case] = []

    def examined(case: Case) -> BehaviourReport:
        cases.append(case)
        return refuses_marked_rows(case)

    monkeypatch.setattr(behaviour, "examine", examined)
    promoted.copied(tmp_path / "workspace").run_week(SECOND, dry_run=True)
    assert [case.confirmed for case in cases] == [(), (MARKED,)]


def test_the_purge_is_part_of_what_training_is_asked(offered: tuple[Workspace, Any]) -> None:
    """Else an unpurged training of the same rows would be taken for it."""
    workspace, week = offered
    pinned = workspace.steps().pinned(week.screened.run.attestation.digest)
    blocks = week.training.report.blocks
    screening, purge = (
        done.attestation.digest for done in (week.screened.screening, week.rounds[0].purge)
    )
    assert pinned.training(screening, blocks) != pinned.training(screening, blocks, purge)


# --- what nobody can do with it -------------------------------------------------------------


def decided_with(workspace: Workspace, week: Any, purge: Digest, **later: Digest | None) -> Any:
    """The gate, asked with another purge than the run's."""
    return workspace.steps().decide(
        week.screened.run.attestation.digest,
        provenance=[done.attestation.digest for done in week.screened.provenance],
        screening=week.screened.screening.attestation.digest,
        training=week.training.attestation.digest,
        validation=week.validation.attestation.digest,
        rounds=[RoundDigests(purge, later.get("training"), later.get("validation"))],
    )


def test_the_pipelines_key_purges_nothing(promoted: Workspace, tmp_path: Any) -> None:
    workspace = promoted.copied(tmp_path / "workspace")
    week = workspace.run_week(SECOND, dry_run=True)
    run, validation = week.screened.run, week.validation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statements, "_WITH_THE_PROMOTER", ("validation", "gate", "promotion"))
        forged = workspace.steps().purge(run.attestation.digest, validation.attestation.digest)
    assert forged.attestation.key_id == "pipeline"
    with pytest.raises(EvidenceError):
        decided_with(workspace, week, forged.attestation.digest)


def test_a_challenger_that_nobody_refused_is_not_purged(promoted: Workspace, tmp_path: Any) -> None:
    """Else whoever purges could choose what the model learns."""
    workspace = promoted.copied(tmp_path / "workspace")
    week = workspace.run_week(SECOND, dry_run=True)
    purge = week.rounds[0].purge.attestation.digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retraining.gate.refused_behaviour", lambda *_: ())
        with pytest.raises(ChainBrokenError, match="although nothing refused"):
            decided_with(workspace, week, purge)


def test_a_purge_that_adds_or_exchanges_rows_is_noticed(promoted: Workspace, tmp_path: Any) -> None:
    workspace = with_gate(promoted, tmp_path, gate={"purge": "promote"})
    honest = purging.purge

    def forged(*arguments: Any, **options: Any) -> Any:
        blocks, artefacts = honest(*arguments, **options)
        if not any(block.n_purged for block in blocks):  # screening asks it as well
            return blocks, artefacts
        other = next(block for block in blocks if block.batch.source == "gateway")
        feed = next(block for block in blocks if block.rows is None)
        added = feed.model_copy(update={"rows": other.rows, "n_purged": 1})
        return tuple(added if block == feed else block for block in blocks), artefacts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purging, "purge", forged)
        with pytest.raises(ChainBrokenError, match="rows were exchanged or added"):
            workspace.run_week(SECOND)
    assert workspace.registry()[-1].week == FIRST
