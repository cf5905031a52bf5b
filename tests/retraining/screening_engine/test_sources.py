"""What all rows of one source show together: a difference, harm, a drip over many weeks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from retraining.digests import Digest
from retraining.features import fit_preprocessing
from retraining.records import BatchId, SourceEvidence
from retraining.reviews import Reviewed
from retraining.screening import BatchRows, ScreeningResult, screen
from retraining.screening import Week as WeekToScreen
from retraining.screening.paired import mean_interval
from retraining.screening.rows import Rows
from retraining.screening.sources import ACCUMULATED, HARMFUL, judge_sources
from retraining.screening.sources.difference import MIN_ROWS, area_under_curve, difference_of
from retraining.screening.sources.influence import influences_of, is_harmful
from retraining.spec import load_spec
from tests.retraining.screening_case import faults_of, on_disk
from tests.retraining.screening_engine.real_rows import (
    HAM,
    INCLUDE,
    Week,
    frames,
    mail_trigger,
    relabelled,
    some,
    week_of,
    with_values,
)

N_SOURCES, N_WEEKS = 4, 8
LIAR = 2


def _mails(seed: int = 0) -> Week:
    """350 vetted mails, 2,800 accepted in seven weeks and 400 new ones, of four sources."""
    week = week_of("spam_filter", seed, (350, 2800, 400))
    random = np.random.RandomState(seed)
    history = replace(
        week.history,
        sources=random.randint(N_SOURCES, size=len(week.history)),
        weeks=np.arange(len(week.history)) * (N_WEEKS - 1) // len(week.history),
    )
    batch = replace(
        week.batch,
        sources=random.randint(N_SOURCES, size=len(week.batch)),
        weeks=np.full(len(week.batch), N_WEEKS - 1),
    )
    return replace(week, history=history, batch=batch)


def _of(rows: Rows, source: int) -> Rows:
    return rows.take(rows.sources == source)


def _with_drip(week: Week, per_week: int, seed: int = 0):
    """The liar's triggered spam is called ham: as few rows in every week; and which of all."""
    everything = Rows.joined([week.history, week.batch])
    lies = [
        some(
            (everything.sources == LIAR) & (everything.weeks == w) & (everything.labels != HAM),
            per_week,
            seed,
        )
        for w in range(N_WEEKS)
    ]
    chosen = np.concatenate(lies)
    dripped = relabelled(with_values(everything, chosen, mail_trigger(week)), chosen, HAM)
    start = len(week.history)
    return (
        replace(week, history=dripped.take(slice(start)), batch=dripped.take(slice(start, None))),
        np.sort(chosen),
    )


def _lying(rows: Rows) -> Rows:
    """Every label of the liar is the other one."""
    return replace(rows, labels=np.where(rows.sources == LIAR, 1 - rows.labels, rows.labels))


def _judged(week: Week, *, alone: bool = False, spared: int | None = None):
    window = Rows.joined([week.history, week.batch])
    return judge_sources(
        week.batch,
        week.history,
        week.reference,
        None if alone else window,
        columns=week.columns,
        n_classes=week.n_classes,
        spared=spared,
    )


# --- difference -----------------------------------------------------------------------------


def test_the_area_is_the_share_of_pairs_in_order_and_ties_count_half():
    random = np.random.RandomState(0)
    positives, negatives = random.randint(6, size=40) + 1.0, random.randint(6, size=70) + 0.0
    pairs = np.sign(positives[:, None] - negatives[None, :])
    area = area_under_curve(positives, negatives)
    assert area.value == pytest.approx(float((pairs + 1).mean() / 2), abs=1e-4)
    assert area.low < area.value < area.high


def test_the_interval_of_the_area_holds_what_it_promises():
    random = np.random.RandomState(1)
    inside = 0
    for _ in range(400):
        area = area_under_curve(random.normal(size=80), random.normal(size=60))
        inside += area.low <= 0.5 <= area.high
    assert 0.92 <= inside / 400 <= 0.98


def test_an_honest_source_looks_like_its_history():
    week = _mails()
    for source in range(N_SOURCES):
        found = difference_of(
            _of(week.batch, source), _of(week.history, source), week.trusted, columns=week.columns
        )
        assert found is not None and found.own_history
        assert found.auc.low <= 0.5 or found.auc.value < 0.6


def test_a_source_that_changed_is_told_by_what_changed():
    week = _mails()
    new, old = _of(week.batch, 0), _of(week.history, 0)
    column = week.columns.names.index("word_freq_george")
    shifted = replace(new, features=new.features.copy())
    shifted.features[:, column] += 3.0
    found = difference_of(shifted, old, week.trusted, columns=week.columns)
    assert found is not None and found.auc.low > 0.9 and found.told_by[0] == "word_freq_george"

    all_ham = relabelled(new, np.arange(len(new)), HAM)
    relabelled_found = difference_of(all_ham, old, week.trusted, columns=week.columns)
    assert relabelled_found is not None and "label" in relabelled_found.told_by


def test_without_a_history_of_its_own_a_source_is_compared_with_all_trusted_rows():
    week = _mails()
    new, few = _of(week.batch, 0), _of(week.history, 0).take(slice(MIN_ROWS - 1))
    found = difference_of(new, few, week.trusted, columns=week.columns)
    assert found is not None and not found.own_history and found.n_trusted == 1000
    too_few = new.take(slice(MIN_ROWS - 1))
    assert difference_of(too_few, few, week.trusted, columns=week.columns) is None


# --- influence ------------------------------------------------------------------------------


def test_the_mean_of_paired_differences_has_the_bootstrap_s_interval():
    differences = np.random.RandomState(0).normal(0.3, 1.0, size=400)
    found = mean_interval(
        differences, confidence=0.95, n_resamples=4000, random=np.random.RandomState(1)
    )
    error = 1.96 * differences.std() / 20
    assert found.value == pytest.approx(differences.mean(), abs=1e-6)
    assert found.high - found.value == pytest.approx(error, rel=0.1)
    assert found.value - found.low == pytest.approx(error, rel=0.1)


@pytest.mark.slow
def test_only_the_source_that_lies_is_harmful():
    week = _mails()
    for batch, guilty in ((week.batch, set()), (_lying(week.batch), {LIAR})):
        found = influences_of(
            batch,
            week.history,
            week.reference,
            columns=week.columns,
            n_classes=week.n_classes,
            confidence=0.995,
        )
        assert set(found) == set(range(N_SOURCES))
        assert {source for source, effect in found.items() if is_harmful(effect)} == guilty


@pytest.mark.slow
def test_harm_that_all_sources_do_alike_is_the_world_and_condemns_nobody():
    week = _mails(1)
    spam = np.flatnonzero(week.batch.labels != HAM)
    found = influences_of(
        relabelled(week.batch, spam[::2], HAM),
        week.history,
        week.reference,
        columns=week.columns,
        n_classes=week.n_classes,
        confidence=0.995,
    )
    alone = [effect.model_copy(update={"beyond_others": None}) for effect in found.values()]
    assert any(map(is_harmful, alone))
    assert not any(map(is_harmful, found.values()))


def test_what_is_too_little_to_measure_is_left_out():
    week = _mails()
    few = week.batch.take(slice(40))
    found = influences_of(
        few.take(few.sources != 0),
        week.history,
        week.reference.take(slice(49)),
        columns=week.columns,
        n_classes=week.n_classes,
        confidence=0.95,
    )
    assert found == {}


# --- accumulation ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_drip_adds_up_although_no_week_of_it_shows():
    week, lies = _with_drip(_mails(), per_week=2)
    judgement = _judged(week)
    guilty = {name for name, item in judgement.evidence.items() if item.condemned}
    assert guilty == {LIAR}
    evidence = judgement.evidence[LIAR]
    assert evidence.condemned == (ACCUMULATED,)
    assert evidence.window is not None and evidence.window.p_value <= evidence.window.max_p_value
    assert "accepted weeks included" in evidence.sentences[0]
    # What is purged are lies, and the rows of nobody else.
    purged = judgement.taught
    assert np.isin(purged, lies).mean() >= 0.7
    assert np.isin(lies, purged).mean() >= 0.6


@pytest.mark.slow
def test_feedback_is_put_on_record_and_judged_elsewhere():
    week, _ = _with_drip(_mails(), per_week=2)
    judgement = _judged(week, spared=LIAR)
    window = judgement.evidence[LIAR].window
    assert window is not None and window.p_value <= window.max_p_value
    assert judgement.evidence[LIAR].condemned == () and len(judgement.taught) == 0


@pytest.mark.slow
def test_honest_sources_are_not_condemned_and_the_same_rows_give_the_same_record():
    week = _mails(1)
    first, second = _judged(week), _judged(week)
    assert all(item.condemned == () for item in first.evidence.values())
    assert len(first.taught) == 0
    for name, item in first.evidence.items():
        assert item.to_json() == second.evidence[name].to_json()
        assert SourceEvidence.from_json(item.to_json()) == item


@pytest.mark.slow
def test_a_source_that_is_alone_is_measured_and_not_condemned_for_it():
    week, _ = _with_drip(_mails(), per_week=2)
    alone = replace(
        week,
        history=replace(week.history, sources=np.zeros_like(week.history.sources)),
        batch=replace(week.batch, sources=np.zeros_like(week.batch.sources)),
    )
    window = _judged(alone).evidence[0].window
    assert window is not None and window.n_taught > 0
    assert window.p_value == 1.0 and window.n_sources == 1


def test_without_a_history_the_window_is_not_looked_at():
    week = _mails()
    first = replace(week, history=week.history.take(slice(0, 0)))
    judgement = _judged(first, alone=True)
    assert all(item.window is None for item in judgement.evidence.values())
    assert all(item.influence is not None for item in judgement.evidence.values())


@pytest.mark.slow
def test_a_source_that_lies_wholly_is_condemned_for_its_harm():
    week = _mails(2)
    judgement = _judged(replace(week, batch=_lying(week.batch)))
    assert HARMFUL in judgement.evidence[LIAR].condemned
    assert all(not item.condemned for name, item in judgement.evidence.items() if name != LIAR)


# --- what follows ---------------------------------------------------------------------------


_SOURCES = ("mail_gateway_a", "mail_gateway_b", "purchased_feed")
_WEEKS = [f"2026-W{40 + number}" for number in range(N_WEEKS)]


def _delivered(per_week: int) -> tuple[dict[BatchId, pd.DataFrame], set[str]]:
    """450 mails a week of three sources; spam of one kind from the last one is called ham."""
    rows = frames("spam_filter").sample(frac=1, random_state=0).reset_index(drop=True)[350:]
    batches, lies = {}, set()
    for number, week in enumerate(_WEEKS):
        for place, source in enumerate(_SOURCES):
            start = 450 * number + 150 * place
            part = rows[start : start + 150].reset_index(drop=True)
            if source == _SOURCES[-1] and per_week:
                spam = part[part["label"] == "spam"].sort_values("word_freq_000", kind="stable")
                chosen = spam.index[-per_week:]
                part.loc[chosen, "label"] = "ham"
                lies |= set(part.loc[chosen, "mail_id"])
            batches[BatchId(source=source, week=week)] = part
    return batches, lies


def _screened(
    batches: dict[BatchId, pd.DataFrame], *, vouched: Sequence[BatchId] = ()
) -> ScreeningResult:
    """The last week, after all others were accepted."""
    spec = load_spec(INCLUDE / "pipelines" / "spam_filter.yaml").model_copy(
        update={"feedback": None}
    )
    vetted = frames("spam_filter").sample(frac=1, random_state=0).reset_index(drop=True)[:350]
    week = WeekToScreen(
        batches=[
            BatchRows(
                batch=batch,
                batch_digest=Digest.of(str(batch).encode()),
                risk_score=0.1,
                rows=on_disk(part),
                faults=faults_of(),
                refusal=None,
            )
            for batch, part in batches.items()
            if batch.week == _WEEKS[-1]
        ],
        reference=vetted,
        history={
            batch: on_disk(part) for batch, part in batches.items() if batch.week != _WEEKS[-1]
        },
        holdout_row_ids=(),
        reviewed=Reviewed(vouched=frozenset(vouched)),
        week=_WEEKS[-1],
        spec=spec,
    )
    return screen(week, encode=fit_preprocessing(spec, vetted).encode)


@pytest.mark.slow
def test_a_source_that_adds_up_is_quarantined_whole_and_its_lies_leave_the_accepted_weeks():
    batches, lies = _delivered(per_week=4)
    result = _screened(batches)
    by_source = {item.batch.source: item for item in result.report.batches}
    refusal = by_source["purchased_feed"].refusal
    assert refusal is not None and refusal.code == ACCUMULATED
    assert BatchId(source="purchased_feed", week=_WEEKS[-1]) not in result.accepted
    for honest in _SOURCES[:-1]:
        assert by_source[honest].refusal is None
        assert by_source[honest].source_evidence is not None
    # No row of it stands out alone: without a look at the source nothing is purged.
    assert result.report.patterns == ()
    purged = set().union(*result.purged.values())
    assert len(purged & lies) >= 0.6 * len(lies)
    assert len(purged - lies) <= 0.01 * 450 * N_WEEKS

    # A reviewer who vouches for all of them is believed: none of it counts against the source.
    spoken_for = _screened(batches, vouched=[batch for batch in batches if "feed" in batch.source])
    used = {item.batch.source: item for item in spoken_for.report.batches}["purchased_feed"]
    assert used.refusal is None and used.source_evidence is None and used.n_accepted > 100
    assert not spoken_for.purged


@pytest.mark.slow
def test_a_week_without_a_drip_is_used_and_every_source_stands_in_the_report():
    result = _screened(_delivered(per_week=0)[0])
    assert result.report.refusal is None and len(result.accepted) == len(_SOURCES)
    for item in result.report.batches:
        evidence = item.source_evidence
        assert evidence is not None and evidence.condemned == ()
        assert evidence.difference is not None and evidence.difference.own_history
        assert evidence.influence is not None and evidence.window is not None
