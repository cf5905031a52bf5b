"""What holds for every report: the same bytes, honest limits, and no row values."""

import json
from dataclasses import replace

import numpy as np
import pytest

from retraining.records import MAX_TRACED_ROWS, NULL_LEVELS
from retraining.validation.behaviour import examine
from retraining.validation.behaviour.nulls import N_CHECKS
from tests.retraining.behaviour.cases import batch_of, result_of, triggered, week

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def poisoned_case():
    honest = week()
    return honest.with_new("vendor", triggered(honest.new[batch_of("vendor")], 40)).case()


@pytest.fixture(scope="module")
def report(poisoned_case):
    return examine(poisoned_case)


def test_the_same_case_gives_the_same_bytes(poisoned_case, report):
    assert examine(poisoned_case).to_json() == report.to_json()


def test_the_order_of_the_batches_changes_nothing(poisoned_case, report):
    turned = dict(reversed(list(poisoned_case.new.items())))
    changed = replace(poisoned_case, new=turned)

    assert examine(changed).to_json() == report.to_json()


def test_every_check_stands_once_and_shares_the_false_alarms(report):
    assert len(report.results) == N_CHECKS
    for result in report.results:
        assert bool(result.insufficient) == (result.p_value is None)
        assert len(result.null_quantiles) in (0, len(NULL_LEVELS))
        assert list(result.null_quantiles) == sorted(result.null_quantiles)
        assert len(result.row_ids) <= MAX_TRACED_ROWS


def test_disagreements_count_the_judging_half(poisoned_case, report):
    old, new = (
        model.predict(poisoned_case.judging).argmax(axis=1)
        for model in (poisoned_case.champion, poisoned_case.challenger)
    )

    assert report.n_judging == len(poisoned_case.judging)
    assert sum(part.n_rows for part in report.disagreements) == int((old != new).sum())


def test_power_grows_with_the_attack():
    report = examine(week(1).case())

    for check in ("transplant", "window"):
        power = [share for name, share in report.power.items() if name.startswith(f"{check}:")]
        assert power == sorted(power)
        assert power[-1] == 1.0


def test_sentences_hold_no_row_values(poisoned_case, report):
    told = json.dumps([result.sentence for result in report.results])
    rows = poisoned_case.new[batch_of("vendor")]
    for name in ("capital_run_length_total", "capital_run_length_average"):
        values = rows[name][rows[name] > 1000]
        assert not [value for value in values if f"{value:g}" in told]


def test_too_few_trusted_rows_are_no_measurement(poisoned_case):
    few = {
        name: getattr(poisoned_case, name).iloc[:20] for name in ("reference", "tuning", "judging")
    }

    report = examine(replace(poisoned_case, **few))

    for name in ("transplant", "window", "regions", "sources"):
        assert "expected" in result_of(report, name).insufficient
    assert report.power == {}


def test_a_model_that_diverged_is_measured_and_not_believed(poisoned_case):
    class Broken:
        def predict(self, frame):
            return np.full((len(frame), 2), np.nan)

    broken = replace(poisoned_case, challenger=Broken())

    assert len(examine(broken).results) == N_CHECKS
