"""Values: every kind of good one is converted exactly, every kind of bad one has its reason."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retraining.parsing import MAX_ROW_ID_BYTES
from retraining.parsing.values import check_times
from retraining.spec import PipelineSpec
from tests.retraining.deliveries import (
    CSV_HEADER,
    a_spec,
    csv_format,
    csv_line,
    faults_of,
    good_columns,
    good_table,
    replaced,
)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2, 3], pa.uint64()),
        pa.array([1, 2, 3], pa.int8()),
        pa.array([1, 2, 3], pa.float32()),
        pa.array(np.array([1, 2, 3], np.float16)),
        pa.array([Decimal("1.00"), Decimal("2.00"), Decimal("3.00")], pa.decimal128(20, 2)),
        pa.array([Decimal("1.00"), Decimal("2.00"), Decimal("3.00")], pa.decimal256(50, 2)),
        pa.array([1, 2, 3], pa.int64()).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_every_kind_of_number_is_a_number(parse, values):
    parsed = parse(good_table(3, amount=values))

    assert pq.read_table(parsed.rows)["amount"].to_pylist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array([0, 1, 0]), ("0", "1")),
        (pa.array([0.0, 1.0, 0.0]), ("0", "1")),
        (pa.array([False, True, False]), ("false", "true")),
        (pa.array(["0", "1", "0"], pa.large_string()), ("0", "1")),
        (pa.array(["0", "1", "0"], pa.string_view()), ("0", "1")),
        (pa.array(["0", "1", "0"]).dictionary_encode(), ("0", "1")),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_classes_may_be_text_integers_or_booleans(parse, labels, classes):
    spec = a_spec(label={"column": "label", "classes": list(classes)})

    parsed = parse(good_table(3, label=labels), spec=spec)

    assert pq.read_table(parsed.rows)["label"].to_pylist() == [classes[0], classes[1], classes[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-09T08:30:00Z", dt.datetime(2026, 2, 9, 8, 30)),
        ("2026-02-09 08:30", dt.datetime(2026, 2, 9, 8, 30)),
        ("2026-02-09T08:30:00.25+02:00", dt.datetime(2026, 2, 9, 6, 30, 0, 250_000)),
        ("2026-02-09T23:30:00-0130", dt.datetime(2026, 2, 10, 1)),
        ("2026-02-09T08:30:00.123456789Z", dt.datetime(2026, 2, 9, 8, 30, 0, 123_456)),
        ("2024-02-29", dt.datetime(2024, 2, 29)),
        ("1900-01-01", dt.datetime(1900, 1, 1)),
        ("2026-02-29", None),
        ("2026-13-01", None),
        ("2026-00-01", None),
        ("2026-01-00", None),
        ("2026-01-32", None),
        ("2026-02-09T24:00:00", None),
        ("2026-02-09T08:30:00 CET", None),
        ("0001-01-01", None),
        ("2200-01-01", None),
        ("1899-12-31T23:59:59Z", None),
        ("09.02.2026", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_iso_8601_and_exist(parse, text, expected):
    parsed = parse(good_table(2, seen_at=pa.array(["2026-01-01", text])))

    found = pq.read_table(parsed.rows)["seen_at"].to_pylist()
    if expected is None:
        assert faults_of(parsed) == [("cust-0001", "part-0", 2, ["bad_event_time"])]
    else:
        assert found[1] == expected.replace(tzinfo=dt.UTC)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_unit_are_checked_before_they_are_scaled(unit):
    limit = np.iinfo(np.int64).max
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    values = pa.array([86_400 * per_second, limit, -limit, None], pa.timestamp(unit))

    checked = check_times(values)

    assert checked.values.to_pylist() == [dt.datetime(1970, 1, 2, tzinfo=dt.UTC), None, None, None]
    ((reason, mask),) = checked.faults
    assert (reason, mask.tolist()) == ("bad_event_time", [False, True, True, True])


@pytest.mark.parametrize(
    "values",
    [
        pa.array([dt.date(2026, 2, 9)] * 2, pa.date32()),
        pa.array([dt.date(2026, 2, 9)] * 2, pa.date64()),
        pa.array([dt.datetime(2026, 2, 9)] * 2, pa.timestamp("ms", tz="Europe/Berlin")).cast(
            pa.timestamp("ms", tz="UTC")
        ),
    ],
    ids=lambda values: str(values.type),
)
def test_dates_and_zoned_times_are_times(parse, values):
    parsed = parse(good_table(2, seen_at=values))

    assert pq.read_table(parsed.rows)["seen_at"][0].as_py() == dt.datetime(
        2026, 2, 9, tzinfo=dt.UTC
    )


@pytest.mark.parametrize(
    ("text", "decimal", "found"),
    [
        ("12.5", ".", 12.5),
        (" 12.5 ", ".", 12.5),
        ("+1e2", ".", 100.0),
        (".5", ".", 0.5),
        ("5.", ".", 5.0),
        ('"7"', ".", 7.0),
        ("12,5", ",", 12.5),
        ("1.000,5", ",", "bad_number"),
        ("12.5", ",", "bad_number"),
        ("12,5", ".", "bad_number"),
        ("1_000", ".", "bad_number"),
        ("0x10", ".", "bad_number"),
        ("١٢", ".", "bad_number"),
        ("true", ".", "bad_number"),
        ("1e", ".", "bad_number"),
        ("NA", ".", "bad_number"),
        ("-", ".", "bad_number"),
        (" ", ".", "bad_number"),
        ("", ".", "missing"),
        ('""', ".", "missing"),
        ("nan", ".", "nan"),
        ("NaN", ",", "nan"),
        ("-inf", ".", "infinity"),
        ("Infinity", ".", "infinity"),
        ("1e999", ".", "infinity"),
        ("-0.001", ".", "out_of_bounds"),
        ("1000.001", ".", "out_of_bounds"),
        ("1000", ".", 1000.0),
    ],
)
def test_numbers_in_csv(parse, text, decimal, found):
    cell = f'"{text}"' if "," in text else text
    data = (CSV_HEADER + csv_line(amount=cell)).encode()

    parsed = parse(data, file_format=csv_format(decimal=decimal))

    if isinstance(found, float):
        assert pq.read_table(parsed.rows)["amount"].to_pylist() == [found]
    else:
        assert parsed.fault_counts == {f"{found}:amount": 1}


# --- images ---------------------------------------------------------------------------------


def _image_spec(max_value: int) -> PipelineSpec:
    image = {"kind": "image", "name": "pixels", "height": 2, "width": 3, "max_value": max_value}
    return a_spec(features=[image], event_time=None)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
def test_images_have_their_size_and_brightness(parse, kind):
    pixels = pa.array([b"\0" * 6, b"\1\2\3\4\5\x10", b"\x11" * 6, b"\0" * 5, None], kind)
    table = pa.table(
        {"row": pa.array(list("abcde")), "label": pa.array(["fine"] * 5), "pixels": pixels}
    )

    parsed = parse(table, spec=_image_spec(16))

    assert pq.read_table(parsed.rows)["pixels"].to_pylist() == pixels.to_pylist()[:2]
    assert [(row, reasons) for row, _, _, reasons in faults_of(parsed)] == [
        ("c", ["image_value:pixels"]),
        ("d", ["image_size:pixels"]),
        ("e", ["missing:pixels"]),
    ]


def test_a_column_of_fixed_size_is_an_image_if_the_size_is_right(parse):
    table = pa.table(
        {
            "row": pa.array(["a", "b"]),
            "label": pa.array(["fine"] * 2),
            "pixels": pa.array([b"\xff" * 6, b"\0" * 6], pa.binary(6)),
        }
    )

    assert parse(table, spec=_image_spec(255)).n_faulty == 0
    assert parse(table, spec=_image_spec(254)).fault_counts == {"image_value:pixels": 1}


# --- rows at fault --------------------------------------------------------------------------


def test_a_row_with_several_faults_names_all_of_them(parse):
    columns = good_columns(3)
    table = good_table(
        3,
        row=replaced(columns["row"], 1, None),
        amount=replaced(columns["amount"], 1, float("inf")),
        balance=replaced(columns["balance"], 1, None),
        country=replaced(columns["country"], 1, "at"),
        label=replaced(columns["label"], 1, "secret"),
    )

    parsed = parse(table)

    assert faults_of(parsed) == [
        (
            None,
            "part-0",
            2,
            [
                "missing_row_id",
                "infinity:amount",
                "missing:balance",
                "unknown_category:country",
                "unknown_class",
            ],
        )
    ]
    assert pq.read_table(parsed.rows)["row"].to_pylist() == ["cust-0000", "cust-0002"]


def test_a_row_id_stands_once_in_all_files_and_the_first_row_stays(parse):
    second = good_table(3, row=pa.array(["new", "cust-0001", "new"]))

    parsed = parse(good_table(2), second)

    assert faults_of(parsed) == [
        ("cust-0001", "part-1", 2, ["duplicate_row_id"]),
        ("new", "part-1", 3, ["duplicate_row_id"]),
    ]
    assert pq.read_table(parsed.rows)["row"].to_pylist() == ["cust-0000", "cust-0001", "new"]


def test_row_ids_are_short_and_on_one_line(parse):
    ids = ["x" * MAX_ROW_ID_BYTES, "x" * (MAX_ROW_ID_BYTES + 1), "a\nb", "", "\x7f"]

    parsed = parse(good_table(5, row=pa.array(ids)))

    assert parsed.fault_counts == {"bad_row_id": 3, "missing_row_id": 1}
    assert pq.read_table(parsed.rows)["row"].to_pylist() == ids[:1]


def test_a_batch_in_which_every_row_is_at_fault_still_concludes(parse):
    parsed = parse(good_table(5, amount=pa.array([float("nan")] * 5, from_pandas=False)))

    assert (parsed.n_rows, parsed.n_faulty) == (5, 5)
    assert pq.read_table(parsed.rows).num_rows == 0
