"""Traffic: what is read of a day, and what is set aside or refused, file by file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from retraining.spec import load_spec
from retraining.steps.traffic import Role, Traffic, read_traffic
from tests.fixtures.s3 import S3Server
from tests.fixtures.traffic import (
    add_traffic,
    make_day,
    write_day,
    write_labels,
    write_predictions,
)
from tests.fixtures.workspace import Workspace, make_workspace

pytestmark = pytest.mark.slow  # each day is parsed in children

DAY, NEXT = "2026-02-10", "2026-02-11"

Read = Callable[..., Traffic]


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "workspace")
    add_traffic(workspace)
    return workspace


@pytest.fixture
def read(home: Workspace, tmp_path: Path) -> Read:
    def call(role: Role, *days: str, **options: Any) -> Traffic:
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        spec = load_spec(home.spec_file)
        return read_traffic(home.steps(), spec, role, days or (DAY,), folder, **options)

    return call


def refused(traffic: Traffic) -> list[tuple[str, str]]:
    return [(file.name, file.code) for file in traffic.refused]


def test_every_answer_and_every_label_of_a_day_is_read(home: Workspace, read: Read) -> None:
    rows = write_day(home, DAY)

    predictions, labels = read("predictions"), read("labels")

    written = rows.drop(columns="label").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        predictions.frame[list(written.columns)], written, check_dtype=False
    )
    assert predictions.frame["version"].dtype == "int64"
    assert labels.frame["label"].tolist() == rows["label"].tolist()
    assert (predictions.n_faulty, predictions.faults, predictions.refused) == (0, {}, ())
    assert set(predictions.days) == {DAY}


def test_what_was_read_is_kept_in_the_store_as_it_was_delivered(
    home: Workspace, read: Read
) -> None:
    path = write_predictions(home, DAY, make_day(DAY))

    (file,) = read("predictions").files

    assert file.name == f"{DAY}/0.parquet"
    assert home.steps().store.get(file.digest) == path.read_bytes()


def test_a_day_without_files_is_named_and_the_others_are_read(home: Workspace, read: Read) -> None:
    write_predictions(home, NEXT, make_day(NEXT))

    traffic = read("predictions", DAY, NEXT)

    assert refused(traffic) == [("", "missing")]
    assert set(traffic.days) == {NEXT} and len(traffic.frame) == 300


def test_no_rows_at_all_have_the_columns_and_types_of_some(home: Workspace, read: Read) -> None:
    (home.home / "traffic" / DAY / "predictions").mkdir(parents=True)

    none = read("predictions")
    write_predictions(home, DAY, make_day(DAY))
    some = read("predictions")

    assert refused(none) == [("", "missing")]
    assert none.frame.dtypes.to_dict() == some.frame.dtypes.to_dict()


def test_a_file_that_lost_a_column_is_refused_alone(
    home: Workspace, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_day(DAY)
    write_predictions(home, DAY, rows[:100], "a")
    write_predictions(home, DAY, rows[100:200].drop(columns="links"), "b")
    write_predictions(home, DAY, rows[200:], "c")

    traffic = read("predictions")

    assert refused(traffic) == [("b.parquet", "wrong_columns")]
    assert traffic.frame["row_id"].tolist() == [*rows["row_id"][:100], *rows["row_id"][200:]]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "refused" in line]
    assert f"predictions {DAY}/b.parquet: refused (wrong_columns)" in line
    assert "missing 'links'" in line


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("links", 99.0, "out_of_bounds:links"),
        ("links", float("inf"), "infinity:links"),
        ("links", None, "missing:links"),
        ("predicted", "eggs", "unknown_class"),
        ("version", 0, "out_of_bounds:version"),
        ("version", 1.5, "bad_version"),
    ],
)
def test_a_line_at_fault_is_set_aside_with_its_reason(
    home: Workspace, read: Read, column: str, value: Any, reason: str
) -> None:
    rows = make_day(DAY)
    if column == "version":
        rows[column] = rows[column].astype(float)
    rows.loc[7, column] = value
    write_predictions(home, DAY, rows)

    traffic = read("predictions")

    assert (traffic.n_faulty, traffic.faults) == (1, {reason: 1})
    assert rows["row_id"][7] not in set(traffic.frame["row_id"])
    assert len(traffic.frame) == 299


def test_a_row_that_stands_in_two_files_counts_once(home: Workspace, read: Read) -> None:
    rows = make_day(DAY)
    write_predictions(home, DAY, rows, "a")
    write_predictions(home, DAY, rows[:10], "b")
    write_predictions(home, DAY, rows.drop(columns="links"), "c")  # so each is read alone

    traffic = read("predictions")

    assert len(traffic.frame) == 300
    assert (traffic.n_faulty, traffic.faults) == (10, {"duplicate_row_id": 10})


def test_of_two_days_the_newest_word_about_a_row_counts(home: Workspace, read: Read) -> None:
    rows = make_day(DAY)
    write_labels(home, DAY, rows.assign(label="ham"))
    write_labels(home, NEXT, rows[:10].assign(label="spam"))

    traffic = read("labels", DAY, NEXT)

    assert traffic.faults == {"repeated_on_another_day": 10}
    assert traffic.n_faulty == 0
    newest = traffic.frame.set_index("row_id")["label"]
    assert (newest[rows["row_id"][:10]] == "spam").all() and len(newest) == 300
    assert (traffic.days[-10:] == NEXT).all()


def test_limits_hold_before_anything_is_parsed(home: Workspace, read: Read) -> None:
    rows = make_day(DAY)
    size = write_predictions(home, DAY, rows, "a").stat().st_size
    write_predictions(home, DAY, rows, "b")
    (home.home / "traffic" / DAY / "predictions" / "notes.txt").write_text("hello")
    add_traffic(home, {"predictions": {"uri": "traffic/{day}/predictions", "max_bytes": size + 10}})

    traffic = read("predictions")

    assert refused(traffic) == [("b.parquet", "too_large"), ("notes.txt", "wrong_format")]
    assert [file.name for file in traffic.files] == [f"{DAY}/a.parquet"]


def test_files_past_the_limit_on_rows_are_left_out_and_the_first_ones_read(
    home: Workspace, read: Read
) -> None:
    rows = make_day(DAY)
    write_predictions(home, DAY, rows[:200], "a")
    write_predictions(home, DAY, rows[200:], "b")
    add_traffic(home, {"predictions": {"uri": "traffic/{day}/predictions", "max_rows": 250}})

    traffic = read("predictions")

    assert refused(traffic) == [("b.parquet", "too_many_rows")]
    assert len(traffic.frame) == 200


def test_a_link_in_the_folder_of_a_day_is_not_followed(home: Workspace, read: Read) -> None:
    secret = write_predictions(home, NEXT, make_day(NEXT))
    folder = home.home / "traffic" / DAY / "predictions"
    folder.mkdir(parents=True)
    (folder / "0.parquet").symlink_to(secret)

    assert refused(read("predictions")) == [("", "symlink")]


def test_features_are_left_out_where_only_answers_are_wanted(home: Workspace, read: Read) -> None:
    write_predictions(home, DAY, make_day(DAY))

    assert list(read("predictions", features=False).frame) == ["row_id", "version", "predicted"]


@pytest.mark.s3
def test_traffic_may_lie_on_s3(home: Workspace, read: Read, s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    path = write_predictions(home, DAY, make_day(DAY))
    s3_server.client().put_object(Bucket=bucket, Key=f"asked/{DAY}/a.parquet", Body=path.open("rb"))
    add_traffic(home, {"predictions": {"uri": f"s3://{bucket}/asked/{{day}}"}})

    traffic = read("predictions", DAY, NEXT)

    assert [file.name for file in traffic.files] == [f"{DAY}/a.parquet"]
    assert len(traffic.frame) == 300
    assert [(file.day, file.code) for file in traffic.refused] == [(NEXT, "missing")]
