"""Promises of validation: right numbers, honest intervals, paired, the same everywhere."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from retraining.digests import Digest
from retraining.errors import ConfigError, SpecError
from retraining.spec import Slice, parse_spec
from retraining.validation import rows_of, validate
from retraining.validation.bootstrap import interval, intervals, resampled_metrics
from retraining.validation.metrics import answers_of, reliability, weighted_metrics

_ROOT = Path(__file__).parents[2]
_TWO = {"column": "label", "classes": ["ham", "spam"], "positive": "spam"}


def _spec(*, label=None, slices=(), resamples=400):
    digest = "sha256:" + "0" * 64
    return parse_spec(
        {
            "model": "small",
            "description": "For tests.",
            "owner": "tests@example.org",
            "label": label or _TWO,
            "row_id": "row_id",
            "features": [
                {"kind": "number", "name": "size", "min": 0, "max": 10},
                {"kind": "category", "name": "country", "categories": ["de", "fr"]},
            ],
            "sources": [{"name": "a", "uri": "{week}", "trust": "known", "signature": "none"}],
            "reference": {"uri": "r", "digest": digest},
            "holdout": {"uri": "h", "digest": digest},
            "training": {
                "architecture": {"kind": "linear"},
                "epsilon_per_run": 1,
                "epsilon_per_block": 1,
                "delta": 1e-5,
                "expected_batch_rows": 8,
                "epochs": 1,
                "learning_rate": 0.1,
            },
            "gate": {
                "limits": {"accuracy": {"min": 0.5}},
                "slices": list(slices),
                "bootstrap_resamples": resamples,
            },
        },
        origin="small.yaml",
    )


def _case(n_rows=600, *, seed=0, skill=1.5, n_classes=2):
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n_rows)
    frame = pd.DataFrame(
        {
            "row_id": [f"r{i}" for i in range(n_rows)],
            "size": random.integers(0, 11, n_rows).astype(float),
            "country": random.choice(["de", "fr"], n_rows),
            "label": labels.astype(str),
        }
    )

    def answers(skill, seed):
        logits = np.random.default_rng(seed).normal(size=(n_rows, n_classes))
        logits[np.arange(n_rows), labels] += skill
        weights = np.exp(np.round(logits, 1))  # rounded, so that scores tie
        return weights / weights.sum(axis=1, keepdims=True)

    return frame, labels, answers(skill, 1), answers(skill, 2)


def _validated(frame, labels, challenger, champion, spec):
    return validate(
        frame,
        labels,
        challenger=challenger,
        champion=champion,
        spec=spec,
        holdout_digest=Digest.of(b"holdout"),
        challenger_digest=Digest.of(b"challenger"),
        champion_digest=None if champion is None else Digest.of(b"champion"),
    )


# --- the numbers ----------------------------------------------------------------------------


def test_metrics_are_those_of_scikit_learn():
    _, labels, table, _ = _case()
    found = weighted_metrics(answers_of(labels, table, positive=1), np.ones((1, 600)))
    said = table.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(labels, said),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, said),
        "precision": sk.precision_score(labels, said),
        "recall": sk.recall_score(labels, said),
        "f1": sk.f1_score(labels, said),
        "auc": sk.roc_auc_score(labels, table[:, 1]),
    }
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-12), name


def test_counting_a_row_three_times_is_the_same_as_having_it_three_times():
    _, labels, table, _ = _case(200)
    counts = np.random.default_rng(0).integers(0, 4, 200)
    weighted = weighted_metrics(
        answers_of(labels, table, positive=1), counts[None, :].astype(float)
    )
    repeated = np.repeat(np.arange(200), counts)
    plain = weighted_metrics(
        answers_of(labels[repeated], table[repeated], positive=1), np.ones((1, len(repeated)))
    )
    assert weighted.keys() == plain.keys()
    for name, value in plain.items():
        assert weighted[name][0] == pytest.approx(value[0], abs=1e-12), name


def test_calibration_error_is_the_gap_between_confidence_and_truth():
    labels = np.repeat([1, 0], [60, 40]).astype(np.int64)
    table = np.tile([0.1, 0.9], (100, 1))  # 90% sure, 60% right
    answers = answers_of(labels, table, positive=1)
    found = weighted_metrics(answers, np.ones((1, 100)))["calibration_error"][0]
    assert found == pytest.approx(0.3)
    assert reliability(answers) == ((0.9, 0.6, 100),)


def test_more_than_two_classes_are_measured_by_what_makes_sense_there():
    frame, labels, challenger, champion = _case(n_classes=4)
    label = {"column": "label", "classes": ["0", "1", "2", "3"]}
    report = _validated(frame, labels, challenger, champion, _spec(label=label))
    assert set(report.slices[0].challenger) == {
        "accuracy",
        "balanced_accuracy",
        "calibration_error",
    }


def test_a_model_that_answers_nan_looks_worse_than_any_other():
    frame, labels, challenger, _ = _case()
    broken = np.full_like(challenger, np.nan)
    measured = _validated(frame, labels, broken, None, _spec()).slices[0].challenger
    assert measured["accuracy"].high == 0
    assert measured["auc"].high == 0
    assert measured["calibration_error"].low == 1


def test_a_model_that_never_says_the_class_has_no_precision():
    frame, labels, _, _ = _case()
    never = np.tile([0.9, 0.1], (600, 1))
    measured = _validated(frame, labels, never, None, _spec()).slices[0].challenger
    assert measured["precision"].high == 0 and measured["recall"].high == 0


# --- the intervals --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "recall", "auc"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(metric):
    truth = None
    covered = 0
    trials = 150
    random = np.random.default_rng(0)

    def draw(n_rows):
        labels = random.integers(0, 2, n_rows)
        score = 1 / (1 + np.exp(-(random.normal(size=n_rows) + 1.5 * labels - 0.75)))
        return answers_of(labels, np.c_[1 - score, score], positive=1)

    truth = weighted_metrics(draw(200_000), np.ones((1, 200_000)))[metric][0]
    for _ in range(trials):
        answers = draw(400)
        value = {k: float(v[0]) for k, v in weighted_metrics(answers, np.ones((1, 400))).items()}
        (samples,) = resampled_metrics([answers], n_resamples=300)
        found = intervals(value, samples, confidence=0.95)[metric]
        covered += found.low <= truth <= found.high
    assert 0.88 <= covered / trials <= 0.99


def test_the_difference_is_paired():
    frame, labels, challenger, _ = _case()
    twin = challenger.copy()
    twin[:3] = twin[:3, ::-1]  # three rows answered the other way round
    part = _validated(frame, labels, challenger, twin, _spec()).slices[0]
    alone = part.challenger["accuracy"].high - part.challenger["accuracy"].low
    paired = part.difference["accuracy"].high - part.difference["accuracy"].low
    assert paired < alone / 4


def test_a_model_compared_with_itself_differs_by_nothing():
    frame, labels, challenger, _ = _case()
    part = _validated(frame, labels, challenger, challenger, _spec()).slices[0]
    assert {(i.value, i.low, i.high) for i in part.difference.values()} == {(0.0, 0.0, 0.0)}
    assert all(math.copysign(1, i.low) == 1 for i in part.difference.values())


def test_every_value_lies_inside_its_interval():
    part = _validated(*_case(), _spec()).slices[0]
    for found in (part.challenger, part.champion, part.difference):
        assert len(found) == 7
        assert all(i.low <= i.value <= i.high for i in found.values())


def test_a_resample_without_a_class_says_nothing_and_breaks_nothing():
    labels = np.r_[np.ones(10, dtype=np.int64), np.zeros(300, dtype=np.int64)]
    table = np.c_[1 - labels * 0.8 - 0.1, labels * 0.8 + 0.1]
    counts = np.ones((2, 310))
    counts[1, :10] = 0
    found = weighted_metrics(answers_of(labels, table, positive=1), counts)
    for name in ("precision", "recall", "f1", "auc"):
        assert found[name][0] == 1 and np.isnan(found[name][1]), name
    assert found["balanced_accuracy"].tolist() == [1, 1]


def test_resamples_without_a_value_are_left_out_of_the_interval():
    found = interval(0.5, np.array([0.4, 0.5, 0.6, np.nan]), confidence=0.9)
    assert (found.low, found.high) == (0.41, 0.59)


def test_there_is_one_zero():
    found = interval(-1e-9, np.array([-1e-9, -1e-9]), confidence=0.9)
    assert [math.copysign(1, end) for end in (found.value, found.low, found.high)] == [1, 1, 1]


def test_the_calibration_error_of_a_calibrated_model_lies_in_the_middle_of_its_interval():
    frame, labels, _, _ = _case()
    sure = np.random.default_rng(0).uniform(0, 1, 600)
    labels[:] = np.random.default_rng(1).uniform(size=600) < sure
    part = _validated(frame, labels, np.c_[1 - sure, sure], None, _spec()).slices[0]
    found = part.challenger["calibration_error"]
    below, above = found.value - found.low, found.high - found.value
    assert 0.4 < below / (below + above) < 0.6


def test_a_class_with_a_handful_of_rows_gives_no_interval_to_decide_on():
    frame, labels, challenger, _ = _case()
    labels[:] = 0
    labels[:9] = 1
    found = _validated(frame, labels, challenger, None, _spec()).slices[0].challenger
    assert set(found) == {"accuracy", "calibration_error"}


# --- slices ---------------------------------------------------------------------------------


def test_slices_are_the_declared_rows():
    frame, labels, challenger, champion = _case()
    slices = [
        {"name": "large", "column": "size", "min": 5},
        {"name": "french", "column": "country", "one_of": ["fr"]},
        {"name": "nobody", "column": "size", "min": 99},
    ]
    report = _validated(frame, labels, challenger, champion, _spec(slices=slices))
    by_name = {part.slice: part for part in report.slices}
    assert list(by_name) == ["all", "large", "french", "nobody"]
    assert by_name["large"].n_rows == (frame["size"] >= 5).sum()
    assert by_name["nobody"].n_rows == 0 and not by_name["nobody"].challenger
    french = (frame["country"] == "fr").to_numpy()
    right = (challenger.argmax(axis=1) == labels)[french].mean()
    assert by_name["french"].challenger["accuracy"].value == pytest.approx(right, abs=1e-6)


def test_a_range_includes_both_its_ends():
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0]})
    part = Slice(name="middle", column="size", min=2, max=3)
    assert rows_of(frame, part).tolist() == [False, True, True, False]
    listed = Slice(name="listed", column="size", one_of=("1", "4.0"))
    assert rows_of(frame, listed).tolist() == [True, False, False, True]


def test_a_range_of_words_is_an_error_that_names_the_slice():
    with pytest.raises(SpecError, match=r"middle.*'country'"):
        rows_of(pd.DataFrame({"country": ["de"]}), Slice(name="middle", column="country", min=1))


def test_answers_for_other_rows_are_an_error():
    frame, labels, challenger, _ = _case()
    with pytest.raises(ConfigError, match="600 holdout rows"):
        _validated(frame, labels, challenger[:-1], None, _spec())


# --- the same everywhere --------------------------------------------------------------------


@pytest.mark.slow
def test_the_report_is_the_same_in_every_process_and_with_any_number_of_threads():
    found = {
        subprocess.run(
            [sys.executable, "-m", "tests.retraining.test_validation"],
            cwd=_ROOT,
            env=os.environ | {"OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in ("1", "2")
    }
    assert found == {f"{_validated(*_case(), _spec()).identity}\n"}


def test_resampling_in_small_chunks_changes_nothing(monkeypatch):
    whole = _validated(*_case(), _spec())
    monkeypatch.setattr("retraining.validation.bootstrap._MAX_CELLS", 7 * 600)
    assert _validated(*_case(), _spec()) == whole


if __name__ == "__main__":
    print(_validated(*_case(), _spec()).identity)
