"""Closing a week of feedback for real: files, traffic, store, chain, inbox, and the weekly run."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from retraining.chains import feedback_chain
from retraining.errors import ChainBrokenError, ConfigError, NothingToDo
from retraining.recording import StepResult
from retraining.records import FeedbackReport
from retraining.settings import REPOSITORY
from retraining.steps import feedback as step
from tests.fixtures.s3 import S3Server
from tests.fixtures.workspace import MODEL, Workspace
from tests.retraining.feedback.weeks import (
    FIRST,
    LAST,
    N_AUDITED,
    NEXT,
    SOURCE,
    USERS,
    WEEK,
    ask_model,
    days_of,
    delivered,
    make_feedback_workspace,
    say_a_week,
    votes,
    write_lines,
)

pytestmark = pytest.mark.slow  # a champion is trained


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A champion, and no feedback yet."""
    return make_feedback_workspace(tmp_path_factory.mktemp("feedback") / "template")


@pytest.fixture
def workspace(template: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    yield template.copied(tmp_path / "workspace")


def close(workspace: Workspace, week: str = WEEK, **options: Any) -> StepResult[FeedbackReport]:
    result: StepResult[FeedbackReport] = workspace.steps().close_feedback(MODEL, week, **options)
    return result


def nothing(workspace: Workspace, week: str = WEEK) -> str:
    with pytest.raises(NothingToDo) as said:
        close(workspace, week)
    return str(said.value)


def entries(workspace: Workspace) -> list[Any]:
    steps = workspace.steps()
    return [link.record for link in feedback_chain(steps.store, steps.trust, MODEL).load()]


def accounted(report: FeedbackReport) -> int:
    aside, waiting = sum(report.set_aside.values()), sum(report.waiting.values())
    return report.counted_before + aside + waiting + report.n_audited + report.n_votes


def test_a_week_of_feedback_becomes_a_signed_batch_that_the_weekly_run_takes(
    workspace: Workspace,
) -> None:
    rows = say_a_week(workspace, WEEK)

    report = close(workspace, reason="a test asks for it").report

    n = len(rows) - N_AUDITED
    assert (report.n_applied, report.n_votes, report.n_audited) == (n, 4 * n, 4 * N_AUDITED)
    assert (report.n_lines, report.users) == (4 * len(rows), {"trusted": len(USERS)})
    assert (report.sequence, report.previous, report.reason) == (1, None, "a test asks for it")
    batch = delivered(workspace, WEEK)
    assert list(batch.columns) == ["row_id", "links", "capitals", "amount", "label"]
    assert dict(zip(batch["row_id"], batch["label"], strict=True)) == dict(
        zip(rows["row_id"][N_AUDITED:], rows["label"][N_AUDITED:], strict=True)
    )
    assert [(e.week, e.sequence) for e in entries(workspace)] == [(WEEK, 1)]

    workspace.deliver(WEEK)
    outcome = workspace.run_week(WEEK)

    (used,) = [b for b in outcome.screened.screening.report.batches if b.batch.source == SOURCE]
    assert (used.refusal, used.n_rows) == (None, n)
    assert used.n_accepted > 0.9 * n
    (known,) = [p.report for p in outcome.screened.provenance if p.report.batch.source == SOURCE]
    assert (known.signature, known.sequence) == ("verified", 1)
    assert known.batch_digest == report.batch_digest


def test_the_second_trigger_says_which_batch_is_closed(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    closed = close(workspace)

    said = nothing(workspace)

    assert f"The feedback of {WEEK} is closed already: batch 1" in said
    assert closed.attestation.digest in said
    assert f"The feedback of {WEEK} is closed already" in nothing(workspace, FIRST)
    assert len(entries(workspace)) == 1


def test_late_lines_count_in_the_next_batch_and_none_counts_twice(workspace: Workspace) -> None:
    rows = ask_model(workspace, WEEK)
    late = rows[20:40]
    write_lines(workspace, WEEK, votes(rows.drop(late.index), WEEK))
    first = close(workspace).report

    write_lines(workspace, WEEK, votes(late, WEEK), "late.jsonl")
    second = close(workspace, NEXT).report

    assert set(delivered(workspace, NEXT)["row_id"]) == set(late["row_id"])
    assert not set(delivered(workspace, WEEK)["row_id"]) & set(late["row_id"])
    assert second.counted_before == first.n_votes == 4 * 30
    assert (second.sequence, second.previous is None) == (2, False)
    for report in (first, second):
        assert accounted(report) == report.n_lines


def test_a_batch_never_comes_more_often_than_the_pipeline_file_allows(
    workspace: Workspace,
) -> None:
    workspace.edit_spec({"feedback": {"min_weeks_between_batches": 2}})
    say_a_week(workspace, WEEK)
    close(workspace)
    say_a_week(workspace, NEXT)

    assert "expected 2 (min_weeks_between_batches)" in nothing(workspace, NEXT)
    assert close(workspace, LAST).report.n_applied == 50


def test_too_little_feedback_closes_nothing_and_loses_nothing(workspace: Workspace) -> None:
    rows = ask_model(workspace, WEEK)
    write_lines(workspace, WEEK, votes(rows[: N_AUDITED + 3], WEEK))

    said = nothing(workspace)

    assert "3 items are decided, expected 5 (min_items)" in said
    assert entries(workspace) == []
    assert not workspace.folder(SOURCE, WEEK).exists()
    write_lines(workspace, NEXT, votes(rows[N_AUDITED + 3 : N_AUDITED + 6], WEEK))
    assert close(workspace, NEXT).report.n_applied == 6


def test_a_folder_that_is_not_there_is_no_feedback(workspace: Workspace) -> None:
    assert "Nobody said anything" in nothing(workspace)


def test_a_week_that_is_not_over_cannot_be_closed(workspace: Workspace) -> None:
    assert "is not over yet" in nothing(workspace, "2099-W01")


def test_a_week_whose_run_is_over_gets_no_batch(workspace: Workspace) -> None:
    assert f"{FIRST} is promoted already" in nothing(workspace, FIRST)


def test_without_a_champion_there_is_nothing_to_hold_feedback_against(
    template: Workspace, tmp_path: Path
) -> None:
    workspace = template.copied(tmp_path / "workspace")
    for entry in (workspace.home / "store" / "registry" / MODEL).iterdir():
        entry.unlink()
    (workspace.home / "memory" / f"{MODEL}.head.json").unlink(missing_ok=True)

    assert "No version serves" in nothing(workspace)


def test_a_champion_of_other_classes_is_not_compared(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    workspace.edit_spec({"label": {"classes": ["spam", "ham"]}})

    assert "was trained for other classes or features" in nothing(workspace)


def test_bad_lines_are_set_aside_one_by_one_and_the_rest_is_kept(workspace: Workspace) -> None:
    rows = ask_model(workspace, WEEK)
    good = votes(rows, WEEK)
    one = good[-1] | {"user": "eve"}
    week_after = f"{days_of(NEXT)[1]}T00:00:00Z"
    bad: list[Any] = [
        "{not json",
        '["a", "list"]',
        json.dumps(one | {"label": {"nested": "value"}}),
        json.dumps(one)[:-1] + ', "user": "mallory"}',
        one | {"label": "neither"},
        one | {"item": "nobody-asked"},
        one | {"time": "2001-01-01T00:00:00Z"},
        one | {"time": "2150-01-01T00:00:00Z"},
        one | {"time": week_after},
        one | {"time": "yesterday"},
        {name: value for name, value in one.items() if name != "user"},
        one | {"account_age_days": 1, "user": "yan"},
        one | {"account_age_days": "old"},
        one | {"verified": "perhaps"},
        json.dumps(one | {"item": "x" * 70_000}),
        one | {"a field": "of somebody else", "another": [1, {"deep": None}]},
    ]
    write_lines(workspace, WEEK, [*bad, *good])

    report = close(workspace).report

    assert report.n_applied == 50
    assert report.set_aside == {
        "account_too_young": 1,
        "ancient": 1,
        "bad_event_time": 1,
        "bad_json": 1,
        "bad_number:account_age_days": 1,
        "duplicate_field": 1,
        "future": 1,
        "line_too_long": 1,
        "missing:user": 1,
        "nested_value": 1,
        "not_an_object": 1,
        "unknown_category:verified": 1,
        "unknown_class": 1,
        "unknown_item": 1,
    }
    assert report.waiting == {"next_week": 1}
    assert accounted(report) == report.n_lines == len(good) + len(bad)
    lines = _parquet(workspace, report.lines)
    assert list(lines.columns) == ["file", "line", "reason"]
    assert lines["line"].tolist() == [n for n in range(1, 16) if n != 9]
    assert lines.loc[lines["reason"] == "duplicate_field", "line"].tolist() == [4]
    assert lines.loc[lines["reason"] == "unknown_item", "line"].tolist() == [6]
    assert set(lines["file"]) == {f"{WEEK}/part.jsonl"}


def test_the_same_file_twice_counts_once(workspace: Workspace) -> None:
    rows = ask_model(workspace, WEEK)
    write_lines(workspace, WEEK, votes(rows, WEEK), "a.jsonl")
    write_lines(workspace, WEEK, votes(rows, WEEK), "b.jsonl")
    write_lines(workspace, WEEK, [*votes(rows, WEEK), "{"], "c.jsonl")  # nearly the same

    report = close(workspace).report

    assert report.n_votes == 4 * 50
    assert report.set_aside == {"bad_json": 1, "duplicate_file": 240, "duplicate_line": 240}
    assert accounted(report) == report.n_lines


def test_one_user_with_very_many_votes_leaves_the_others_alone(workspace: Workspace) -> None:
    rows = ask_model(workspace, WEEK)
    flood = votes(rows, WEEK, users=["flood"], says=lambda label: "spam") * 500
    write_lines(workspace, WEEK, [*flood, *votes(rows, WEEK)])

    report = close(workspace).report

    assert report.n_lines == 30_000 + 240
    assert report.set_aside["duplicate_line"] == 60 * 499
    assert report.n_applied == 50


def test_a_file_that_cannot_be_used_is_named_and_the_others_are_read(workspace: Workspace) -> None:
    workspace.edit_spec({"feedback": {"format": "csv"}})
    rows = ask_model(workspace, WEEK)
    folder = workspace.home / "said" / WEEK
    folder.mkdir(parents=True)
    frame = pd.DataFrame(votes(rows, WEEK))
    frame["verified"] = "true"
    frame.to_csv(folder / "good.csv", index=False)
    frame.drop(columns="label").to_csv(folder / "a-column-short.csv", index=False)
    (folder / "notes.txt").write_text("hello")

    report = close(workspace).report

    assert report.n_applied == 50
    assert sorted(refused.code for refused in report.refused) == ["wrong_columns", "wrong_format"]
    assert all(r.sentence.startswith(f"{WEEK}/") for r in report.refused)


def test_parquet_without_optional_signals_is_feedback_too(workspace: Workspace) -> None:
    workspace.edit_spec({"feedback": {"format": "parquet"}})
    rows = ask_model(workspace, WEEK)
    folder = workspace.home / "said" / WEEK
    folder.mkdir(parents=True)
    frame = pd.DataFrame(votes(rows, WEEK))[["item", "user", "label", "time"]]
    frame["time"] = pd.to_datetime(frame["time"])
    frame.to_parquet(folder / "votes.parquet", index=False)

    assert close(workspace).report.n_applied == 50


def test_a_ring_with_an_honest_record_is_held_by_a_sure_champion(workspace: Workspace) -> None:
    rows = ask_model(workspace, WEEK)
    ring = [f"ring{number}" for number in range(20)]
    lines = votes(rows.head(N_AUDITED), WEEK, users=ring)
    victims = rows[rows["label"] == "spam"].tail(15)
    lines += votes(victims, WEEK, users=ring, says=lambda _: "ham")
    write_lines(workspace, WEEK, [*lines, *votes(rows.drop(victims.index), WEEK)])

    report = close(workspace).report

    assert sum(report.held.values()) + sum(report.changes.values()) == len(victims)
    assert report.held["contradicts_confident_champion"] > 0
    held = _parquet(workspace, report.held_items)
    assert set(held["item"]) <= set(victims["row_id"])


def test_reports_and_logs_name_no_user_and_no_item(workspace: Workspace) -> None:
    rows = say_a_week(workspace, WEEK)
    said: list[str] = []

    result = workspace.steps(log=said.append).close_feedback(MODEL, WEEK)

    text = "\n".join([result.report.to_json().decode(), *said])
    assert not [name for name in (*USERS, *rows["row_id"]) if name in text]


# --- the same inputs, kills, and others at work ------------------------------------------------


def test_the_same_inputs_give_the_same_report(workspace: Workspace, tmp_path: Path) -> None:
    say_a_week(workspace, WEEK)
    other = workspace.copied(tmp_path / "other")

    assert close(workspace).report.identity == close(other).report.identity


_KILLED = """
import os, sys
from tests.retraining.feedback.weeks import WEEK
from retraining.settings import Settings
from retraining.steps import open_step_runner, feedback
from retraining.steps import feedback_delivery as delivery
from retraining.store import outbox

def die(*_args, **_kwargs):
    os.kill(os.getpid(), 9)

where, home = sys.argv[1:]
if where == "before the entry":
    feedback._append = die
elif where == "before the hand-over":
    delivery.hand_over = die
elif where == "in the middle of the hand-over":
    outbox._flush = die
elif where == "after it":
    real = delivery.hand_over
    delivery.hand_over = lambda *args: (real(*args), die())
steps = open_step_runner(
    Settings.load(__import__("pathlib").Path(home)), run_id="x", requested_by="x", log=print
)
steps.close_feedback("small_filter", WEEK)
"""


@pytest.mark.parametrize(
    "where",
    ["before the entry", "before the hand-over", "in the middle of the hand-over", "after it"],
)
def test_a_kill_at_any_point_is_finished_by_the_next_try(workspace: Workspace, where: str) -> None:
    rows = say_a_week(workspace, WEEK)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, where, str(workspace.home)],
        cwd=REPOSITORY,
        env={**os.environ, **workspace.environment},
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr
    assert len(entries(workspace)) == (where != "before the entry")
    if where == "after it":
        assert "is closed already" in nothing(workspace)
    else:
        assert not (workspace.folder(SOURCE, WEEK) / "batch.dsse.json").exists()
        assert close(workspace).report.week == WEEK

    assert len(delivered(workspace, WEEK)) == len(rows) - N_AUDITED
    (entry,) = entries(workspace)
    assert entry.week == WEEK
    assert "is closed already" in nothing(workspace)
    workspace.deliver(WEEK)
    outcome = workspace.run_week(WEEK)
    (known,) = [p.report for p in outcome.screened.provenance if p.report.batch.source == SOURCE]
    assert known.refusal is None


def test_an_unfinished_hand_over_is_finished_by_the_next_week_too(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    close(workspace)
    before = delivered(workspace, WEEK)
    (workspace.folder(SOURCE, WEEK) / "batch.dsse.json").unlink()
    say_a_week(workspace, NEXT)

    report = close(workspace, NEXT).report

    pd.testing.assert_frame_equal(delivered(workspace, WEEK), before)
    assert (report.week, report.n_applied) == (NEXT, 50)


def test_a_retry_before_the_entry_signs_nothing_anew(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_a_week(workspace, WEEK)
    with monkeypatch.context() as patch:
        patch.setattr(step, "_append", _broken)
        with pytest.raises(OSError, match="unplugged"):
            close(workspace)

    result = close(workspace)

    assert result.reused
    names = workspace.steps().store.names("attestations/")
    found = [name for name in names if result.attestation.digest.removeprefix("sha256:") in name]
    assert len(found) == 1


def test_of_two_that_close_at_once_one_wins_and_the_other_counts_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_a_week(workspace, WEEK)
    real = step._append

    def second_comes_first(bench: Any, result: Any, links: Any) -> Any:
        monkeypatch.setattr(step, "_append", real)
        close(workspace, reason="faster")
        return real(bench, result, links)

    monkeypatch.setattr(step, "_append", second_comes_first)

    assert "Another run closed the feedback of" in nothing(workspace)
    assert len(entries(workspace)) == 1


def test_an_entry_that_names_another_batch_is_noticed(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    closed = close(workspace)
    steps = workspace.steps()
    chain = feedback_chain(steps.store, steps.trust, MODEL)
    (link,) = chain.load()
    forged = link.record.model_copy(update={"sequence": 2, "previous": link.digest, "week": NEXT})
    chain.append(forged, steps.keys.signer("pipeline", steps.trust.latest))

    with pytest.raises(ChainBrokenError, match=closed.attestation.digest):
        close(workspace, LAST)


@pytest.mark.s3
def test_feedback_and_batch_may_lie_on_s3(workspace: Workspace, s3_server: S3Server) -> None:
    bucket, client = s3_server.new_bucket(), s3_server.client()
    rows = say_a_week(workspace, WEEK)
    for path in (workspace.home / "said").rglob("*.jsonl"):
        key = path.relative_to(workspace.home).as_posix()
        client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        path.unlink()
    sources = yaml.safe_load(workspace.spec_file.read_text())["sources"]
    sources[-1]["uri"] = f"s3://{bucket}/inbox/{{week}}"
    workspace.edit_spec({"sources": sources, "feedback": {"uri": f"s3://{bucket}/said/{{week}}"}})

    report = close(workspace).report

    assert report.n_applied == len(rows) - N_AUDITED
    assert "is closed already" in nothing(workspace)
    client.delete_object(Bucket=bucket, Key=f"inbox/{WEEK}/batch.dsse.json")
    assert close(workspace).reused  # an unfinished hand-over is finished
    workspace.deliver(WEEK)
    outcome = workspace.run_week(WEEK)
    (known,) = [p.report for p in outcome.screened.provenance if p.report.batch.source == SOURCE]
    assert (known.signature, known.refusal) == ("verified", None)


# --- what is set up wrongly ---------------------------------------------------------------------


def test_a_place_that_holds_files_of_others_is_not_added_to(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    folder = workspace.folder(SOURCE, WEEK)
    folder.mkdir(parents=True)
    (folder / "other.parquet").write_bytes(b"PAR1")

    with pytest.raises(ConfigError, match=r"holds 1 file\(s\) already"):
        close(workspace)
    assert entries(workspace) == []


def test_a_missing_key_is_noticed_before_anything_is_closed(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    (workspace.settings.keys / "providers" / f"{SOURCE}.pem").unlink()

    with pytest.raises(ConfigError, match="with it the batches of user_feedback are signed"):
        close(workspace)
    assert entries(workspace) == []


def test_a_key_that_is_not_on_the_trust_list_is_noticed_too(workspace: Workspace) -> None:
    say_a_week(workspace, WEEK)
    folder = workspace.settings.keys / "providers"
    for name in (f"{SOURCE}.pem", f"{SOURCE}.pub.json"):
        (folder / name).unlink()
    step_key = workspace.provider_key("feed")
    (folder / f"{SOURCE}.pem").write_bytes(step_key.read_bytes())
    (folder / f"{SOURCE}.pub.json").write_bytes(step_key.with_suffix(".pub.json").read_bytes())

    with pytest.raises(ConfigError, match="is not on trust list version 2"):
        close(workspace)
    assert entries(workspace) == []


def test_a_pipeline_without_feedback_says_so(workspace: Workspace) -> None:
    workspace.edit_spec({"feedback": None})

    with pytest.raises(ConfigError, match="asks for no feedback"):
        close(workspace)


def test_a_week_that_does_not_exist_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="expected one such as 2026-W07"):
        close(workspace, "2026-W54")


def _broken(*_: Any) -> None:
    raise OSError("unplugged")


def _parquet(workspace: Workspace, digest: Any) -> pd.DataFrame:
    import io

    return pd.read_parquet(io.BytesIO(workspace.steps().store.get(digest)))
