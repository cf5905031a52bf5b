"""Rows that are no fair sample of anything: a refusal or a correct result, never a crash."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from retraining.errors import ConfigError
from retraining.screening.engine import Effort, judge_rows
from retraining.screening.rows import Columns, Rows
from retraining.screening.surrogate import boosted_trees
from tests.retraining.screening_case import batch, biopsies, flipped, screened
from tests.retraining.screening_engine.real_rows import SPAM, mails, some, week_of


def _few():
    return week_of("spam_filter", 0, (150, 300, 200))


@pytest.mark.parametrize("n_rows", [1, 3])
def test_a_batch_of_a_few_rows_is_judged(n_rows):
    week = _few()
    found = week.judged(week.batch.take(slice(0, n_rows)))
    assert found.purged.shape == (n_rows,)
    assert np.isfinite(found.order).all() and found.findings == ()


def _of_one_class(rows: Rows) -> Rows:
    return rows.take(rows.labels == SPAM)


@pytest.mark.parametrize("part", ["batch", "history"])
def test_one_class_only_is_no_poison(part):
    week = _few()
    week = replace(week, **{part: _of_one_class(getattr(week, part))})
    found = week.judged(week.batch)
    assert found.purged.mean() <= 0.03
    assert found.findings == ()


def test_constant_columns_change_nothing_but_noise():
    week = _few()

    def emptied(rows):
        return replace(
            rows, features=np.where(np.arange(rows.features.shape[1]) < 20, 0, rows.features)
        )

    found = week.judged(emptied(week.batch), emptied(week.trusted))
    assert found.purged.mean() <= 0.03
    assert found.findings == ()


@pytest.mark.parametrize("label", ["same", "mixed"])
def test_rows_that_are_all_the_same_are_judged(label):
    week = _few()
    rows = week.batch.take(np.zeros(100, dtype=np.int64))
    if label == "mixed":
        rows = replace(rows, labels=np.arange(100) % 2)
    found = week.judged(rows)
    assert np.isfinite(found.order).all()
    if label == "same":
        assert not found.purged.any()
    else:  # half of them contradict the other half: never a pattern against their true label
        assert all(finding.label != week.batch.labels[0] for finding in found.findings)


def test_trusted_rows_that_are_all_the_same_convict_nobody_silently():
    week = _few()
    same = week.reference.take(np.zeros(100, dtype=np.int64))
    trusted = replace(same, labels=np.arange(100) % 2)
    found = week.judged(week.batch, trusted)
    assert np.isfinite(found.order).all()


def test_a_category_with_a_thousand_values():
    week = _few()
    random = np.random.RandomState(0)

    def widened(rows):
        drawn = random.randint(1000, size=(len(rows), 1)).astype(np.float32)
        return replace(rows, features=np.hstack([rows.features, drawn]))

    columns = Columns.of_table([*week.columns.names, "country"])
    wide = replace(week, columns=columns)
    found = wide.judged(widened(week.batch), widened(week.trusted))
    assert found.purged.mean() <= 0.03
    assert found.findings == ()


@pytest.mark.slow
def test_two_thousand_columns_are_judged():
    week = week_of("spam_filter", 0, (200, 0, 200))

    def widened(rows, seed):
        more = 2000 - rows.features.shape[1]
        noise = np.random.RandomState(seed).normal(size=(len(rows), more)).astype(np.float32)
        return replace(rows, features=np.hstack([rows.features, noise]))

    wide = replace(week, columns=Columns.of_table([f"c{number}" for number in range(2000)]))
    found = wide.judged(widened(week.batch, 1), widened(week.reference, 2))
    assert found.purged.mean() <= 0.03


def test_one_positive_in_a_thousand():
    week = mails(0)

    def rare(rows, n):
        kept = np.flatnonzero(rows.labels != SPAM)
        return rows.take(np.sort(np.append(kept, some(rows.labels == SPAM, n))))

    found = week.judged(rare(week.batch, 1), rare(week.trusted, 2))
    assert found.purged.mean() <= 0.01
    assert found.findings == ()


def test_copies_of_reference_rows_are_no_poison():
    week = _few()
    found = judge_rows(
        Rows.joined([week.reference, week.batch]),
        week.trusted,
        columns=week.columns,
        n_classes=2,
        false_discovery_rate=0.1,
        effort=Effort(),
    )
    assert found.purged.mean() <= 0.03


def test_copies_of_reference_rows_with_another_label_are_held():
    reference = biopsies(150)
    copies = flipped(reference.assign(row_id=[f"c{n}" for n in range(150)]))
    result = screened([batch("feed", copies)], reference=reference)
    assert result.report.batches[0].refusal.code == "too_many_quarantined"


def test_a_reference_set_without_a_class_is_an_error():
    rows = biopsies(300)
    benign = rows[rows["label"] == "benign"].reset_index(drop=True)
    with pytest.raises(ConfigError, match="0 rows of class 'malignant'"):
        screened([batch("feed", biopsies(200, skip=300))], reference=benign)


class _WithoutOpenMP:
    """Stands before all finders: LightGBM's library does not load."""

    def find_spec(self, name, path=None, target=None):
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")


def test_a_machine_without_openmp_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_WithoutOpenMP(), *sys.meta_path])
    with pytest.raises(ConfigError, match="apt install libgomp1"):
        boosted_trees(seed=1)
