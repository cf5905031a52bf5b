"""What a reviewer confirmed is never trained on again, and nobody can slip it in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from retraining import verify
from retraining.audit import audit, audit_reviews
from retraining.cli import app
from retraining.digests import Digest
from retraining.errors import ChainBrokenError, ConfigError
from retraining.records import BatchId, Pattern, ScreeningReport, WindowBlock
from retraining.steps import StepRunner, purging, training, validating
from retraining.weekly import screen_week
from tests.fixtures.workspace import MODEL, WEEKS, Workspace, flip_labels, make_rows
from tests.retraining.reviews.cases import (
    FEED,
    TRIGGER,
    accepted_rows,
    review,
    screening_that_found,
)

pytestmark = pytest.mark.slow  # whole weeks are run

FIRST, SECOND, THIRD, FOURTH = WEEKS


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """Every frame that a training step is given, in order."""
    from retraining import training as trainer

    frames: list[pd.DataFrame] = []
    honest = trainer.train

    def watched(rows: pd.DataFrame, **others: Any) -> Any:
        frames.append(rows)
        return honest(rows, **others)

    monkeypatch.setattr(trainer, "train", watched)
    return frames


Found = dict[BatchId, frozenset[str]]


@pytest.fixture(autouse=True)
def found_in_history(monkeypatch: pytest.MonkeyPatch) -> Found:
    """What screening itself finds in accepted history; empty, as these tests are about reviews."""
    from retraining import screening

    found: Found = {}
    honest = screening.screen

    def finding(*arguments: Any, **others: Any) -> Any:
        return replace(honest(*arguments, **others), purged=dict(found))

    monkeypatch.setattr(screening, "screen", finding)
    return found


def audited(workspace: Workspace) -> list[str]:
    steps = workspace.steps()
    audit_reviews(steps.store, steps.trust)
    return [str(found.link.record.verdict) for found in audit(steps.store, steps.trust)]


def ids(frame: pd.DataFrame) -> set[str]:
    return set(frame["row_id"].astype(str))


def window_of(week: Any) -> dict[str, WindowBlock]:
    return {str(left.batch): left for left in week.screened.screening.report.window}


def batches_of(week: Any) -> list[str]:
    return [str(block.batch) for block in week.training.report.blocks]


# --- negative lineage -----------------------------------------------------------------------


def test_without_a_review_the_history_is_what_the_registry_holds(workspace: Workspace) -> None:
    week = workspace.run_week(THIRD)
    batches = [f"{source} {name}" for name in (FIRST, SECOND) for source in ("feed", "gateway")]
    assert list(window_of(week)) == batches
    for left in window_of(week).values():
        assert (left.rows, left.n_purged, left.learned_by) == (left.before, 0, ())
    assert audited(workspace) == ["PROMOTE"] * 3


def test_confirmed_rows_are_in_no_training_set_of_the_two_weeks_after(
    workspace: Workspace, trained_on: list[pd.DataFrame]
) -> None:
    before = accepted_rows(workspace, "feed", FIRST)
    bad = before["row_id"].tolist()[:20]
    screening = screening_that_found(workspace, dict.fromkeys(bad, "gap"))
    review(workspace, "confirm", screening=screening, row_ids=tuple(sorted(bad)))

    weeks = [workspace.run_week(THIRD), workspace.run_week(FOURTH)]

    for week, rows in zip(weeks, trained_on, strict=True):
        assert week.entry is not None
        assert not ids(rows) & set(bad)
        assert ids(before) - set(bad) <= ids(rows)  # and nothing else is missing
        assert week.training.report.n_rows == len(rows)
        left = window_of(week)[f"feed {FIRST}"]
        assert (left.n_rows, left.n_purged, left.learned_by) == (len(before), 20, (1, 2))
        assert window_of(week)[f"gateway {FIRST}"].n_purged == 0
        # Privacy is charged to the batch, whatever is left of it.
        assert f"feed {FIRST}" in week.training.report.epsilon_by_block
    assert audited(workspace) == ["PROMOTE"] * 4


def test_a_confirmed_batch_leaves_the_history_whole(
    workspace: Workspace, trained_on: list[pd.DataFrame]
) -> None:
    bad = ids(accepted_rows(workspace, "feed", FIRST))
    review(workspace, "confirm", batch=FEED)

    weeks = [workspace.run_week(THIRD), workspace.run_week(FOURTH)]

    for week, rows in zip(weeks, trained_on, strict=True):
        assert not ids(rows) & bad
        assert f"feed {FIRST}" not in batches_of(week) and f"feed {SECOND}" in batches_of(week)
        left = window_of(week)[f"feed {FIRST}"]
        assert (left.rows, left.n_purged, left.learned_by) == (None, len(bad), (1, 2))
    assert audited(workspace) == ["PROMOTE"] * 4


def test_rows_that_carry_a_confirmed_pattern_leave_the_history_with_its_label_only(
    workspace: Workspace, trained_on: list[pd.DataFrame]
) -> None:
    rows = accepted_rows(workspace, "gateway", SECOND)
    pattern = Pattern(columns=("links",), values=(0.0,), tolerances=(0.15,), label="ham")
    near = rows["links"].abs() <= 0.15
    bad, other = (ids(rows[near & (rows["label"] == label)]) for label in ("ham", "spam"))
    assert bad and other
    screening = screening_that_found(workspace, patterns=(pattern,))
    review(workspace, "confirm", screening=screening, pattern=pattern)

    week = workspace.run_week(THIRD)

    assert not ids(trained_on[0]) & bad and other <= ids(trained_on[0])
    left = window_of(week)[f"gateway {SECOND}"]
    assert (left.n_purged, left.learned_by) == (len(bad), (2,))  # version 1 never saw that week
    frame = trained_on[0]
    carried = (frame["links"].abs() <= 0.15) & (frame["label"] == "ham")
    assert not carried.any()  # of the new batches neither
    assert audited(workspace)[-1] == "PROMOTE"


def test_what_screening_finds_in_the_history_is_purged_in_the_same_way(
    workspace: Workspace, trained_on: list[pd.DataFrame], found_in_history: Found
) -> None:
    rows = ids(accepted_rows(workspace, "feed", FIRST))
    found, confirmed = sorted(rows)[:4], sorted(rows)[2:7]
    screening = screening_that_found(workspace, dict.fromkeys(confirmed, "gap"))
    review(workspace, "confirm", screening=screening, row_ids=tuple(confirmed))
    found_in_history[FEED] = frozenset({*found, "somebody else's"})

    week = workspace.run_week(THIRD)

    assert window_of(week)[f"feed {FIRST}"].n_purged == 7
    assert not ids(trained_on[0]) & {*found, *confirmed}
    assert audited(workspace)[-1] == "PROMOTE"


def test_what_was_found_stays_out_though_it_is_not_found_again(
    workspace: Workspace, trained_on: list[pd.DataFrame], found_in_history: Found
) -> None:
    rows = sorted(ids(accepted_rows(workspace, "feed", FIRST)))
    found_in_history[FEED] = frozenset(rows[:4])
    workspace.run_week(THIRD)
    found_in_history.clear()
    screening = screening_that_found(workspace, dict.fromkeys(rows[:4], "gap"))
    review(workspace, "release", screening=screening, row_ids=(rows[0],))

    week = workspace.run_week(FOURTH)

    assert ids(trained_on[1]) & set(rows[:4]) == {rows[0]}
    left = window_of(week)[f"feed {FIRST}"]
    assert (left.n_purged, left.learned_by) == (3, (1, 2))
    assert audited(workspace) == ["PROMOTE"] * 4


def test_a_batch_that_a_reviewer_vouches_for_is_judged_anew(
    workspace: Workspace, found_in_history: Found
) -> None:
    rows = ids(accepted_rows(workspace, "feed", FIRST))
    found_in_history[FEED] = frozenset(rows)
    assert f"feed {FIRST}" not in batches_of(workspace.run_week(THIRD))
    found_in_history.clear()
    review(workspace, "release", batch=FEED)
    assert window_of(workspace.run_week(FOURTH))[f"feed {FIRST}"].n_purged == 0


def test_what_a_release_takes_back_is_trained_on_again(workspace: Workspace) -> None:
    review(workspace, "confirm", batch=FEED)
    held_back = workspace.run_week(THIRD)
    assert f"feed {FIRST}" not in batches_of(held_back)
    review(workspace, "release", batch=FEED)
    assert f"feed {FIRST}" in batches_of(workspace.run_week(FOURTH))
    assert audited(workspace) == ["PROMOTE"] * 4


def test_only_versions_that_learned_purged_rows_are_named(workspace: Workspace) -> None:
    bad = sorted(ids(accepted_rows(workspace, "feed", FIRST)))
    found = screening_that_found(workspace, dict.fromkeys(bad, "gap"))
    review(workspace, "confirm", screening=found, row_ids=tuple(bad[:5]))
    assert workspace.run_week(THIRD).entry.record.version == 3  # did not read these five
    review(workspace, "confirm", screening=found, row_ids=tuple(bad[5:9]))

    week = workspace.run_week(FOURTH)

    assert window_of(week)[f"feed {FIRST}"].learned_by == (1, 2, 3)
    review(workspace, "release", screening=found, row_ids=tuple(bad[5:9]))
    steps = workspace.steps()
    later = purging.TrainedVersions(steps.store, steps.trust, steps.registry(MODEL))
    block = window_of(week)[f"feed {FIRST}"]
    assert later.that_read(FEED, block.before, bad[:5], "row_id") == (1, 2)
    assert later.that_read(FEED, block.before, bad[5:9], "row_id") == (1, 2, 3)
    assert later.that_read(FEED, block.before, (), "row_id") == ()


def test_a_pattern_of_a_column_that_is_gone_stops_the_week_with_a_sentence(
    workspace: Workspace,
) -> None:
    gone = Pattern(columns=("clicks",), values=(1.0,), tolerances=(0.0,), label="ham")
    review(
        workspace,
        "confirm",
        screening=screening_that_found(workspace, patterns=(gone,)),
        pattern=gone,
    )
    with pytest.raises(ConfigError, match="Restore the column, or have a reviewer release"):
        workspace.run_week(THIRD)


# --- the new batches of a run ---------------------------------------------------------------


def quarantined(report: ScreeningReport, source: str, week: str) -> dict[str, int]:
    return next(
        b.quarantined for b in report.batches if b.batch == BatchId(source=source, week=week)
    )


def screened(workspace: Workspace, week: str) -> Any:
    return screen_week(workspace.steps(), MODEL, week, dry_run=True).screening


def suspicious_of(workspace: Workspace, report: ScreeningReport) -> pd.DataFrame:
    path = workspace.home / "suspicious.parquet"
    path.unlink(missing_ok=True)
    workspace.steps().store.fetch(report.suspicious_parquet, path)
    return pd.read_parquet(path)


def test_a_confirmed_batch_is_quarantined_whole_when_it_is_new(
    workspace: Workspace, trained_on: list[pd.DataFrame]
) -> None:
    review(workspace, "confirm", batch=BatchId(source="feed", week=THIRD))

    week = workspace.run_week(THIRD)

    report = week.screened.screening.report
    assert quarantined(report, "feed", THIRD)["confirmed_by_review"] == 150
    assert week.entry is not None and f"feed {THIRD}" not in batches_of(week)
    assert not {name for name in ids(trained_on[0]) if name.startswith(f"feed-{THIRD}")}
    assert audited(workspace) == ["PROMOTE"] * 3


def test_released_rows_are_accepted_and_confirmed_ones_never(workspace: Workspace) -> None:
    workspace.deliver(THIRD, ["feed"], change=flip_labels("spam", "ham", share=0.1))
    first = screened(workspace, THIRD)
    held = sorted(ids(suspicious_of(workspace, first.report)))
    assert len(held) >= 4
    named = {"screening": first.attestation.digest}
    review(workspace, "release", **named, row_ids=tuple(held[2:]))
    review(workspace, "confirm", **named, row_ids=tuple(held[:2]))

    second = screened(workspace, THIRD)

    found = suspicious_of(workspace, second.report).set_index("row_id")["reasons"]
    assert set(found.index) & set(held) == set(held[:2])
    assert all("confirmed_by_review" in found[name] for name in held[:2])


def test_a_row_of_a_confirmed_batch_does_not_come_back_under_its_id(workspace: Workspace) -> None:
    review(workspace, "confirm", batch=FEED)
    again = accepted_rows(workspace, "feed", FIRST).head(10)
    rows = pd.concat([make_rows(150, seed="feed again"), again], ignore_index=True)
    workspace.write("feed", THIRD, rows)
    workspace.sign("feed", THIRD)
    report = screened(workspace, THIRD).report
    assert quarantined(report, "feed", THIRD)["confirmed_by_review"] == 10


# --- the run takes the reviews of its start, and no others ----------------------------------


def test_a_finished_screening_is_not_reused_across_a_review(workspace: Workspace) -> None:
    assert not screened(workspace, THIRD).reused
    assert screened(workspace, THIRD).reused
    review(workspace, "confirm", batch=FEED)
    assert not screened(workspace, THIRD).reused
    assert screened(workspace, THIRD).reused


def test_a_review_during_a_run_counts_for_the_next(workspace: Workspace) -> None:
    steps = workspace.steps()
    run = steps.pin(MODEL, THIRD)
    assert run.report.reviews_head is None
    head = review(workspace, "confirm", batch=FEED).digest

    provenance = []
    for source in ("feed", "gateway"):
        ingested = [r.attestation.digest for r in steps.ingest(run.attestation.digest, source)]
        checked = steps.verify_provenance(run.attestation.digest, ingested)
        provenance += [r.attestation.digest for r in checked]
    report = steps.screen(run.attestation.digest, provenance).report

    assert all(left.n_purged == 0 for left in report.window)
    assert steps.pin(MODEL, THIRD).report.reviews_head == head


# --- forgers and tamperers ------------------------------------------------------------------


def test_a_screening_that_lets_confirmed_rows_through_promotes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the pipeline's key can leave the purge out; promotion looks again."""
    bad = sorted(ids(accepted_rows(workspace, "feed", FIRST)))[:3]
    found = screening_that_found(workspace, dict.fromkeys(bad, "gap"))
    review(workspace, "confirm", screening=found, row_ids=tuple(bad))
    monkeypatch.setattr(purging, "confirmed_in_history", lambda *_: {})
    with pytest.raises(ChainBrokenError, match=f"3 rows of feed {FIRST} were confirmed as poison"):
        workspace.run_week(THIRD)
    assert len(workspace.registry()) == 2


def accepted_digest(workspace: Workspace, batch: BatchId) -> Digest:
    """Of the rows of a promoted batch."""
    digests = [
        known.accepted for e in workspace.registry() for known in e.batches if known.batch == batch
    ]
    assert digests[0] is not None
    return Digest(digests[0])


def lie_about(monkeypatch: pytest.MonkeyPatch, **lies: Any) -> None:
    """Screening purges as it should and says something else of the first block that it purged."""
    honest = purging.purge

    def lying(*arguments: Any) -> Any:
        window, artefacts = honest(*arguments)
        wrong = [left.model_copy(update=lies) if left.n_purged else left for left in window]
        return tuple(wrong), artefacts

    monkeypatch.setattr(purging, "purge", lying)


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        ({"n_purged": 3}, "not a part of the rows that were accepted"),
        ({"n_rows": 1}, "not a part of the rows that were accepted"),
        ({"rows": None}, "not a part of the rows that were accepted"),
        ({"learned_by": (1,)}, "other versions than those that learned"),
        ({"before": "of the gateway"}, "another history than the registry"),
        ({"batch": BatchId(source="feed", week="2026-W01")}, "another history than the registry"),
    ],
    ids=str,
)
def test_a_false_word_about_the_history_is_found(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, lies: dict[str, Any], said: str
) -> None:
    bad = sorted(ids(accepted_rows(workspace, "feed", FIRST)))[:2]
    found = screening_that_found(workspace, dict.fromkeys(bad, "gap"))
    review(workspace, "confirm", screening=found, row_ids=tuple(bad))
    if "before" in lies:  # rows that exist, or their absence would be noticed first
        lies = {"before": accepted_digest(workspace, BatchId(source="gateway", week=FIRST))}
    lie_about(monkeypatch, **lies)
    with pytest.raises(ChainBrokenError, match=said):
        workspace.run_week(THIRD)
    assert len(workspace.registry()) == 2


def test_rows_that_were_exchanged_in_the_history_are_found(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The purge is a chance to slip other values in under the same ids."""
    rows = accepted_rows(workspace, "feed", FIRST)
    bad = sorted(ids(rows))[:2]
    found = screening_that_found(workspace, dict.fromkeys(bad, "gap"))
    review(workspace, "confirm", screening=found, row_ids=tuple(bad))
    poisoned = rows[~rows["row_id"].isin(bad)].assign(label="ham")
    path = workspace.home / "poisoned.parquet"
    poisoned.to_parquet(path, index=False)
    lie_about(monkeypatch, rows=workspace.steps().store.put_file(path))
    with pytest.raises(ChainBrokenError, match="rows were exchanged or added"):
        workspace.run_week(THIRD)


def test_a_purge_of_nothing_claims_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = purging.purge

    def lying(*arguments: Any) -> Any:
        (first, *others), artefacts = honest(*arguments)
        return (first.model_copy(update={"n_purged": 7}), *others), artefacts

    monkeypatch.setattr(purging, "purge", lying)
    with pytest.raises(ChainBrokenError, match="took nothing out"):
        workspace.run_week(THIRD)


def reviews_folder(workspace: Workspace) -> Path:
    return Path(workspace.settings.store) / "reviews" / MODEL


def test_reviews_that_were_taken_away_before_a_run_are_missed(workspace: Workspace) -> None:
    review(workspace, "confirm", batch=FEED)
    newest = review(workspace, "confirm", batch=BatchId(source="feed", week=SECOND))
    assert workspace.run_week(THIRD).entry is not None
    (reviews_folder(workspace) / "0000000002.dsse.json").unlink()  # week 2 would come back
    with pytest.raises(ChainBrokenError, match=f"have no entry {newest.digest}"):
        workspace.run_week(FOURTH)
    with pytest.raises(ChainBrokenError, match="were shortened or exchanged"):
        audited(workspace)


def test_a_run_that_leaves_known_reviews_out_promotes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the pipeline's key can pin an older review; an earlier run knew a newer."""
    review(workspace, "confirm", batch=FEED)
    assert workspace.run_week(THIRD).entry is not None
    honest = StepRunner.reviews
    monkeypatch.setattr(StepRunner, "reviews", lambda self, model: honest(self, model).up_to(None))
    with pytest.raises(ChainBrokenError, match="took 0 reviews into account"):
        workspace.run_week(FOURTH)


def test_what_an_older_release_promoted_still_verifies(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its screening said nothing about the history, and its training read it whole."""
    monkeypatch.setattr(purging, "purge", lambda *_: ((), {}))
    steps = workspace.steps()
    history = steps.registry(MODEL).accepted_blocks(THIRD, window_weeks=4)
    new = training.trained_blocks
    for step in (training, validating):
        monkeypatch.setattr(step, "trained_blocks", lambda report: (*history, *new(report)))
    monkeypatch.setattr(verify.chain, "code_version", lambda: Digest.of(b"the next release"))
    week = screen_week(steps, MODEL, THIRD)
    run, screening = (done.attestation.digest for done in (week.run, week.screening))
    trained = steps.train(run, screening).attestation.digest
    decided = steps.decide(
        run,
        provenance=[done.attestation.digest for done in week.provenance],
        screening=screening,
        training=trained,
        validation=steps.validate(run, trained).attestation.digest,
    )

    verified = verify.verify_decision(
        steps.store, steps.trust, decided.attestation.digest, steps.registry(MODEL)
    )

    assert not verified.replayed
    assert tuple(left.rows for left in verified.screening.window) == tuple(b.rows for b in history)


# --- trace ----------------------------------------------------------------------------------


def traced(workspace: Workspace, *what: str) -> dict[str, Any]:
    done = CliRunner().invoke(
        app,
        ["--home", str(workspace.home), "trace", MODEL, *what, "--json"],
        env=workspace.environment,
    )
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_a_source_is_traced_to_batches_reviews_and_versions(workspace: Workspace) -> None:
    review(workspace, "confirm", batch=FEED)
    review(workspace, "confirm", batch=BatchId(source="gateway", week=FIRST))
    n_rows = len(accepted_rows(workspace, "feed", FIRST))
    workspace.run_week(THIRD)

    said = traced(workspace, "--source", "feed", "--week", FIRST)

    assert [(b["run"], b["week"], b["accepted"], b["purged"]) for b in said["batches"]] == [
        (FIRST, FIRST, n_rows, 0),
        (THIRD, FIRST, 0, n_rows),
    ]
    assert [entry["sequence"] for entry in said["reviews"]] == [1]
    assert (said["versions"], said["serving"]) == ([1, 2], 3)
    whole = traced(workspace, "--source", "feed")
    assert {b["week"] for b in whole["batches"]} == {FIRST, SECOND, THIRD}
    assert whole["versions"] == [1, 2, 3]


def test_rows_are_traced_by_their_ids(workspace: Workspace) -> None:
    bad = sorted(ids(accepted_rows(workspace, "feed", FIRST)))[:3]
    found = screening_that_found(workspace, dict.fromkeys(bad, "gap"))
    review(workspace, "confirm", screening=found, row_ids=tuple(bad[:2]))
    workspace.run_week(THIRD)

    said = traced(workspace, *(word for name in bad for word in ("--row", name)))

    assert [(b["run"], b["accepted"], b["purged"]) for b in said["batches"]] == [
        (FIRST, 3, 0),
        (THIRD, 0, 2),
    ]
    assert said["versions"] == [1, 2, 3]  # the third row was left in
    assert traced(workspace, "--row", bad[0])["versions"] == [1, 2]
    nothing = traced(workspace, "--row", "nobody")
    assert (nothing["batches"], nothing["reviews"], nothing["versions"]) == ([], [], [])


def test_a_pattern_is_traced_to_the_rows_that_carry_it(workspace: Workspace) -> None:
    first = accepted_rows(workspace, "gateway", SECOND).iloc[0]
    pattern = Pattern(
        columns=("links", "capitals"),
        values=(float(first["links"]), float(first["capitals"])),
        tolerances=(0.0, 0.0),
        label=str(first["label"]),
    )
    found = screening_that_found(workspace, patterns=(TRIGGER, pattern))
    review(workspace, "confirm", screening=found, pattern=TRIGGER)
    review(workspace, "confirm", screening=found, pattern=pattern)

    said = traced(workspace, "--screening", found.hex[:12], "--pattern", "2")

    assert [(b["run"], b["source"], b["accepted"]) for b in said["batches"]] == [
        (SECOND, "gateway", 1)
    ]
    assert [entry["sequence"] for entry in said["reviews"]] == [2]
    assert said["versions"] == [2]


def test_a_trace_is_a_table_for_people(workspace: Workspace) -> None:
    review(workspace, "confirm", batch=FEED)
    runner = CliRunner()
    home = ["--home", str(workspace.home), "trace", MODEL]
    shown = runner.invoke(app, [*home, "--source", "feed"], env=workspace.environment)
    assert shown.exit_code == 0, shown.output
    assert "Versions that learned from them: 1, 2 (serves)." in shown.output
    assert f"all rows of feed {FIRST}" in shown.output
    for wrong in ([], ["--row", "a", "--source", "feed"]):
        refused = runner.invoke(app, [*home, *wrong], env=workspace.environment)
        assert refused.exit_code == 1 and "Give either" in refused.stderr
