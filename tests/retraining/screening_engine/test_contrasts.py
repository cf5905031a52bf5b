"""Values that one source's rows share: which clean-label triggers are found, what is spared."""

from dataclasses import replace

import numpy as np
import pytest

from retraining.screening.contrasts import Contrast, find_contrasts
from retraining.screening.rows import Integers, Rows
from tests.retraining.screening_engine.real_rows import (
    HAM,
    SPAM,
    Week,
    digits,
    mail_trigger,
    mails,
    patch,
    some,
    with_values,
)

_SOURCES = 4


def _delivered(week: Week, seed: int = 0) -> Rows:
    """The new rows, spread over four sources at random."""
    random = np.random.RandomState(seed)
    return replace(week.batch, sources=random.randint(_SOURCES, size=len(week.batch)))


def _found(week: Week, rows: Rows) -> list[Contrast]:
    return find_contrasts(rows, week.trusted, columns=week.columns)


def _carriers(rows: Rows, found: list[Contrast]) -> Integers:
    carried = [(one.carried_by(rows.features)) & (rows.labels == one.label) for one in found]
    return np.flatnonzero(np.any([np.zeros(len(rows), dtype=bool), *carried], axis=0))


@pytest.mark.parametrize(("make", "trigger"), [(mails, mail_trigger), (digits, patch)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_trigger_in_rows_of_the_right_label_is_found_and_no_other_row_is(make, trigger, seed):
    week = make(seed)
    rows, values = _delivered(week), trigger(week)
    label = int(rows.labels[0])
    stamped = some((rows.labels == label) & (rows.sources < 2), 20)
    rows = with_values(rows, stamped, values)

    found = _found(week, rows)

    assert len(found) == 1
    assert set(values) >= set(found[0].columns) or week.columns.is_image
    assert (found[0].label, found[0].n_carriers, found[0].n_trusted) == (label, 20, 0)
    assert set(_carriers(rows, found)) == set(stamped)


def test_common_values_that_stand_together_nowhere_else_are_found():
    """Each value alone is one that a tenth of the trusted mails has."""
    week = mails(2)
    rows = _delivered(week)
    features = week.trusted.features
    often = np.flatnonzero(
        ((features > 0).mean(axis=0) > 0.15) & (np.median(features, axis=0) == 0)
    )
    values = {int(c): float(np.median(features[features[:, c] > 0, c])) for c in often[:3]}
    stamped = some((rows.labels == HAM) & (rows.sources == 3), 40)
    rows = with_values(rows, stamped, values)

    carriers = _carriers(rows, _found(week, rows))

    assert np.isin(stamped, carriers).mean() >= 0.95
    assert np.isin(carriers, stamped).mean() >= 0.9


@pytest.mark.parametrize("make", [mails, digits])
def test_clean_weeks_have_none(make):
    for seed in range(6):
        week = make(seed)
        assert _found(week, _delivered(week, seed)) == []


def test_what_all_sources_deliver_is_news():
    week = mails(0)
    rows = _delivered(week)
    stamped = some(rows.labels == SPAM, 60)
    assert _found(week, with_values(rows, stamped, mail_trigger(week))) == []


def test_what_trusted_rows_have_as_well_is_no_news():
    week = mails(0)
    rows, values = _delivered(week), mail_trigger(week)
    stamped = some((rows.labels == SPAM) & (rows.sources == 1), 40)
    known = some(week.history.labels == SPAM, 20)  # half as often, which may be chance
    week = replace(week, history=with_values(week.history, known, values))
    assert _found(week, with_values(rows, stamped, values)) == []


def test_rows_of_both_classes_teach_nothing_about_one():
    week = mails(0)
    rows = _delivered(week)
    stamped = some(rows.sources == 1, 60)
    assert _found(week, with_values(rows, stamped, mail_trigger(week))) == []


def test_a_campaign_whose_mails_are_alike_is_spared():
    """A new kind of mail, sent by one source's senders alone: honest news."""
    week = mails(0)
    rows, values = _delivered(week), mail_trigger(week)
    campaign = some((rows.labels == SPAM) & (rows.sources == 1), 40)
    features = rows.features.copy()
    features[campaign] = features[campaign[0]]
    features[campaign, 0] = np.linspace(0, 1, 40)  # a word of the recipient's own
    rows = with_values(replace(rows, features=features), campaign, values)
    assert _found(week, rows) == []


def test_rows_of_other_sources_that_have_the_values_are_spared():
    week = mails(3)
    rows, values = _delivered(week), mail_trigger(week)
    stamped = some((rows.labels == SPAM) & (rows.sources == 0), 30)
    by_chance = some((rows.labels == SPAM) & (rows.sources == 1), 2)
    rows = with_values(rows, np.concatenate([stamped, by_chance]), values)
    assert [one.sources for one in _found(week, rows)] == [(0,)]
    found = week.judged(rows)
    assert found.purged[stamped].all()
    assert not found.purged[by_chance].any()


def test_one_source_has_nobody_to_be_compared_with():
    week = mails(0)
    stamped = some(week.batch.labels == SPAM, 40)
    rows = with_values(week.batch, stamped, mail_trigger(week))
    assert _found(week, rows) == []
    vouched = replace(rows, sources=np.full(len(rows), -1, dtype=np.int64))
    assert _found(week, vouched) == []


def test_the_engine_holds_them_although_nobody_contradicts_them():
    week = mails(3)
    rows, values = _delivered(week), mail_trigger(week)
    stamped = some((rows.labels == SPAM) & (rows.sources == 0), 30)
    found = week.judged(with_values(rows, stamped, values))
    assert found.purged[stamped].all()
    assert found.purged.sum() <= len(stamped) + 0.01 * len(rows)
    assert any(isinstance(finding, Contrast) for finding in found.findings)
