"""A day of the champion, from files to the signed chain."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retraining.chains import monitoring_chain
from retraining.errors import ChainBrokenError, ConfigError, NothingToDo, SpecError
from retraining.recording import StepResult
from retraining.records import MonitoredValue, MonitoringReport
from retraining.spec import load_spec
from retraining.steps import monitoring
from tests.fixtures.traffic import (
    add_traffic,
    champion_answers,
    copy_of,
    flipped,
    make_day,
    write_labels,
    write_predictions,
)
from tests.fixtures.workspace import Workspace, make_workspace

pytestmark = pytest.mark.slow  # a champion is trained, and each day starts the parser anew

DAYS = tuple(f"2026-02-{number}" for number in range(10, 20))


def clean(home: Workspace, day: str, n_rows: int = 300, **options: Any) -> pd.DataFrame:
    """Rows of a day, answered by the champion; not written yet."""
    return make_day(day, n_rows, **{"answer": champion_answers(home)} | options)


def write(home: Workspace, day: str, rows: pd.DataFrame) -> None:
    write_predictions(home, day, rows)
    write_labels(home, day, rows)


def monitor(home: Workspace, day: str) -> StepResult[MonitoringReport]:
    result: StepResult[MonitoringReport] = home.steps().monitor(home.model, day, reason="a test")
    return result


def value(report: MonitoringReport, name: str) -> MonitoredValue:
    (found,) = [item for item in report.values if item.name == name]
    return found


def breached(report: MonitoringReport) -> list[str]:
    return [item.name for item in report.values if item.state == "breached"]


def open_incidents(report: MonitoringReport) -> list[tuple[str, str]]:
    return [(item.name, item.opened) for item in report.incidents]


def entries(home: Workspace) -> list[Any]:
    steps = home.steps()
    return [link.record for link in monitoring_chain(steps.store, steps.trust, home.model).load()]


# --- good days, bad days ----------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [100, 300])
def test_a_clean_day_raises_nothing_and_is_on_signed_record(home: Workspace, n_rows: int) -> None:
    home.edit_spec(
        {"monitoring": {"metrics": ["accuracy", "balanced_accuracy", "precision", "recall", "f1"]}}
    )
    write(home, DAYS[0], clean(home, DAYS[0], n_rows))

    result = monitor(home, DAYS[0])

    report = result.report
    assert (report.incidents, report.closed, report.set_aside, report.lines) == ((), (), {}, None)
    assert (report.n_predictions, report.n_labelled, report.n_unlabelled) == (n_rows, n_rows, 0)
    assert {item.state for item in report.values if item.name != "other_versions"} == {"ok"}
    assert value(report, "accuracy").basis == "promotion"
    assert value(report, "accuracy").min == pytest.approx(_on_holdout(home) - 0.05)
    (entry,) = entries(home)
    assert (entry.day, entry.attestation) == (DAYS[0], result.attestation.digest)
    assert (entry.reason, entry.version, entry.last_labelled) == ("a test", 1, DAYS[0])


def _on_holdout(home: Workspace) -> float:
    from retraining.models import load_model

    steps = home.steps()
    rows = pd.read_parquet(home.home / "data" / "holdout.parquet")
    model = load_model(steps.store, steps.registry(home.model).champion)
    said = np.array(model.classes)[model.predict(rows).argmax(axis=1)]
    return float((said == rows["label"]).mean())


def test_a_collapse_is_one_incident_over_three_days_and_recovery_ends_it(home: Workspace) -> None:
    for day, share in zip(DAYS[:5], (0, 0.4, 0.4, 0.4, 0), strict=True):
        rows = clean(home, day)
        write_predictions(home, day, rows)
        write_labels(home, day, flipped(rows, share))

    reports = [monitor(home, day).report for day in DAYS[:5]]

    since = [("accuracy", DAYS[1])]
    assert [open_incidents(report) for report in reports] == [[], since, since, since, []]
    assert [report.closed for report in reports] == [(), (), (), (), ("accuracy",)]
    assert reports[1].incidents[0].observed == "0.600 (0.544 to 0.654) over 300 rows"
    assert reports[1].incidents[0].allowed.endswith("on the holdout at promotion, less 0.05)")


def test_a_day_without_labels_neither_opens_nor_ends_an_incident(home: Workspace) -> None:
    rows = clean(home, DAYS[0])
    write_predictions(home, DAYS[0], rows)
    write_labels(home, DAYS[0], flipped(rows, 0.4))
    write_predictions(home, DAYS[1], clean(home, DAYS[1]))

    monitor(home, DAYS[0])
    report = monitor(home, DAYS[1]).report

    assert value(report, "accuracy").state == "insufficient"
    assert open_incidents(report) == [("accuracy", DAYS[0])]
    assert report.n_unlabelled == 300


def test_few_labels_are_no_verdict(home: Workspace) -> None:
    rows = clean(home, DAYS[0])
    write_predictions(home, DAYS[0], rows)
    write_labels(home, DAYS[0], flipped(rows, 1)[:49])

    report = monitor(home, DAYS[0]).report

    assert value(report, "accuracy").state == "insufficient"
    assert report.incidents == () and report.n_labelled == 49


def test_labels_that_come_late_are_about_the_answers_of_their_day(home: Workspace) -> None:
    for day in DAYS[:4]:
        write_predictions(home, day, clean(home, day))
    # label_wait_days is 3: the first is just in time on the fourth day.
    write_labels(home, DAYS[3], clean(home, DAYS[0])[:60])
    write_predictions(home, DAYS[4], clean(home, DAYS[4]))
    write_labels(home, DAYS[4], clean(home, DAYS[0])[60:120])

    in_time, too_late = monitor(home, DAYS[3]).report, monitor(home, DAYS[4]).report

    assert (in_time.n_labelled, in_time.set_aside) == (60, {})
    assert value(in_time, "accuracy").measured.value == 1.0
    assert [file.name for file in in_time.earlier_predictions] == [
        f"{day}/0.parquet" for day in DAYS[:3]
    ]
    assert (too_late.n_labelled, too_late.set_aside) == (0, {"label_of_unknown_row": 60})


def test_features_that_move_are_drift_of_their_column_alone(home: Workspace) -> None:
    rows = clean(home, DAYS[0])
    # Amounts of a thousand times as much, as when a service changes its unit: still in bounds.
    moved = rows.assign(amount=(rows["amount"] * 1000).clip(0, 1000))
    write(home, DAYS[0], moved.assign(predicted=champion_answers(home)(moved)))

    report = monitor(home, DAYS[0]).report

    assert "feature_drift:amount" in breached(report)
    assert not {"feature_drift:links", "feature_drift:capitals"} & set(breached(report))


def test_answers_that_move_are_prediction_drift(home: Workspace) -> None:
    rows = clean(home, DAYS[0], n_rows=600)
    write(home, DAYS[0], rows[rows["predicted"] == "spam"].reset_index(drop=True))

    report = monitor(home, DAYS[0]).report

    assert value(report, "prediction_drift").measured.value == pytest.approx(0.5, abs=0.1)
    assert "prediction_drift" in breached(report)


def test_too_few_answers_are_no_drift(home: Workspace) -> None:
    rows = clean(home, DAYS[0], n_rows=300)
    write(home, DAYS[0], rows[rows["predicted"] == "spam"][:99])

    report = monitor(home, DAYS[0]).report

    assert {item.state for item in report.values if "drift" in item.name} == {"insufficient"}


def test_answers_that_the_champion_does_not_give_are_seen_without_any_label(
    home: Workspace,
) -> None:
    rows = clean(home, DAYS[0])
    rows.loc[:20, "predicted"] = np.where(rows.loc[:20, "predicted"] == "spam", "ham", "spam")
    write_predictions(home, DAYS[0], rows)

    report = monitor(home, DAYS[0]).report

    assert breached(report) == ["unlike_champion"]
    assert value(report, "unlike_champion").measured.value == pytest.approx(21 / 300, abs=1e-6)


# --- bad input --------------------------------------------------------------------------------


def test_a_day_without_predictions_is_an_incident_and_the_next_one_ends_it(
    home: Workspace,
) -> None:
    write(home, DAYS[1], clean(home, DAYS[1]))

    missing, back = monitor(home, DAYS[0]).report, monitor(home, DAYS[1]).report

    assert open_incidents(missing) == [("missing:predictions", DAYS[0])]
    assert missing.incidents[0].observed == "no predictions of the day"
    assert missing.set_aside == {"labels:refused:missing": 1, "predictions:refused:missing": 1}
    assert (back.incidents, back.closed) == ((), ("missing:predictions",))


def test_a_column_gone_refuses_its_file_and_the_rest_is_measured(home: Workspace) -> None:
    rows = clean(home, DAYS[0])
    write_predictions(home, DAYS[0], rows[:150], "a")
    write_predictions(home, DAYS[0], rows[150:].drop(columns="predicted"), "b")
    write_labels(home, DAYS[0], rows)

    report = monitor(home, DAYS[0]).report

    assert breached(report) == ["missing:predictions"]
    assert report.incidents[0].observed == "refused: wrong_columns"
    assert report.set_aside == {
        "label_of_unknown_row": 150,
        "predictions:refused:wrong_columns": 1,
    }
    assert (report.n_predictions, report.n_labelled) == (150, 150)


def test_lines_that_count_for_nothing_are_kept_with_their_reasons(home: Workspace) -> None:
    rows = clean(home, DAYS[0])
    rows.loc[3, "links"] = 99.0
    rows.loc[5, "version"] = 7
    labels = pd.concat(
        [rows.drop(index=3), rows[:1].assign(row_id="nobody-asked"), rows[:1]], ignore_index=True
    )
    labels.loc[8, "label"] = "eggs"
    write_predictions(home, DAYS[0], rows)
    write_labels(home, DAYS[0], labels)

    result = monitor(home, DAYS[0])

    report = result.report
    assert report.set_aside == {
        "label_of_other_version": 1,
        "label_of_unknown_row": 1,
        "labels:duplicate_row_id": 1,
        "labels:unknown_class": 1,
        "prediction_of_unknown_version": 1,
        "predictions:out_of_bounds:links": 1,
    }
    assert report.incidents == ()
    target = home.home / "lines.parquet"
    home.steps().store.fetch(report.lines, target)
    lines = pd.read_parquet(target).set_index("reason")
    assert lines["row_id"].to_dict() == {
        "duplicate_row_id": rows["row_id"][0],
        "label_of_other_version": rows["row_id"][5],
        "label_of_unknown_row": "nobody-asked",
        "out_of_bounds:links": rows["row_id"][3],
        "prediction_of_unknown_version": rows["row_id"][5],
        "unknown_class": labels["row_id"][8],
    }
    assert lines.loc["out_of_bounds:links", ["role", "file", "line"]].tolist() == [
        "predictions",
        f"{DAYS[0]}/0.parquet",
        4,
    ]
    assert result.attestation.artefacts == {"lines": report.lines}


def test_no_row_is_named_in_the_report(home: Workspace) -> None:
    rows = clean(home, DAYS[0])
    rows.loc[3, "links"] = 99.0
    write(home, DAYS[0], rows)

    said = monitor(home, DAYS[0]).report.to_json().decode()

    assert not [row_id for row_id in rows["row_id"] if row_id in said]


def test_a_version_that_the_registry_does_not_name_answers_for_nobody(home: Workspace) -> None:
    for day in DAYS[:2]:
        write(home, day, clean(home, day, version=7))

    first, second = monitor(home, DAYS[0]).report, monitor(home, DAYS[1]).report

    assert first.set_aside == {"label_of_other_version": 300, "prediction_of_unknown_version": 300}
    assert value(first, "accuracy").state == "insufficient"
    assert value(first, "feature_drift:links").state == "insufficient"
    # On the first day it may be that this version was promoted in the meantime.
    assert breached(first) == [] and breached(second) == ["other_versions"]


def test_many_faulty_rows_are_an_incident_of_their_own(home: Workspace) -> None:
    rows = clean(home, DAYS[0])
    rows.loc[:29, "links"] = None
    write(home, DAYS[0], rows)

    report = monitor(home, DAYS[0]).report

    assert breached(report) == ["faulty:predictions"]
    assert value(report, "faulty:predictions").measured.value == pytest.approx(0.1)


def test_labels_that_never_come_are_an_incident_after_the_waiting_time(home: Workspace) -> None:
    states = []
    for day in DAYS[:6]:
        write_predictions(home, day, clean(home, day))
        if day == DAYS[0]:
            write_labels(home, day, clean(home, day))
        states.append(value(monitor(home, day).report, "missing:labels").state)

    assert states == ["ok", *["insufficient"] * 3, "breached", "breached"]


# --- once, in order, on record ----------------------------------------------------------------


def test_each_day_is_measured_once_and_in_order(home: Workspace) -> None:
    for day in DAYS[:3]:
        write(home, day, clean(home, day))
    monitor(home, DAYS[1])

    with pytest.raises(NothingToDo, match=f"monitored on {DAYS[1]} already"):
        monitor(home, DAYS[1])
    with pytest.raises(NothingToDo, match=f"up to {DAYS[1]}; {DAYS[0]} lies before"):
        monitor(home, DAYS[0])

    monitor(home, DAYS[2])
    assert [entry.day for entry in entries(home)] == [DAYS[1], DAYS[2]]


def test_a_day_that_is_not_over_is_not_measured(home: Workspace) -> None:
    with pytest.raises(NothingToDo, match="is not over"):
        monitor(home, "2199-12-31")


@pytest.mark.parametrize("day", ["yesterday", "20260203", "2026-02-30", "2026-02-14\n"])
def test_a_day_that_does_not_exist_is_named(home: Workspace, day: str) -> None:
    with pytest.raises(ConfigError, match="expected one such as 2026-02-14"):
        monitor(home, day)


def test_without_a_champion_there_is_nothing_to_watch(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "workspace")
    add_traffic(workspace)
    workspace.edit_spec({"monitoring": {}})

    with pytest.raises(NothingToDo, match="No version of"):
        monitor(workspace, DAYS[0])


def test_a_model_that_asks_for_no_monitoring_is_named(home: Workspace) -> None:
    text = home.spec_file.read_text()
    home.spec_file.write_text(text[: text.index("monitoring:")])

    with pytest.raises(ConfigError, match="add `monitoring` to its pipeline file"):
        monitor(home, DAYS[0])


def test_metrics_of_a_positive_class_need_one(home: Workspace) -> None:
    home.edit_spec({"monitoring": {"metrics": ["recall"]}, "label": {"positive": None}})

    with pytest.raises(SpecError, match=r"monitoring: \['recall'\] need label.positive"):
        load_spec(home.spec_file)


def test_the_same_inputs_give_the_same_report(home: Workspace, tmp_path: Path) -> None:
    write(home, DAYS[0], flipped(clean(home, DAYS[0]), 0.4))
    other = copy_of(home, tmp_path / "other")

    assert monitor(home, DAYS[0]).attestation.report == monitor(other, DAYS[0]).attestation.report


def test_killed_before_the_entry_the_next_try_finishes_the_same_report(
    home: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, DAYS[0], clean(home, DAYS[0]))

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(monitoring, "MonitoringEntry", killed)
        with pytest.raises(KeyboardInterrupt):
            monitor(home, DAYS[0])
    assert entries(home) == []

    again = monitor(home, DAYS[0])

    assert again.reused
    assert [entry.attestation for entry in entries(home)] == [again.attestation.digest]


def test_a_monitored_day_that_was_changed_or_taken_out_is_noticed(home: Workspace) -> None:
    for day in DAYS[:2]:
        write(home, day, clean(home, day))
        monitor(home, day)
    first = home.home / "store" / "monitoring" / home.model / "0000000001.dsse.json"
    envelope = json.loads(first.read_text())

    first.write_text(json.dumps(envelope | {"payload": envelope["payload"][:-8] + "AAAAAAA="}))
    with pytest.raises(ChainBrokenError, match="0000000001"):
        monitor(home, DAYS[2])
    first.unlink()
    with pytest.raises(ChainBrokenError, match="an entry was taken out"):
        monitor(home, DAYS[2])


def test_what_nobody_was_told_of_stays_due_until_it_is_noted(home: Workspace) -> None:
    monitor(home, DAYS[0])  # no predictions
    steps = home.steps()
    entry = steps.newest_monitored(home.model)
    (due,) = steps.unsent_incidents(entry)

    steps.note_sent(home.model, due)
    steps.note_sent(home.model, due)  # of two tasks that were both told to

    assert steps.unsent_incidents(entry) == []
    monitor(home, DAYS[1])  # still open: no second message
    assert steps.unsent_incidents(steps.newest_monitored(home.model)) == []


def test_an_incident_that_comes_back_is_told_of_again(home: Workspace) -> None:
    write(home, DAYS[1], clean(home, DAYS[1]))
    steps = home.steps()
    for day in DAYS[:3]:
        monitor(home, day)
        for due in steps.unsent_incidents(steps.newest_monitored(home.model)):
            if day != DAYS[2]:
                steps.note_sent(home.model, due)

    (due,) = steps.unsent_incidents(steps.newest_monitored(home.model))
    assert (due.name, due.opened) == ("missing:predictions", DAYS[2])
