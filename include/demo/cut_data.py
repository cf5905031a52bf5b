"""How the files in `demo/data/` were made: run once, and kept to show what was changed.

    python -m demo.cut_data --spambase spambase.data

Spambase is UCI's own file (4,601 rows, 57 numbers and the class 0 or 1, no header); the digits come
with scikit-learn. Rows are put in the order of a hash, so the cut depends neither on the order of
the input (UCI's is sorted by class) nor on anybody's random numbers. `data/*/ATTRIBUTION.md` says
whose data these are and lists the changes.
"""

import argparse
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

DATA = Path(__file__).parent / "data"
WEEKS = ("2026-W40", "2026-W41", "2026-W42")

_WORDS = (
    "make address all 3d our over remove internet order mail receive will people report addresses"
    " free business email you credit your font 000 money hp hpl george 650 lab labs telnet 857 data"
    " 415 85 technology 1999 parts pm direct cs meeting original project re edu table conference"
)
SPAM_FEATURES = (
    *(f"word_freq_{word}" for word in _WORDS.split()),
    *(f"char_freq_{character}" for character in ";([!$#"),
    *(f"capital_run_length_{kind}" for kind in ("average", "longest", "total")),
)


@dataclass(frozen=True)
class Cut:
    """How one data set is divided.

    Attributes:
        prefix: Of row ids, which number the rows in hash order: they say nothing about a row.
        shares: Source to its share of each week's rows.
    """

    prefix: str
    row_id: str
    n_holdout: int
    n_reference: int
    shares: dict[str, float]


SPAM_FILTER = Cut(
    prefix="mail",
    row_id="mail_id",
    n_holdout=1200,
    n_reference=350,
    shares={"mail_gateway_a": 0.35, "mail_gateway_b": 0.30, "purchased_feed": 0.35},
)
DIGIT_READER = Cut(
    prefix="scan",
    row_id="scan_id",
    n_holdout=500,
    n_reference=150,
    shares={"scanner": 0.6, "forms_vendor": 0.4},
)


def spambase(path: Path) -> pd.DataFrame:
    """Read UCI's file: the features under their UCI names, and `label` ham or spam."""
    frame = pd.read_csv(path, header=None, names=[*SPAM_FEATURES, "label"])
    whole = ["capital_run_length_longest", "capital_run_length_total"]
    frame = frame.astype({name: "int64" if name in whole else "float64" for name in SPAM_FEATURES})
    return frame.assign(label=frame["label"].map({0: "ham", 1: "spam"}))


def digits() -> pd.DataFrame:
    """Read scikit-learn's digits: `pixels` as 64 bytes row by row (0 to 16), `label` 0 to 9."""
    images, labels = load_digits(return_X_y=True)
    return pd.DataFrame(
        {"pixels": [bytes(row) for row in images.astype("uint8")], "label": labels.astype(str)}
    )


def cut(rows: pd.DataFrame, how: Cut) -> dict[str, pd.DataFrame]:
    """Divide `rows` into `holdout`, `reference` and `pool`; the pool names week and source.

    Equal rows (bulk mail) stay on one side: nothing in the holdout or the reference set occurs
    anywhere else, and each of their rows stands there once. Further copies of those are dropped.
    """
    features = [name for name in rows.columns if name != "label"]
    # The label is hashed too: three mails of Spambase occur with both.
    texts = pd.Series([repr(tuple(row)) for row in rows.itertuples(index=False)], index=rows.index)
    rows = rows.assign(_order=texts.map(lambda text: hashlib.sha256(text.encode()).hexdigest()))
    rows = rows.sort_values("_order", kind="stable", ignore_index=True).drop(columns="_order")
    group = rows.groupby(features, sort=False).ngroup()
    first = ~group.duplicated()
    in_reference = group.between(how.n_holdout, how.n_holdout + how.n_reference - 1)
    parts = {
        "holdout": rows[(group < how.n_holdout) & first],
        "reference": rows[in_reference & first],
        "pool": rows[group >= how.n_holdout + how.n_reference],
    }
    dated = {
        "holdout": _dated(parts["holdout"], "2026-W36", n_weeks=4),
        "reference": _dated(parts["reference"], "2026-W32", n_weeks=4),
        "pool": _delivered(parts["pool"], how),
    }
    for part in dated.values():
        ids = [f"{how.prefix}-{position:05d}" for position in part.index]
        part.insert(0, how.row_id, pd.Series(ids, index=part.index, dtype="str"))
    return {name: part.reset_index(drop=True) for name, part in dated.items()}


def _delivered(pool: pd.DataFrame, how: Cut) -> pd.DataFrame:
    """Hand the pool out to weeks and sources."""
    parts = []
    for number, week in enumerate(WEEKS):
        of_week = pool.iloc[number :: len(WEEKS)]
        start = 0.0
        for source, share in how.shares.items():
            low, high = round(start * len(of_week)), round((start + share) * len(of_week))
            rows = _dated(of_week.iloc[low:high], week, n_weeks=1)
            parts.append(rows.assign(week=week, source=source))
            start += share
    return pd.concat(parts)


def _dated(rows: pd.DataFrame, week: str, *, n_weeks: int) -> pd.DataFrame:
    """Spread the rows evenly over whole weeks: the data sets themselves carry no times."""
    monday = datetime.fromisocalendar(int(week[:4]), int(week[6:]), 1).replace(tzinfo=UTC)
    step = timedelta(weeks=n_weeks) / len(rows)
    times = [monday + number * step for number in range(len(rows))]
    rows = rows.copy()
    rows.insert(0, "received_at", pd.DatetimeIndex(times).floor("s").as_unit("ms"))
    return rows


def write(parts: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write each part as `<name>.parquet`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        table = pa.Table.from_pandas(part, preserve_index=False).replace_schema_metadata()
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", compression_level=19)


def main() -> None:
    """Make all files anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spambase", type=Path, required=True, help="UCI's spambase.data")
    write(cut(spambase(parser.parse_args().spambase), SPAM_FILTER), DATA / "spam_filter")
    write(cut(digits(), DIGIT_READER), DATA / "digit_reader")


if __name__ == "__main__":
    main()
