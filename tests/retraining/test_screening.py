"""Promises of screening: what is quarantined, what is refused, and who cannot harm whom."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retraining.errors import ConfigError
from retraining.records import BatchId, Refusal
from retraining.screening.suspicious import SCHEMA, to_csv, to_parquet
from retraining.store import open_store
from tests.retraining.screening_case import (
    WEEK,
    batch,
    biopsies,
    biopsy_spec,
    faults_of,
    flipped,
    screened,
)

_ROOT = Path(__file__).parents[2]
_FEED = BatchId(source="feed", week=WEEK)


def _of(result, source="feed", week=WEEK):
    wanted = BatchId(source=source, week=week)
    return next(item for item in result.report.batches if item.batch == wanted)


def _reasons(result, row_id):
    rows = result.suspicious[result.suspicious["row_id"] == row_id]
    return set("; ".join(rows["reasons"]).split("; ")) - {""}


# --- rows -----------------------------------------------------------------------------------


def test_a_clean_week_is_not_held_up():
    result = screened([batch("feed", biopsies(300, skip=150))])
    assert result.report.refusal is None
    assert _of(result).n_quarantined <= 9
    assert result.report.class_counts.keys() == {"malignant", "benign"}
    assert sum(result.report.class_counts.values()) == result.report.n_accepted


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_feed_that_flips_one_class_is_refused(share):
    result = screened([batch("feed", flipped(biopsies(300, skip=150), share))])
    refused = _of(result)
    assert refused.refusal is not None and refused.refusal.code == "too_many_quarantined"
    assert refused.n_quarantined > 30
    assert refused.poison_share is not None and refused.poison_share.low > 0.1
    assert refused.accepted is None and refused.n_accepted == 0
    assert _FEED not in result.accepted


def test_most_quarantined_rows_of_a_flipping_feed_are_flipped_ones():
    honest = biopsies(300, skip=150)
    wrong = flipped(honest)
    result = screened([batch("feed", wrong)])
    lies = set(honest["row_id"][honest["label"] != wrong["label"]])
    named = set(result.suspicious["row_id"])
    assert len(named & lies) > 0.7 * len(lies)
    assert len(named - lies) < 0.3 * len(named)


def test_a_user_with_far_too_many_odd_rows_loses_all_of_them():
    spec = biopsy_spec(screening={"max_quarantined_share_per_source": 0.5}, user="doctor")
    rows = biopsies(270, skip=150).assign(doctor=[f"d{n // 27}" for n in range(270)])
    liar = np.flatnonzero(rows["doctor"] == "d3")[::2]
    other = {"benign": "malignant", "malignant": "benign"}
    rows.loc[liar, "label"] = rows.loc[liar, "label"].map(other)
    result = screened([batch("feed", rows), batch("clinic", biopsies(149, skip=420))], spec=spec)
    condemned = result.suspicious["reasons"].str.contains("condemned_user")
    assert set(result.suspicious.loc[condemned, "row_id"]) == set(
        rows.loc[rows["doctor"] == "d3", "row_id"]
    )


@pytest.mark.slow
def test_junk_rows_are_isolated():
    rows = biopsies(150, skip=400)
    random = np.random.default_rng(0)
    for name in rows.columns[1:-1]:
        rows.loc[:19, name] = random.uniform(0, 3 * rows[name].max(), 20)
    result = screened([batch("feed", rows)], history=biopsies(250, skip=150))
    found = [i for i in rows["row_id"][:20] if "isolation" in _reasons(result, i)]
    assert len(found) >= 15
    assert _of(result).n_quarantined <= len(found) + 8


def test_a_row_that_stands_in_the_holdout_is_never_accepted():
    rows = biopsies(200, skip=150)
    leaked = list(rows["row_id"][:3])
    result = screened([batch("feed", rows)], holdout=leaked)
    assert _of(result).quarantined["in_holdout"] == 3
    assert not set(result.accepted[_FEED].column("row_id")) & set(leaked)


@pytest.mark.slow
def test_a_row_id_of_the_history_cannot_be_used_again():
    old = biopsies(100, skip=150)
    rows = biopsies(200, skip=250)
    rows.loc[0, "row_id"] = old.loc[0, "row_id"]
    result = screened([batch("feed", rows)], history=old)
    assert _of(result).quarantined["duplicate_row_id"] == 1


def test_an_untrusted_source_cannot_knock_out_rows_by_copying_their_ids():
    honest = biopsies(150, skip=150)
    copied = biopsies(150, skip=300)
    copied.loc[:9, "row_id"] = list(honest["row_id"][:10])
    # By week and by name it would come first; by trust it comes last.
    thief = batch("agency", copied, week="2026-W06")
    result = screened([thief, batch("clinic", honest)])
    assert _of(result, "agency", "2026-W06").quarantined["duplicate_row_id"] == 10
    assert "duplicate_row_id" not in _of(result, "clinic").quarantined


def test_a_repeated_id_inside_one_batch_keeps_one_row():
    rows = biopsies(200, skip=150)
    rows.loc[1, "row_id"] = rows.loc[0, "row_id"]
    assert _of(screened([batch("feed", rows)])).quarantined["duplicate_row_id"] == 1


def test_value_faults_count_as_quarantined_with_their_own_reasons():
    faults = faults_of(["nan:mean radius"], ["nan:mean radius", "unknown_class"])
    result = screened([batch("feed", biopsies(200, skip=150), faults=faults)])
    feed = _of(result)
    assert feed.n_rows == 202
    assert feed.quarantined["nan:mean radius"] == 2
    assert feed.quarantined["unknown_class"] == 1
    assert feed.n_accepted + feed.n_quarantined == 202
    faulty = result.suspicious[result.suspicious["evidence"].isna()]
    assert len(faulty) == 2 and faulty["row_id"].isna().all()


@pytest.mark.slow
def test_a_flood_in_one_source_condemns_no_other():
    honest = biopsies(150, skip=150)
    flood = flipped(biopsies(260, skip=300))
    beside = screened([batch("clinic", honest), batch("feed", flood)])
    assert _of(beside, "feed").refusal is not None
    assert _of(beside, "clinic").n_quarantined <= 4


# --- batches and the week -------------------------------------------------------------------


def test_a_batch_refused_on_arrival_is_left_out_and_named():
    refusal = Refusal(code="signature", sentence="Not signed.")
    result = screened(
        [batch("feed", None, refusal=refusal), batch("clinic", biopsies(200, skip=150))]
    )
    assert _of(result).refusal == refusal
    assert result.report.refusal is None and list(result.accepted) == [
        BatchId(source="clinic", week=WEEK)
    ]


def test_a_source_that_may_stop_the_week_stops_it():
    refusal = Refusal(code="signature", sentence="Not signed.")
    result = screened(
        [batch("clinic", None, refusal=refusal), batch("feed", biopsies(200, skip=150))]
    )
    assert result.report.refusal is not None
    assert result.report.refusal.code == "source_refused"
    assert "Not signed." in result.report.refusal.sentence


def test_a_refused_batch_of_an_earlier_week_never_stops_this_one():
    refusal = Refusal(code="signature", sentence="Not signed.")
    earlier = batch("clinic", None, week="2026-W06", refusal=refusal)
    result = screened([earlier, batch("feed", biopsies(200, skip=150))])
    assert result.report.refusal is None
    assert _of(result, "clinic", "2026-W06").refusal == refusal


def test_a_batch_with_fewer_rows_than_its_source_must_deliver_is_refused():
    spec = biopsy_spec(sources=[{"name": "feed", "min_rows": 100}])
    result = screened([batch("feed", biopsies(99, skip=150))], spec=spec)
    assert _of(result).refusal.code == "too_few_rows"


def test_too_much_quarantine_in_total_refuses_the_week():
    spec = biopsy_spec(
        screening={"max_quarantined_share_per_source": 1.0, "max_quarantined_share": 0.05}
    )
    # So few that the source itself is not yet condemned for its harm.
    result = screened([batch("feed", flipped(biopsies(300, skip=150), 0.25))], spec=spec)
    assert _of(result).refusal is None
    assert result.report.refusal.code == "too_many_quarantined"


def test_too_few_accepted_rows_refuse_the_week():
    spec = biopsy_spec(screening={"min_rows": 1000})
    result = screened([batch("feed", biopsies(200, skip=150))], spec=spec)
    assert result.report.refusal.code == "too_few_rows"


def test_rows_of_one_class_refuse_the_week():
    rows = biopsies(300, skip=150)
    result = screened([batch("feed", rows[rows["label"] == "benign"].reset_index(drop=True))])
    assert result.report.refusal.code == "one_class"


def test_a_batch_without_rows_is_concluded_and_the_week_refused():
    result = screened([batch("feed", biopsies(0))])
    assert _of(result).refusal.code == "too_few_rows"
    assert result.report.refusal.code == "too_few_rows"


def test_too_small_a_reference_set_is_an_error():
    with pytest.raises(ConfigError, match="has 49 rows; screening needs at least 50"):
        screened([batch("feed", biopsies(200, skip=150))], reference=biopsies(49))


def test_poison_is_limited_by_count_as_well():
    spec = biopsy_spec(
        screening={"max_quarantined_share_per_source": 1.0, "max_poison_rows_per_source": 20}
    )
    refused = _of(screened([batch("feed", flipped(biopsies(300, skip=150)))], spec=spec)).refusal
    assert refused is not None and refused.code == "too_much_poison"


def test_a_reference_set_that_cannot_check_itself_is_an_error():
    rows = biopsies(150)
    few = pd.concat([rows[rows["label"] == "benign"], rows[rows["label"] == "malignant"][:4]])
    with pytest.raises(ConfigError, match="4 rows of class 'malignant'"):
        screened([batch("feed", biopsies(200, skip=150))], reference=few)


# --- one report for the same input ----------------------------------------------------------


@pytest.mark.slow
def test_the_order_in_which_batches_arrive_changes_nothing():
    batches = [batch("clinic", biopsies(150, skip=150)), batch("feed", biopsies(150, skip=300))]
    assert screened(batches).report == screened(batches[::-1]).report


@pytest.mark.slow
def test_the_report_is_the_same_in_every_process_and_with_any_number_of_threads():
    found = {
        subprocess.run(
            [sys.executable, "-m", "tests.retraining.screening_case"],
            cwd=_ROOT,
            env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1


# --- files ----------------------------------------------------------------------------------


def test_stored_files_hold_the_accepted_rows_and_reasons_but_no_feature(tmp_path):
    store = open_store(str(tmp_path / "store"))
    result = screened([batch("feed", biopsies(200, skip=150), faults=faults_of(["missing_label"]))])
    report, artefacts = result.store(store, tmp_path)
    again, same = result.store(store, tmp_path)
    assert (again, same) == (report, artefacts)
    accepted = report.batches[0].accepted
    assert accepted == artefacts[f"accepted/feed/{WEEK}"]
    store.fetch(accepted, tmp_path / "accepted")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "accepted"), result.accepted[_FEED].frame(), check_dtype=False
    )
    store.fetch(report.suspicious_parquet, tmp_path / "suspicious")
    stored = pq.read_table(tmp_path / "suspicious")
    assert stored.schema.names == SCHEMA.names
    assert stored.num_rows == report.n_quarantined
    assert stored["explanation"].null_count == 0
    assert store.get(report.suspicious_csv).startswith(b"row_id,source,week,label,reasons,")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t", "|", "%"])
def test_a_row_id_cannot_become_a_formula_in_a_spreadsheet(start):
    frame = pd.DataFrame([dict.fromkeys(SCHEMA.names)])
    frame["row_id"] = [f"{start}HYPERLINK(1)"]
    assert to_csv(frame).splitlines()[1].lstrip(b'"').startswith(b"'")
    assert pq.read_table(pa.BufferReader(to_parquet(frame)))["row_id"].to_pylist() == list(
        frame["row_id"]
    )
