"""The files that ship: whole, pinned, and without a row on both sides."""

import pandas as pd
import pytest

from demo.cut_data import DATA, DIGIT_READER, SPAM_FILTER, WEEKS, Cut, cut, digits
from retraining.digests import Digest
from retraining.registry import week_of
from retraining.settings import REPOSITORY
from retraining.spec import load_spec

CUTS = {"spam_filter": SPAM_FILTER, "digit_reader": DIGIT_READER}
PARTS = ("reference", "holdout", "pool")
BOTH = pytest.mark.parametrize("model", sorted(CUTS))


def part(model: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(DATA / model / f"{name}.parquet")


def contents(frame: pd.DataFrame, how: Cut) -> list[tuple[object, ...]]:
    own = {how.row_id, "received_at", "week", "source"}
    return [*frame.drop(columns=[c for c in frame if c in own]).itertuples(index=False, name=None)]


@BOTH
@pytest.mark.parametrize("role", ["reference", "holdout"])
def test_the_pipeline_files_pin_the_files_that_ship(model: str, role: str) -> None:
    spec = load_spec(REPOSITORY / "include" / "pipelines" / f"{model}.yaml")
    shipped = DATA / model / f"{role}.parquet"
    assert getattr(spec, role).digest == Digest.of(shipped.read_bytes())
    assert getattr(spec, role).uri == f"data/{model}/{role}.parquet"


@BOTH
def test_no_row_of_holdout_or_reference_occurs_anywhere_else(model: str) -> None:
    how = CUTS[model]
    features = {
        name: [row[:-1] for row in contents(part(model, name), how)] for name in PARTS
    }  # without the label
    assert len(set(features["holdout"])) == len(features["holdout"]) == how.n_holdout
    assert len(set(features["reference"])) == len(features["reference"]) == how.n_reference
    assert not set(features["holdout"]) & set(features["reference"])
    assert not set(features["pool"]) & {*features["holdout"], *features["reference"]}


@BOTH
def test_ids_differ_and_times_lie_in_the_week_of_their_row(model: str) -> None:
    how = CUTS[model]
    ids = pd.concat([part(model, name)[how.row_id] for name in PARTS])
    assert ids.is_unique
    pool = part(model, "pool")
    assert set(pool["week"]) == set(WEEKS)
    assert [week_of(at.date()) for at in pool["received_at"]] == list(pool["week"])
    assert part(model, "holdout")["received_at"].max() < pool["received_at"].min()


@BOTH
def test_every_source_delivers_its_share_every_week(model: str) -> None:
    pool = part(model, "pool")
    for week in WEEKS:
        of_week = pool[pool["week"] == week]["source"].value_counts(normalize=True)
        assert set(of_week.index) == set(CUTS[model].shares)
        for source, share in CUTS[model].shares.items():
            assert of_week[source] == pytest.approx(share, abs=0.01)


def test_the_cut_depends_neither_on_the_order_nor_on_chance() -> None:
    rows = digits()
    backwards = rows.iloc[::-1].reset_index(drop=True)
    for name, frame in cut(backwards, DIGIT_READER).items():
        # Not byte by byte: that would also pin the version of pyarrow.
        pd.testing.assert_frame_equal(frame, part("digit_reader", name), check_dtype=False)


def test_equal_rows_never_stand_on_two_sides() -> None:
    """Bulk mail: many equal rows, also with the other label."""
    rows = pd.DataFrame({"x": [number % 120 for number in range(600)]})
    rows["label"] = ["ham" if number % 7 else "spam" for number in range(600)]
    how = Cut(prefix="m", row_id="id", n_holdout=40, n_reference=20, shares={"a": 0.5, "b": 0.5})
    parts = {name: list(frame["x"]) for name, frame in cut(rows, how).items()}
    assert (len(parts["holdout"]), len(parts["reference"])) == (40, 20)
    assert len(set(parts["holdout"])) == 40 and len(set(parts["reference"])) == 20
    assert not set(parts["pool"]) & {*parts["holdout"], *parts["reference"]}
    assert not set(parts["reference"]) & set(parts["holdout"])
    assert len(parts["pool"]) == 60 * 5  # all copies of what is left


def test_the_data_are_small_and_say_whose_they_are() -> None:
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for model in CUTS:
        said = (DATA / model / "ATTRIBUTION.md").read_text()
        assert "CC BY 4.0" in said and "https://doi.org/10.24432/" in said and "**Changes**" in said


def test_what_the_attribution_counts_is_so() -> None:
    said = " ".join((DATA / "spam_filter" / "ATTRIBUTION.md").read_text().split())
    counts = {name: len(part("spam_filter", name)) for name in PARTS}
    left_out = 4601 - sum(counts.values())
    assert f"a holdout of {counts['holdout']:,} rows" in said
    assert f"a reference set of {counts['reference']}" in said
    assert f"a pool of {counts['pool']:,}" in said
    assert f"{left_out} copies" in said
