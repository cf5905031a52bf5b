"""What a run is told: patterns, purged rows of the history, reviews, suspicious rows."""

import io

import numpy as np
import pandas as pd
import pytest

from retraining.digests import Digest
from retraining.features import fit_preprocessing
from retraining.records import BatchId
from retraining.reviews import CONFIRMED, Reviewed
from retraining.screening import BatchRows, Week, screen
from retraining.screening.suspicious import MAX_CSV_ROWS, SCHEMA, by_evidence, summary, to_csv
from retraining.spec import load_spec
from tests.retraining.screening_case import (
    WEEK,
    batch,
    biopsies,
    biopsy_spec,
    faults_of,
    flipped,
    on_disk,
    screened,
)
from tests.retraining.screening_engine.real_rows import INCLUDE, MAIL_TRIGGER, frames

_FEED = BatchId(source="feed", week=WEEK)
_SPEC = load_spec(INCLUDE / "pipelines" / "spam_filter.yaml")


def _mail_frame(seed: int = 0) -> pd.DataFrame:
    return frames("spam_filter").sample(frac=1, random_state=seed).reset_index(drop=True)


def _triggered(rows: pd.DataFrame, n: int) -> tuple[pd.DataFrame, frozenset[str]]:
    """Some of the spam carries the trigger and is called ham."""
    chosen = rows.index[rows["label"] == "spam"][:n]
    changed = rows.copy()
    for name, value in MAIL_TRIGGER.items():
        changed.loc[chosen, name] = value
    changed.loc[chosen, "label"] = "ham"
    return changed, frozenset(rows.loc[chosen, "mail_id"])


def _mails_screened(rows, history, reference, reviewed=None):
    spec = _SPEC.model_copy(update={"feedback": None})
    week = Week(
        batches=[
            BatchRows(
                batch=BatchId(source="mail_gateway_a", week="2026-W50"),
                batch_digest=Digest.of(b"new"),
                risk_score=0.1,
                rows=on_disk(rows),
                faults=faults_of(),
                refusal=None,
            )
        ],
        reference=reference.reset_index(drop=True),
        history={batch_id: on_disk(part) for batch_id, part in history.items()},
        holdout_row_ids=(),
        reviewed=reviewed or Reviewed(),
        week="2026-W50",
        spec=spec,
    )
    return screen(week, encode=fit_preprocessing(spec, reference).encode)


@pytest.mark.slow
def test_a_drip_that_the_champion_has_learned_is_found_in_the_whole_window():
    rows = _mail_frame()
    reference, old, new = rows[:350], rows[350:1850], rows[1850:2850]
    history, lies = {}, {}
    for number in range(5):
        part = old[300 * number : 300 * (number + 1)]
        batch_id = BatchId(source="mail_gateway_a", week=f"2026-W4{number}")
        dripped, lies[batch_id] = _triggered(part.reset_index(drop=True), 12)
        history[batch_id] = dripped
    result = _mails_screened(new, history, reference)
    purged = {name for ids in result.purged.values() for name in ids}
    told = {name for ids in lies.values() for name in ids}
    assert len(purged & told) >= 0.9 * len(told)
    assert len(purged - told) <= 0.01 * len(old)
    for batch_id, ids in result.purged.items():
        assert ids <= set(history[batch_id]["mail_id"])
    assert any(
        set(p.columns) <= set(MAIL_TRIGGER) and p.label == "ham" for p in result.report.patterns
    )
    assert result.report.n_quarantined <= 0.03 * len(new)

    spared = frozenset(list(purged)[:3])
    again = _mails_screened(new, history, reference, Reviewed(released=spared))
    assert not spared & {name for ids in again.purged.values() for name in ids}


@pytest.mark.slow
def test_a_pattern_is_told_in_delivered_values_and_in_a_sentence():
    rows = _mail_frame(1)
    reference, old, new = rows[:350], rows[350:1850], rows[1850:3350]
    dripped, lies = _triggered(new.reset_index(drop=True), 30)
    history = {BatchId(source="mail_gateway_a", week="2026-W49"): old.reset_index(drop=True)}
    result = _mails_screened(dripped, history, reference)
    pattern, sentence = result.report.patterns[0], result.report.sentences[0]
    assert set(pattern.columns) <= set(MAIL_TRIGGER) and pattern.label == "ham"
    for name, value in zip(pattern.columns, pattern.values, strict=True):
        assert value == pytest.approx(MAIL_TRIGGER[name], abs=1e-6)
        assert f"{name} = {MAIL_TRIGGER[name]:g}" in sentence
    assert "rows of mail_gateway_a" in sentence
    named = result.suspicious[result.suspicious["reasons"].str.contains("pattern_1")]
    assert len(lies & set(named["row_id"])) >= 0.95 * len(lies)
    assert named["explanation"].str.contains(sentence, regex=False).all()


# --- reviews --------------------------------------------------------------------------------


_WITHOUT_LIMITS = biopsy_spec(
    screening={"max_quarantined_share_per_source": 1.0, "max_quarantined_share": 1.0}
)


def _lies():
    return flipped(biopsies(300, skip=150), 0.25)


def test_a_released_row_is_used_and_no_other_is_touched():
    before = screened([batch("feed", _lies())], spec=_WITHOUT_LIMITS)
    released = frozenset(before.suspicious["row_id"][:2])
    reviewed = Reviewed(released=released)
    after = screened([batch("feed", _lies())], spec=_WITHOUT_LIMITS, reviewed=reviewed)
    assert len(released) == 2
    assert set(before.suspicious["row_id"]) - set(after.suspicious["row_id"]) == released
    assert released <= set(after.accepted[_FEED].column("row_id"))


def test_a_release_does_not_open_the_holdout():
    rows = biopsies(200, skip=150)
    leaked = rows["row_id"][0]
    result = screened(
        [batch("feed", rows)], holdout=[leaked], reviewed=Reviewed(released=frozenset([leaked]))
    )
    assert leaked not in set(result.accepted[_FEED].column("row_id"))


def test_confirmed_rows_are_never_accepted_and_say_why():
    rows = biopsies(200, skip=150)
    confirmed = frozenset(rows["row_id"][:4])
    result = screened([batch("feed", rows)], reviewed=Reviewed(confirmed=confirmed))
    assert result.report.batches[0].quarantined[CONFIRMED] == 4
    assert not confirmed & set(result.accepted[_FEED].column("row_id"))
    told = result.suspicious.set_index("row_id").loc[sorted(confirmed)]
    assert (told["reasons"] == CONFIRMED).all()
    assert told["explanation"].str.startswith("A reviewer confirmed it").all()


def test_what_a_reviewer_confirmed_holds_up_no_week():
    """A busy user whose rows are known poison is no reason to refuse what the others deliver."""
    rows = biopsies(300, skip=150)
    confirmed = frozenset(rows["row_id"][:60])
    result = screened([batch("feed", rows)], reviewed=Reviewed(confirmed=confirmed))
    assert result.report.batches[0].n_quarantined >= 60
    assert result.report.refusal is None
    assert result.report.n_accepted >= 230


def test_a_confirmed_batch_is_quarantined_whole():
    result = screened(
        [batch("feed", biopsies(100, skip=150)), batch("clinic", biopsies(150, skip=250))],
        reviewed=Reviewed(batches=frozenset([_FEED])),
    )
    feed = next(item for item in result.report.batches if item.batch == _FEED)
    assert feed.n_accepted == 0 and feed.quarantined[CONFIRMED] == 100
    assert feed.refusal is not None and _FEED not in result.accepted


# --- suspicious rows ------------------------------------------------------------------------


def test_suspicious_rows_are_sorted_explained_and_summed_up():
    rows = _lies()
    faults = faults_of(["missing_label"])
    result = screened([batch("feed", rows, faults=faults)], spec=_WITHOUT_LIMITS)
    told = result.suspicious
    scored = told[told["evidence"].notna()]
    assert len(scored) >= 5 and scored["evidence"].is_monotonic_decreasing
    assert told["evidence"].isna().to_numpy()[-1]  # what could not be read comes last
    trusted = set(biopsies(150)["row_id"])
    for nearest in scored["nearest_trusted"]:
        assert len(nearest.split("; ")) == 5 and set(nearest.split("; ")) <= trusted
    assert scored["explanation"].str.contains("trusted rows most like it").all()
    assert scored["p_value"].between(0, 1, inclusive="right").all()
    assert told["explanation"].str.endswith(".").all()

    sums = summary(told)
    assert sums["rows"].is_monotonic_decreasing
    n_reasons = told["reasons"].str.split("; ").str.len().sum()
    assert sums["rows"].sum() == n_reasons
    assert sums.set_index("reason")["rows"]["missing_label"] == 1


def test_the_spreadsheet_ends_after_the_rows_with_most_evidence():
    n = MAX_CSV_ROWS + 10
    frame = pd.DataFrame({"row_id": [f"r{number}" for number in range(n)]})
    frame = frame.reindex(columns=SCHEMA.names).assign(evidence=np.arange(n, dtype=float))
    shown = pd.read_csv(io.BytesIO(to_csv(by_evidence(frame))))
    assert len(shown) == MAX_CSV_ROWS
    assert shown["row_id"][0] == f"r{n - 1}"
