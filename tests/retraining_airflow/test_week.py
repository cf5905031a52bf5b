"""Whole weeks through the real steps, in one process, as `dag.test()` runs them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retraining.audit import audit
from retraining.digests import Digest
from retraining.settings import Settings
from retraining.store import open_store
from retraining.validation import behaviour
from retraining.weekly import screen_week
from tests.fixtures.marked_rows import marked, refuses_marked_rows
from tests.fixtures.workspace import (
    MODEL,
    SOURCES,
    WEEKS,
    Workspace,
    flip_labels,
    make_workspace,
)
from tests.retraining.approvals.cases import add_people, key_of

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

FIRST, SECOND, THIRD, _ = WEEKS


@pytest.fixture(scope="module")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Weeks that build on one another: the tests of this module run in their order."""
    base = tmp_path_factory.mktemp("weekly")
    notifier = "tests.retraining_airflow.notifiers.FileNotifier"
    told = {
        name: [{"notifier": notifier, "arguments": {"path": str(base / name)}}]
        for name in ("on_refused_gate", "on_failed_task")
    }
    workspace = make_workspace(base / "workspace", spec={"notifications": told}, weeks=[FIRST])
    workspace.deliver(SECOND)
    return workspace


def without_purge(states: dict[str, str]) -> dict[str, str]:
    """The states of the other tasks, of a week that nothing was purged of."""
    again = ("purge", "train_again", "validate_again")
    assert [states[name] for name in again] == ["skipped"] * len(again)
    return {name: state for name, state in states.items() if name not in again}


def test_a_clean_week_becomes_the_champion(weekly: Workspace, run_dag: Callable[..., Any]) -> None:
    run = run_dag(weekly, week=FIRST)

    states = without_purge(run.states)
    assert states.pop("approve") == "skipped"  # nobody has to be asked
    assert set(states.values()) == {"success"}
    (entry,) = weekly.registry()
    assert (entry.verdict, entry.week, entry.version) == ("PROMOTE", FIRST, 1)
    # What travels between tasks is a digest of a signed record, and nothing else.
    assert Digest(run.xcom("gate")) == entry.decision


def test_a_promoted_week_is_not_run_again(weekly: Workspace, run_dag: Callable[..., Any]) -> None:
    run = run_dag(weekly, week=FIRST)

    assert set(run.states.values()) == {"skipped"}
    assert len(weekly.registry()) == 1


def test_a_dry_run_decides_and_promotes_nothing(
    weekly: Workspace, run_dag: Callable[..., Any]
) -> None:
    states = run_dag(weekly, week=SECOND, dry_run=True).states

    assert {states.pop("promote"), states.pop("approve")} == {"skipped"}
    assert set(without_purge(states).values()) == {"success"}
    assert len(weekly.registry()) == 1


def test_a_source_that_was_left_out_is_skipped_and_the_week_goes_on(
    weekly: Workspace, run_dag: Callable[..., Any]
) -> None:
    states = run_dag(weekly, week=SECOND, leave_out=["feed"]).states

    feed = SOURCES.index("feed")
    assert (states.pop(f"ingest[{feed}]"), states.pop(f"provenance[{feed}]")) == (
        "skipped",
        "skipped",
    )
    assert states.pop("approve") == "skipped"
    assert set(without_purge(states).values()) == {"success"}
    assert {b.batch.source for b in weekly.registry()[-1].batches} == {"gateway"}


def test_a_poisoned_week_ends_in_a_red_gate_that_tells_the_on_call(
    weekly: Workspace, run_dag: Callable[..., Any]
) -> None:
    weekly.deliver(THIRD, ["gateway"], change=flip_labels("spam", "ham", share=0.6))
    weekly.deliver(THIRD, ["feed"])
    champion = weekly.registry()[-1].champion

    states = run_dag(weekly, week=THIRD).states

    assert states["gate"] == "failed"
    assert (states["approve"], states["promote"]) == ("skipped", "upstream_failed")
    assert (states["train"], states["validate"]) == ("skipped", "skipped")
    assert {states[f"ingest[{n}]"] for n in range(len(SOURCES))} == {"success"}
    last = weekly.registry()[-1]
    assert (last.verdict, last.week, last.champion) == ("HOLD", THIRD, champion)
    told = weekly.home.parent / "on_refused_gate"
    assert f"HOLD: small_filter {THIRD} was not promoted" in told.read_text()
    assert not (weekly.home.parent / "on_failed_task").exists()


def test_what_taught_a_refused_challenger_is_taken_out_and_another_is_promoted(
    weekly: Workspace, run_dag: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviour, "examine", refuses_marked_rows)
    workspace = weekly.copied(tmp_path / "workspace")
    workspace.edit_spec({"gate": {"purge": "promote"}})
    add_people(workspace)
    workspace.steps().sign_spec(MODEL, why="we trust the purge", key=key_of(workspace, "olga"))
    workspace.deliver(THIRD, ["gateway"])
    workspace.deliver(THIRD, ["feed"], change=marked)

    states = run_dag(workspace, week=THIRD).states

    assert states.pop("approve") == "skipped"
    assert set(states.values()) == {"success"}
    entry = workspace.registry()[-1]
    assert (entry.verdict, entry.week) == ("PROMOTE", THIRD)
    assert [b.refusal_code for b in entry.batches if b.batch.source == "feed"] == ["purged"]


def test_what_cannot_be_mended_by_trying_again_fails_at_once(
    weekly: Workspace, run_dag: Callable[..., Any]
) -> None:
    (weekly.home / "keys" / "pipeline.pem").rename(weekly.home / "pipeline.pem")
    try:
        run = run_dag(weekly, week=THIRD)
    finally:
        (weekly.home / "pipeline.pem").rename(weekly.home / "keys" / "pipeline.pem")

    pin = next(ti for ti in run.dag_run.get_task_instances() if ti.task_id == "pin")
    assert (str(pin.state), pin.try_number) == ("failed", 1)
    told = (weekly.home.parent / "on_failed_task").read_text()
    assert "pin: The private key" in " ".join(told.split())


def test_a_notifier_that_cannot_be_sent_is_noticed_before_the_run_does_anything(
    weekly: Workspace, run_dag: Callable[..., Any]
) -> None:
    before = weekly.spec_file.read_text()
    weekly.edit_spec({"notifications": {"on_refused_gate": [{"notifier": "nowhere.Notifier"}]}})
    try:
        states = run_dag(weekly, week=THIRD).states
    finally:
        weekly.spec_file.write_text(before)

    assert states["pin"] == "failed"
    told = (weekly.home.parent / "on_failed_task").read_text()
    assert "pin: notifications: nowhere.Notifier cannot be imported" in " ".join(told.split())


def test_airflow_and_a_laptop_give_the_same_reports_up_to_screening(
    tmp_path: Path, run_dag: Callable[..., Any]
) -> None:
    """Same bytes, two installations: what is concluded depends on nothing else, shards neither."""
    under_airflow = make_workspace(
        tmp_path / "airflow", weeks=[FIRST], spec={"screening": {"shards": 2}}
    )
    shutil.copytree(under_airflow.home, tmp_path / "laptop")
    laptop = Workspace(tmp_path / "laptop", MODEL, Settings.load(tmp_path / "laptop"))
    states = run_dag(under_airflow, week=FIRST).states
    by_hand = screen_week(laptop.steps(), MODEL, FIRST)

    (audited,) = audit(
        open_store(under_airflow.settings.store),
        under_airflow.steps().trust,
    )

    assert states["screen_shard[0]"] == states["screen_shard[1]"] == "success"
    reports = [result.report for result in (*by_hand.provenance, by_hand.screening)]
    assert {report.identity for report in reports} == {
        report.identity for report in (*audited.chain.provenance, audited.chain.screening)
    }
