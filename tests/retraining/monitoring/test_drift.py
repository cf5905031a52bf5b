"""Drift: how large a change is, and what noise alone must not be called."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from retraining.monitoring.drift import (
    MAX_ROWS,
    brightness,
    class_drift,
    feature_drift,
    number_drift,
    thinned,
)
from retraining.spec import CategoryFeature, ImageFeature, NumberFeature

CONFIDENCE = 0.95
SIZE = NumberFeature(kind="number", name="size", min=0, max=10)
COUNTRY = CategoryFeature(kind="category", name="country", categories=("de", "fr", "it"))
ICON = ImageFeature(kind="image", name="icon", height=2, width=2, max_value=16)


def column(values: Any) -> "pd.Series[Any]":
    return pd.Series(values)


def test_the_distance_of_numbers_is_kolmogorov_and_smirnovs() -> None:
    random = np.random.default_rng(1)
    # Rounded, so that values stand several times in both.
    day, baseline = random.normal(0.5, 1, 300).round(1), random.normal(0, 1, 700).round(1)

    found = number_drift(day, baseline, confidence=CONFIDENCE)

    assert found.value == pytest.approx(stats.ks_2samp(day, baseline).statistic, abs=1e-6)


def test_the_distance_of_classes_is_half_the_difference_of_their_shares() -> None:
    found = class_drift(
        np.array([0] * 50 + [1] * 50), np.array([0] * 80 + [2] * 20), 3, confidence=CONFIDENCE
    )

    assert found.value == 0.5
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("n_rows", [100, 1000])
def test_a_clean_day_is_never_called_drift(n_rows: int) -> None:
    random = np.random.default_rng(2)
    baseline = random.normal(0, 1, 2000), random.integers(0, 10, 2000)

    lows = [
        (
            number_drift(random.normal(0, 1, n_rows), baseline[0], confidence=CONFIDENCE).low,
            class_drift(random.integers(0, 10, n_rows), baseline[1], 10, confidence=CONFIDENCE).low,
        )
        for _ in range(200)
    ]

    # Five false alarms in a hundred would be allowed even against a limit of 0.
    assert np.mean(np.array(lows) > 0, axis=0) == pytest.approx([0, 0], abs=0.05)
    assert np.max(lows) < 0.05


def test_a_large_change_is_seen_on_a_small_day() -> None:
    random = np.random.default_rng(3)
    baseline = random.normal(0, 1, 2000)

    assert number_drift(random.normal(2, 1, 100), baseline, confidence=CONFIDENCE).low > 0.25


def test_the_interval_narrows_with_rows() -> None:
    random = np.random.default_rng(4)
    widths = []
    for n in (100, 10_000):
        found = number_drift(random.normal(2, 1, n), random.normal(0, 1, n), confidence=CONFIDENCE)
        widths.append(found.high - found.low)

    assert widths[1] < widths[0] / 2


def test_each_kind_of_column_is_compared_in_its_own_way() -> None:
    day = {
        SIZE: column([5.0] * 400),
        COUNTRY: column(["de"] * 400),
        ICON: column([bytes([16, 16, 0, 0])] * 400),
    }
    baseline = {
        SIZE: column([1.0] * 400),
        COUNTRY: column(["de", "fr"] * 200),
        ICON: column([bytes([4, 4, 0, 0]), bytes([16, 0, 16, 0])] * 200),
    }

    found = {
        feature.name: feature_drift(
            feature, day[feature], baseline[feature], confidence=CONFIDENCE
        ).value
        for feature in day
    }

    assert found == {"size": 1.0, "country": 0.5, "icon": 0.5}


def test_a_category_that_is_declared_no_longer_counts_as_one_more() -> None:
    found = feature_drift(
        COUNTRY, column(["de"] * 100), column(["de", "es"] * 50), confidence=CONFIDENCE
    )

    assert found.value == 0.5


def test_brightness_is_a_share_of_the_largest_value() -> None:
    images = column([bytes([16] * 4), bytes([0, 0, 0, 8])])

    assert brightness(images, ICON).tolist() == [1.0, 0.125]


def test_a_thousand_classes_on_a_small_day_are_no_error_and_no_alarm() -> None:
    random = np.random.default_rng(5)

    found = class_drift(
        random.integers(0, 1000, 100), random.integers(0, 1000, 100), 1000, confidence=CONFIDENCE
    )

    assert found.low == 0.0


def test_many_rows_are_thinned_evenly_and_always_in_the_same_way() -> None:
    frame = pd.DataFrame({"at": np.arange(3 * MAX_ROWS)})

    chosen = thinned(frame)

    assert len(chosen) == MAX_ROWS
    assert (chosen["at"].iloc[0], chosen["at"].iloc[-1]) == (0, 3 * MAX_ROWS - 1)
    assert chosen["at"].diff().dropna().between(2, 4).all()
    assert len(thinned(frame[:MAX_ROWS])) == MAX_ROWS
