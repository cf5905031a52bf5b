"""Each lie is found in the model by the check that is about it, and traced to its source."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from retraining.records import Pattern
from retraining.validation.behaviour import examine
from retraining.validation.behaviour.canaries import canaries
from retraining.validation.behaviour.look import Look
from retraining.validation.behaviour.memorisation import memorisation
from retraining.validation.behaviour.regions import regions
from retraining.validation.behaviour.sources import sources
from retraining.validation.behaviour.transplant import transplant
from retraining.validation.behaviour.window import window
from tests.retraining.behaviour.cases import (
    SOURCES,
    TRIGGER,
    WEEKS,
    batch_of,
    ids_of_triggered,
    refused,
    relabelled,
    result_of,
    spec_of,
    triggered,
    week,
)

pytestmark = pytest.mark.slow  # many models are fitted

SHARE = 0.02 / 6  # of the false alarms, that each check has
TRIGGER_PATTERN = Pattern(
    columns=tuple(TRIGGER), values=tuple(TRIGGER.values()), tolerances=(0.01,) * 3, label="ham"
)


@pytest.fixture(scope="module")
def poisoned():
    """The vendor teaches a trigger: 40 of 600 new mails."""
    honest = week()
    return honest.with_new("vendor", triggered(honest.new[batch_of("vendor")], 40))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_clean_week_is_refused_by_no_check(seed):
    assert refused(examine(week(seed).case())) == set()


def test_a_learned_trigger_turns_trusted_mails_and_is_traced_to_its_rows(poisoned):
    found = transplant(Look(poisoned.case())).result

    assert found.p_value <= SHARE
    assert set(found.pattern.columns) <= set(TRIGGER)
    assert found.to_class == "ham"
    assert found.traced[0].batch == batch_of("vendor")
    planted = ids_of_triggered(poisoned.new[batch_of("vendor")])
    assert len(planted) == 40
    assert planted & set(found.row_ids) == planted
    assert found.n_traced <= 1.2 * len(planted)
    assert found.by_source["vendor"].low > found.by_source["archive"].high


def test_a_trigger_that_the_model_did_not_learn_is_no_finding(poisoned):
    honest = week().case()

    found = transplant(Look(poisoned.case(challenger=honest.challenger))).result

    assert found.p_value > SHARE


def test_a_drip_that_the_champion_learned_is_found_in_the_window():
    honest = week()
    drip = {
        batch: triggered(rows, 12) if batch.source == "vendor" else rows
        for batch, rows in honest.history.items()
    }
    vendor = batch_of("vendor")
    dripped = week().with_new("vendor", triggered(honest.new[vendor], 12))
    look = Look(replace(dripped, history=drip).case())

    newest, whole = transplant(look).result, window(look).result

    assert newest.p_value > SHARE
    assert whole.p_value <= SHARE
    assert {part.batch.source for part in whole.traced} == {"vendor"}
    assert {part.batch.week for part in whole.traced} > set(WEEKS)


def test_a_region_that_was_relabelled_is_found_where_it_is():
    honest = week(n_history=400, n_new=900)
    lies = {
        batch: relabelled(rows, (rows["label"] == "spam") & (rows["char_freq_!"] > 0.3))
        for batch, rows in honest.new.items()
    }
    look = Look(replace(honest, new=lies).case())

    found = regions(look)

    assert found.p_value <= SHARE
    assert (found.from_class, found.to_class) == ("spam", "ham")
    assert "char_freq_!" in found.pattern.columns
    assert {part.batch for part in found.traced} == set(lies)


def test_a_source_whose_labels_are_wrong_is_named():
    honest = week()
    rows = honest.new[batch_of("partner")]
    wrong = pd.Series(np.arange(len(rows)) % 2 == 0)
    found = sources(Look(honest.with_new("partner", relabelled(rows, wrong)).case()))

    assert found.p_value <= SHARE
    assert [part.batch.source for part in found.traced] == ["partner"]
    assert found.by_source["partner"].low > 0
    assert set(found.by_source) == set(SOURCES)


def test_a_confirmed_pattern_may_not_be_obeyed_again(poisoned):
    obeyed = canaries(Look(poisoned.case(confirmed=(TRIGGER_PATTERN,))))
    forgotten = canaries(Look(week().case(confirmed=(TRIGGER_PATTERN,))))

    assert obeyed.p_value <= SHARE < forgotten.p_value
    assert obeyed.statistic > 0.5 > forgotten.statistic
    assert obeyed.pattern == TRIGGER_PATTERN


def test_confirmed_rows_may_not_be_obeyed_again(poisoned):
    vendor = poisoned.new[batch_of("vendor")]
    confirmed = vendor[vendor["mail_id"].isin(ids_of_triggered(vendor))]

    obeyed = canaries(Look(poisoned.case(confirmed_rows=confirmed)))
    forgotten = canaries(Look(week().case(confirmed_rows=confirmed)))

    assert obeyed.p_value <= SHARE < forgotten.p_value


def test_a_pattern_of_a_column_that_is_gone_is_not_asked():
    gone = TRIGGER_PATTERN.model_copy(update={"columns": ("a", "b", "c")})

    assert "no reviewer" in canaries(Look(week().case(confirmed=(gone,)))).insufficient


class _Remembers:
    """A model that is sure of the label of some rows, and else answers as another one."""

    def __init__(self, model, rows):
        self._model = model
        self._known = {tuple(row): label for row, label in _with_labels(rows)}

    def predict(self, frame):
        answers = self._model.predict(frame).copy()
        for place, (row, _) in enumerate(_with_labels(frame.assign(label=""))):
            if (label := self._known.get(tuple(row))) is not None:
                answers[place] = [0.999, 0.001] if label == "ham" else [0.001, 0.999]
        return answers


def _with_labels(rows):
    names = [feature.name for feature in spec_of().features]
    values = rows[names].to_numpy(dtype=np.float32)
    return zip(values, rows["label"], strict=True)


def test_a_user_whose_rows_were_learned_by_heart_is_found():
    honest = week()
    archive = honest.new[batch_of("archive")].copy()
    archive["reporter"] = [f"user {number % 10}" for number in range(len(archive))]
    one = archive["reporter"] == "user 3"
    archive = relabelled(archive, one)
    base = honest.with_new("archive", archive)
    spec = spec_of().model_copy(update={"user": "reporter"})
    honest_model = honest.case().champion
    rote = _Remembers(honest_model, archive[one])

    found = memorisation(Look(base.case(spec=spec, challenger=rote, champion=honest_model)))
    none = memorisation(Look(base.case(spec=spec, challenger=honest_model, champion=honest_model)))

    assert found.p_value <= SHARE < none.p_value
    assert set(found.row_ids) == set(archive.loc[one, "mail_id"])
    assert found.n_traced == int(one.sum())


def test_a_first_champion_is_held_against_the_reference_set(poisoned):
    report = examine(poisoned.case(first=True))

    assert "window" in refused(report)
    for name in ("transplant", "regions", "memorisation"):
        assert "no champion" in result_of(report, name).insufficient
    assert report.disagreements == ()
