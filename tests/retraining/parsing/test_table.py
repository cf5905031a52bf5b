"""Files that are no training rows: without a name per row, with free text and optional columns."""

import pandas as pd
import pyarrow as pa

from retraining.spec import CategoryFeature, LabelSpec, NumberFeature, Table
from tests.retraining.parsing.conftest import Parse

VOTES = Table(
    event_time="time",
    texts=("item", "user"),
    features=(
        NumberFeature(kind="number", name="age", min=0, max=100),
        CategoryFeature(kind="category", name="verified", categories=("true", "false")),
    ),
    label=LabelSpec(column="label", classes=("ham", "spam")),
    optional=("age", "verified"),
)


def _votes(**columns: object) -> pa.Table:
    rows = {"time": "2026-02-14T10:00:00Z", "item": "i1", "user": "u1", "label": "ham"}
    return pa.Table.from_pydict({name: [value] * 2 for name, value in (rows | columns).items()})


def test_rows_without_a_name_may_be_equal(parse: Parse) -> None:
    parsed = parse(_votes(), table=VOTES)

    assert (parsed.n_rows, parsed.n_faulty) == (2, 0)


def test_an_optional_column_may_be_missing_and_its_values_null(parse: Parse) -> None:
    parsed = parse(_votes(age=pa.scalar(None, pa.float64()).as_py()), table=VOTES)

    rows = pd.read_parquet(parsed.rows)
    assert list(rows.columns) == ["time", "item", "user", "age", "verified", "label"]
    assert rows["age"].isna().all() and rows["verified"].isna().all()


def test_an_optional_value_that_is_there_has_to_be_right(parse: Parse) -> None:
    parsed = parse(_votes(age=101.0, verified="perhaps"), table=VOTES)

    assert parsed.fault_counts == {"out_of_bounds:age": 2, "unknown_category:verified": 2}


def test_text_is_short_printable_and_there(parse: Parse) -> None:
    columns = {"time": ["2026-02-14"] * 3, "item": ["i"] * 3, "label": ["ham"] * 3}
    parsed = parse(
        pa.Table.from_pydict(columns | {"user": [None, "x" * 257, "line\nbreak"]}), table=VOTES
    )

    assert parsed.fault_counts == {"missing:user": 1, "bad_text:user": 2}


def test_csv_may_lack_an_optional_column_too(parse: Parse) -> None:
    from retraining.spec import CsvDialect, CsvFormat

    parsed = parse(
        b"user,item,label,time\nu1,i1,ham,2026-02-14\n",
        table=VOTES,
        file_format=CsvFormat(csv=CsvDialect()),
    )

    assert (parsed.n_rows, parsed.n_faulty) == (1, 0)
