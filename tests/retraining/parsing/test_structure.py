"""Structure: what refuses a batch as a whole, and in what order and form good rows come out."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retraining.parsing import row_schema
from tests.retraining.deliveries import (
    CSV_HEADER,
    a_spec,
    csv_bytes,
    csv_format,
    csv_line,
    faults_of,
    good_columns,
    good_table,
    refused,
)

# --- good rows ------------------------------------------------------------------------------


def test_good_rows_come_out_in_order_with_normal_types(parse):
    spec = a_spec()

    parsed = parse(good_table(20), spec=spec)

    found = pq.read_table(parsed.rows)
    assert found.schema.equals(row_schema(spec.table))
    assert tuple(found.column_names) == spec.columns
    expected = good_columns(20)
    assert found["row"].to_pylist() == expected["row"].to_pylist()
    assert found["amount"].to_pylist() == expected["amount"].to_pylist()
    assert found["balance"].to_pylist() == [float(v) for v in expected["balance"].to_pylist()]
    assert found["country"].to_pylist() == expected["country"].to_pylist()
    assert found["seen_at"][1].as_py() == dt.datetime(2026, 2, 9, 8, 31, 1, tzinfo=dt.UTC)
    assert (parsed.n_rows, parsed.n_faulty, parsed.fault_counts) == (20, 0, {})
    assert faults_of(parsed) == []


def test_csv_gives_the_same_bytes_as_parquet(parse):
    from_parquet = parse(good_table(40))

    from_csv = parse(csv_bytes(good_table(40)), file_format=csv_format())

    assert from_csv.rows.read_bytes() == from_parquet.rows.read_bytes()
    assert from_csv.faults.read_bytes() == from_parquet.faults.read_bytes()


def test_the_same_input_gives_the_same_bytes_however_it_is_split(parse):
    whole = parse(good_table(40))

    split = parse(good_table(40).slice(0, 13), good_table(40).slice(13))

    assert split.rows.read_bytes() == whole.rows.read_bytes()


def test_faults_name_file_and_row_number_across_many_batches(parse):
    n = 150_000  # three batches of 65,536
    amount = np.full(n, 1.0)
    amount[[0, 65_536, n - 1]] = [-1, 2000, np.nan]
    table = good_table(n, amount=pa.array(amount, from_pandas=False))

    parsed = parse(good_table(3, row=pa.array(["a", "b", "c"])), table)

    assert faults_of(parsed) == [
        ("cust-0000", "part-1", 1, ["out_of_bounds:amount"]),
        ("cust-65536", "part-1", 65_537, ["out_of_bounds:amount"]),
        ("cust-149999", "part-1", n, ["nan:amount"]),
    ]
    assert (parsed.n_rows, parsed.n_faulty) == (n + 3, 3)
    assert pq.read_metadata(parsed.rows).num_rows == n


def test_integers_with_a_missing_one_arrive_as_floats_and_stay_whole(parse):
    parsed = parse(good_table(3, row=pa.array([7.0, float("nan"), 9007199254740991.0])))

    assert pq.read_table(parsed.rows)["row"].to_pylist() == ["7", "9007199254740991"]
    assert faults_of(parsed) == [(None, "part-0", 2, ["missing_row_id"])]


# --- CSV ------------------------------------------------------------------------------------


def test_a_declared_dialect_is_followed(parse):
    text = (
        "row;seen_at;amount;balance;country;label\r\n"
        "'cust;''1''';2026-02-09;1,5;-2;Österreich;fine\r\n"
        "\r\n"
        "cust-2;2026-02-09;2,5;3;de;fraud"
    )
    spec = a_spec(
        features=[
            {"name": "amount", "kind": "number", "min": 0, "max": 1000},
            {"name": "balance", "kind": "number", "min": -50, "max": 50},
            {"name": "country", "kind": "category", "categories": ["de", "Österreich"]},
        ]
    )
    dialect = csv_format(delimiter=";", quote="'", encoding="latin-1", decimal=",")

    parsed = parse(text.encode("latin-1"), spec=spec, file_format=dialect)

    found = pq.read_table(parsed.rows).to_pydict()
    assert found["row"] == ["cust;'1'", "cust-2"]
    assert found["amount"] == [1.5, 2.5]
    assert found["country"] == ["Österreich", "de"]
    assert parsed.n_faulty == 0


def test_a_byte_order_mark_is_no_part_of_the_first_name(parse):
    data = b"\xef\xbb\xbf" + (CSV_HEADER + csv_line()).encode()

    assert parse(data, file_format=csv_format()).n_rows == 1


def test_a_ragged_line_far_into_a_large_file_is_named(parse):
    lines = [csv_line(row=f"customer-with-a-long-name-{i:07d}") for i in range(120_000)]
    lines[110_000] = "cust,secret-value\n"  # the second block of 4 MiB

    refusal = refused(parse, (CSV_HEADER + "".join(lines)).encode(), file_format=csv_format())

    assert refusal.code == "ragged_csv"
    assert "line 110002 has 2 fields, expected 6" in refusal.sentence
    assert "secret" not in refusal.sentence


@pytest.mark.parametrize("column", ["row", "label"])
def test_a_quote_left_open_swallows_no_rows_in_silence(parse, column):
    lines = [csv_line(row=f"r{i}") for i in range(10)]
    lines[4] = csv_line(**({"row": '"r4'} if column == "row" else {"row": "r4", "label": '"fine'}))

    refusal = refused(parse, (CSV_HEADER + "".join(lines)).encode(), file_format=csv_format())

    assert refusal.code == "ragged_csv"


def test_a_value_with_a_line_break_is_refused_and_not_miscounted(parse):
    data = CSV_HEADER + csv_line(row="r1", label='"fi\nne"') + csv_line(row="r2")

    assert refused(parse, data.encode(), file_format=csv_format()).code == "ragged_csv"


def test_a_file_without_header_shows_none_of_its_values(parse):
    refusal = refused(parse, csv_line(row="cust-0001").encode() * 3, file_format=csv_format())

    assert refusal.code == "wrong_columns"
    assert "perhaps there is no header" in refusal.sentence
    assert "cust-0001" not in refusal.sentence


def test_limits_on_rows_count_all_files_and_blank_lines_are_none(parse):
    data = (CSV_HEADER + csv_line(row="r1") + "\n" + csv_line(row="r2") + "\n\n").encode()
    other = (CSV_HEADER + csv_line(row="r3")).encode()

    assert parse(data, other, file_format=csv_format(), max_rows=3).n_rows == 3
    refusal = refused(parse, data, other, file_format=csv_format(), max_rows=2)

    assert refusal.code == "too_many_rows"
    assert "part-1" in refusal.sentence


# --- Parquet --------------------------------------------------------------------------------


def test_the_row_limit_is_read_from_the_footer_before_any_row(parse, tmp_path):
    path = tmp_path / "many.parquet"
    pq.write_table(good_table(2000), path)
    data = bytearray(path.read_bytes())
    data[4:2000] = b"\0" * 1996  # whoever reads a row finds it damaged

    assert refused(parse, bytes(data), max_rows=1999).code == "too_many_rows"
    assert refused(parse, bytes(data), max_rows=2000).code == "unreadable"


def test_a_footer_that_claims_to_be_larger_than_the_file_is_refused(parse, tmp_path):
    path = tmp_path / "good.parquet"
    pq.write_table(good_table(20), path)
    data = path.read_bytes()

    refusal = refused(parse, data[:-8] + (1 << 30).to_bytes(4, "little") + b"PAR1")

    assert refusal.code == "unreadable"
    assert "footer of 1073741824 bytes" in refusal.sentence


def test_text_that_is_not_utf8_is_refused(parse):
    broken = pa.array([b"de", b"\xff\xfe"], pa.binary()).view(pa.string())

    refusal = refused(parse, good_table(2, country=broken))

    assert (refusal.code, "'country'" in refusal.sentence) == ("encoding", True)


def test_names_from_a_hostile_schema_are_shown_short_and_printable(parse):
    table = good_table(2).append_column("x" * 5000 + "\x1b[31m\n", pa.array([1, 2]))
    for i in range(50):
        table = table.append_column(f"more-{i}", pa.array([1, 2]))

    refusal = refused(parse, table)

    assert refusal.code == "wrong_columns"
    assert "and 46 more" in refusal.sentence
    assert refusal.sentence.isprintable()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("amount", pa.array([True, False])),
        ("amount", pa.array(["1", "2"])),
        ("amount", pa.array([dt.datetime(2026, 1, 1)] * 2)),
        ("country", pa.array([b"de", b"fr"])),
        ("row", pa.array([True, False])),
        ("seen_at", pa.array([1, 2])),
        ("label", pa.array([dt.date(2026, 1, 1)] * 2)),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_a_column_of_the_wrong_type_is_refused(parse, column, values):
    refusal = refused(parse, good_table(2, **{column: values}))

    assert refusal.code == "wrong_type"
    assert f"'{column}'" in refusal.sentence


def test_a_column_without_any_value_is_missing_in_each_row(parse):
    parsed = parse(good_table(2, balance=pa.nulls(2), label=pa.nulls(2), seen_at=pa.nulls(2)))

    assert parsed.fault_counts == {
        "bad_event_time": 2,
        "missing:balance": 2,
        "missing_label": 2,
    }
