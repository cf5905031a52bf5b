"""JSON lines: a line that cannot be read costs that line and no other."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from retraining.children import ChildLimits
from retraining.errors import BatchRefusedError
from retraining.parsing import ParsedRows
from retraining.parsing.json_lines_reader import MAX_LINE_BYTES
from retraining.spec import CategoryFeature, LabelSpec, NumberFeature, Table
from tests.retraining.store.test_inbox import demand_refusal

TABLE = Table(
    event_time="time",
    texts=("item", "user"),
    features=(
        NumberFeature(kind="number", name="age", min=0, max=1000),
        CategoryFeature(kind="category", name="verified", categories=("true", "false")),
    ),
    label=LabelSpec(column="label", classes=("0", "1")),
    optional=("age", "verified"),
)
GOOD: dict[str, Any] = {
    "time": "2026-02-14T12:00:00Z",
    "item": "m-1",
    "user": "ann",
    "age": 12.5,
    "verified": True,
    "label": 1,
}

Read = Callable[..., ParsedRows]


@pytest.fixture
def read(parse: Read) -> Read:
    """Parse lines of bytes, text or objects, in this process."""

    def run(*files: list[Any], **options: Any) -> ParsedRows:
        contents = [b"\n".join(map(as_bytes, lines)) + b"\n" for lines in files]
        return parse(*contents, table=TABLE, file_format="json_lines", **options)

    return run


def as_bytes(line: Any) -> bytes:
    if isinstance(line, bytes):
        return line
    return (line if isinstance(line, str) else json.dumps(line)).encode()


def faults(parsed: ParsedRows) -> list[tuple[int, str]]:
    found = pq.read_table(parsed.faults).to_pylist()
    return [(fault["line"], reason) for fault in found for reason in fault["reasons"]]


def test_values_are_read_as_what_they_are_declared(read: Read) -> None:
    (row,) = pq.read_table(read([GOOD]).rows).to_pylist()

    assert row["time"].isoformat() == "2026-02-14T12:00:00+00:00"
    assert {name: row[name] for name in row if name != "time"} == {
        "item": "m-1",
        "user": "ann",
        "age": 12.5,
        "verified": "true",
        "label": "1",
    }


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (7.0, "7"), (2**70, str(2**70)), ("7", "7")])
def test_a_number_names_what_its_digits_name(read: Read, value: Any, text: str) -> None:
    (row,) = pq.read_table(read([GOOD | {"item": value}]).rows).to_pylist()
    assert row["item"] == text


def test_missing_optional_fields_are_null(read: Read) -> None:
    lacking = {name: value for name, value in GOOD.items() if name not in ("age", "verified")}
    rows = pq.read_table(read([lacking, GOOD | {"age": None}]).rows).to_pylist()
    assert [(row["age"], row["verified"]) for row in rows] == [(None, None), (None, "true")]


def test_fields_that_nobody_declared_are_passed_over(read: Read) -> None:
    parsed = read([GOOD | {"": {"deep": [1, [2, [3]]]}, "more": "x"}])
    assert (parsed.n_rows, parsed.n_faulty) == (1, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "bad_json"),
        ("not json", "bad_json"),
        (json.dumps(GOOD) + ",", "bad_json"),
        (json.dumps(GOOD) * 2, "bad_json"),
        ('{"item": NaN}', "bad_json"),
        ('{"item": -Infinity}', "bad_json"),
        ('{"item": ' + "9" * 5000 + "}", "bad_json"),
        (json.dumps(GOOD).replace('"user"', '"user\t"'), "bad_json"),
        ("[]", "not_an_object"),
        ("null", "not_an_object"),
        ('"text"', "not_an_object"),
        (GOOD | {"user": ["ann", "bob"]}, "nested_value"),
        (GOOD | {"label": {"is": "1"}}, "nested_value"),
        ("[" * 60_000, "nested_value"),
        ('{"a":' * 12_000, "nested_value"),
        (json.dumps(GOOD)[:-1] + ', "user": "bob"}', "duplicate_field"),
        (json.dumps(GOOD)[:-1] + ', "more": {"a": 1, "a": 2}}', "duplicate_field"),
        (b'{"item": "\xff\xfe"}', "encoding"),
        (b"\xff\xfe" + '{"item"'.encode("utf-16-le"), "encoding"),
        (json.dumps(GOOD | {"item": "\ud800"}), "encoding"),
        (GOOD | {"more": "x" * MAX_LINE_BYTES}, "line_too_long"),
        (GOOD | {"more": "x" * 3_000_000}, "line_too_long"),
        (GOOD | {"label": 2}, "unknown_class"),
        (GOOD | {"label": True}, "unknown_class"),
        (GOOD | {"label": None}, "missing_label"),
        (GOOD | {"time": 1771070400}, "bad_event_time"),
        (GOOD | {"time": "2026-02-30"}, "bad_event_time"),
        (GOOD | {"user": ""}, "missing:user"),
        (GOOD | {"user": "x" * 257}, "bad_text:user"),
        (GOOD | {"user": "a\u0000b"}, "bad_text:user"),
        (GOOD | {"user": "a\nb"}, "bad_text:user"),
        (GOOD | {"age": -1}, "out_of_bounds:age"),
        (GOOD | {"age": "many"}, "bad_number:age"),
        (json.dumps(GOOD).replace("12.5", "1e999"), "infinity:age"),
        (GOOD | {"verified": "perhaps"}, "unknown_category:verified"),
    ],
)  # fmt: skip
def test_a_bad_line_costs_that_line_and_no_other(read: Read, line: Any, reason: str) -> None:
    parsed = read([GOOD, line, GOOD])

    assert faults(parsed) == [(2, reason)]
    assert (parsed.n_rows, parsed.n_faulty, parsed.fault_counts) == (3, 1, {reason: 1})
    assert pq.read_table(parsed.rows).num_rows == 2


def test_a_line_may_be_as_long_as_the_limit(read: Read) -> None:
    room = MAX_LINE_BYTES - len(as_bytes(GOOD | {"more": ""})) - 1  # the line's end
    assert read([GOOD | {"more": "x" * room}]).n_faulty == 0
    assert read([GOOD | {"more": "x" * (room + 1)}]).n_faulty == 1


def test_blank_lines_are_no_rows_and_line_ends_may_be_of_either_kind(read: Read) -> None:
    parsed = read(["", GOOD, as_bytes(GOOD) + b"\r", "  \t\r", "oops"])
    assert (parsed.n_rows, faults(parsed)) == (3, [(3, "bad_json")])


def test_a_byte_order_mark_is_no_fault(read: Read) -> None:
    assert read([b"\xef\xbb\xbf" + as_bytes(GOOD)]).n_faulty == 0


def test_a_last_line_without_an_end_is_a_line(parse: Read) -> None:
    assert parse(as_bytes(GOOD), table=TABLE, file_format="json_lines").n_rows == 1


def test_rows_are_counted_per_file_and_lines_within_it(read: Read) -> None:
    parsed = read([GOOD, "oops"], [GOOD], ["oops", GOOD, GOOD])

    assert parsed.rows_of_files == (2, 1, 3)
    found = pq.read_table(parsed.faults).to_pylist()
    assert [(fault["file"], fault["line"]) for fault in found] == [("part-0", 2), ("part-2", 1)]


def test_too_many_lines_are_refused_as_too_many_rows(read: Read) -> None:
    demand_refusal("too_many_rows", lambda: read([GOOD] * 3, [GOOD] * 2, max_rows=4))


def test_files_without_any_line_are_empty(read: Read) -> None:
    demand_refusal("empty", lambda: read([""], [" "]))


def test_it_works_in_the_child_as_well(parse_in_child: Read) -> None:
    content = b"\n".join(map(as_bytes, [GOOD, "{", "[" * 60_000, GOOD]))
    parsed = parse_in_child(content, table=TABLE, file_format="json_lines")
    assert faults(parsed) == [(2, "bad_json"), (3, "nested_value")]
    assert parsed.rows_of_files == (4,)


@pytest.mark.slow
def test_long_lines_do_not_add_up_in_memory(parse_in_child: Read) -> None:
    line = as_bytes(GOOD | {"item": "x" * (MAX_LINE_BYTES - 200)}) + b"\n"
    limits = ChildLimits(seconds=120, memory_mib=800)  # an idle pyarrow takes half of it
    parsed = parse_in_child(line * 4_000, table=TABLE, file_format="json_lines", limits=limits)
    assert parsed.fault_counts == {"bad_text:item": 4_000}


def test_refusals_name_the_file_and_show_no_line(read: Read) -> None:
    with pytest.raises(BatchRefusedError) as refused:
        read([GOOD | {"user": "secret"}] * 3, max_rows=2)
    assert "part-0" in refused.value.sentence
    assert "secret" not in refused.value.sentence
