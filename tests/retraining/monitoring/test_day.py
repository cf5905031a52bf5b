"""One day, measured without any file: every kind of column, and models made for other columns."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from retraining.features import fit_preprocessing
from retraining.models import Model, ModelArchitecture
from retraining.monitoring import Delivered, MeasuredDay, Serving, measure_day
from retraining.records import Interval, MonitoredValue, MonitoringEntry, Refusal
from retraining.spec import DailyFiles, MonitoringPolicy, PipelineSpec, TrafficSpec
from tests.retraining.small_pipeline import small_rows, small_spec

DAY, BEFORE = "2026-02-10", "2026-02-09"
DIGEST = "sha256:" + "0" * 64
SPEC = small_spec()
TRAFFIC = TrafficSpec(
    predictions=DailyFiles(uri="{day}"), labels=DailyFiles(uri="{day}"), label_wait_days=3
)
LEARNED_FROM = small_rows(800, seed=1)


def model() -> Model:
    """Says spam where the size is above the reference's mean; the other columns count nothing."""
    preprocessing = fit_preprocessing(SPEC, LEARNED_FROM)
    kernel = np.zeros((preprocessing.n_features, 2))
    kernel[0] = (-5.0, 5.0)
    return Model(
        architecture=ModelArchitecture.of(SPEC, n_inputs=preprocessing.n_features),
        preprocessing=preprocessing,
        layers=((kernel, np.zeros(2)),),
    )


def answered(rows: pd.DataFrame, *, version: int = 2) -> pd.DataFrame:
    best = model().predict(rows).argmax(axis=1)
    return rows.assign(predicted=np.array(["ham", "spam"], dtype=object)[best], version=version)


def delivered(
    frame: pd.DataFrame, *, n_faulty: int = 0, refused: tuple[Refusal, ...] = ()
) -> Delivered:
    lines = pd.DataFrame(columns=["file", "line", "row_id", "reason"])
    return Delivered(frame=frame, n_faulty=n_faulty, faults={}, lines=lines, refused=refused)


def entry(**changes: Any) -> MonitoringEntry:
    fields = {
        "model": "small",
        "sequence": 1,
        "previous": None,
        "day": BEFORE,
        "reason": "scheduled",
        "version": 2,
        "last_labelled": BEFORE,
        "attestation": DIGEST,
        "incidents": (),
        "trust_list": DIGEST,
        "trust_version": 1,
    }
    return MonitoringEntry.model_validate(fields | changes)


def measured(
    rows: pd.DataFrame,
    *,
    spec: PipelineSpec = SPEC,
    labels: pd.DataFrame | None = None,
    earlier: pd.DataFrame | None = None,
    learned_from: pd.DataFrame = LEARNED_FROM,
    previous: MonitoringEntry | None = None,
) -> MeasuredDay:
    answers = rows.drop(columns="label")
    none = answers[["row_id", "predicted", "version"]][:0]
    labels = rows if labels is None else labels
    return measure_day(
        DAY,
        spec=spec,
        traffic=TRAFFIC,
        policy=MonitoringPolicy(),
        predictions=delivered(answers),
        earlier=none if earlier is None else earlier,
        labels=delivered(labels[["row_id", "label"]]),
        serving=Serving(
            version=2,
            known_versions=(1, 2),
            model=model(),
            learned_from=learned_from,
            promoted={"accuracy": Interval(value=0.85, low=0.8, high=0.9)},
        ),
        previous=previous,
        first_day=BEFORE,
    )


def value(day: MeasuredDay, name: str) -> MonitoredValue:
    (found,) = [item for item in day.values if item.name == name]
    return found


def breached(day: MeasuredDay) -> list[str]:
    return [item.name for item in day.values if item.state == "breached"]


def test_a_clean_day_with_every_kind_of_column_raises_nothing() -> None:
    day = measured(answered(small_rows(400, seed=2)), previous=entry())

    assert {item.state for item in day.values} == {"ok"}
    assert [item.name for item in day.values] == [
        "accuracy",
        "prediction_drift",
        *(f"feature_drift:{name}" for name in ("size", "count", "country", "icon")),
        *("unlike_champion", "other_versions", "faulty:predictions", "faulty:labels"),
        *("missing:predictions", "missing:labels"),
    ]


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("count", lambda column: column // 3),
        ("country", lambda column: column.where(column == "de", "de")),
        ("icon", lambda column: column.map(lambda pixels: bytes(16 for _ in pixels))),
    ],
)
def test_a_column_that_moves_is_named_whatever_its_kind(column: str, change: Any) -> None:
    rows = small_rows(400, seed=2)
    rows[column] = change(rows[column])

    assert breached(measured(answered(rows))) == [f"feature_drift:{column}"]


def test_a_column_that_the_champion_never_saw_is_no_drift_and_no_error() -> None:
    later = [
        *(feature.model_dump() for feature in SPEC.features),
        {"kind": "number", "name": "new", "min": 0, "max": 1},
    ]
    rows = answered(small_rows(400, seed=2)).assign(new=0.5)

    day = measured(rows, spec=small_spec(features=later))

    assert value(day, "feature_drift:new").state == "insufficient"
    assert breached(day) == []


def test_a_champion_that_needs_a_column_that_is_gone_cannot_be_asked_again() -> None:
    fewer = [feature.model_dump() for feature in SPEC.features if feature.name != "icon"]
    rows = answered(small_rows(400, seed=2)).drop(columns="icon")

    day = measured(rows, spec=small_spec(features=fewer))

    assert value(day, "unlike_champion").state == "insufficient"
    assert value(day, "feature_drift:size").state == "ok"


def test_a_label_is_about_the_newest_answer_to_its_row() -> None:
    rows = answered(small_rows(400, seed=2))
    wrong = rows[["row_id"]].assign(
        predicted=np.where(rows["label"] == "spam", "ham", "spam"), version=2
    )

    again = measured(rows, earlier=wrong)
    only_before = measured(
        rows.assign(row_id=[f"today-{n}" for n in range(400)]), labels=rows, earlier=wrong
    )

    assert value(again, "accuracy").state == "ok"
    assert value(only_before, "accuracy").measured == Interval(value=0.0, low=0.0, high=0.009512)


def test_answers_of_the_version_before_say_nothing_of_this_one() -> None:
    rows = answered(small_rows(400, seed=2))
    rows.loc[:299, "version"] = 1
    rows.loc[:299, "predicted"] = "ham"

    day = measured(rows, previous=entry(version=1))

    assert (day.n_labelled, day.set_aside) == (100, {"label_of_other_version": 300})
    assert value(day, "accuracy").n_rows == value(day, "prediction_drift").n_rows == 100
    assert value(day, "feature_drift:size").n_rows == 400  # inputs know no version
    assert value(day, "other_versions").state == "insufficient"  # promoted on this very day
    assert value(measured(rows, previous=entry()), "other_versions").state == "breached"


def test_labels_about_another_version_are_labels_all_the_same() -> None:
    rows = answered(small_rows(400, seed=2), version=1)

    day = measured(rows, previous=entry(last_labelled="2026-01-01"))

    assert (value(day, "missing:labels").state, day.last_labelled) == ("ok", DAY)


@pytest.mark.parametrize(
    ("last", "state"), [("2026-02-07", "insufficient"), ("2026-02-06", "breached")]
)
def test_labels_may_take_the_waiting_time_and_no_longer(last: str, state: str) -> None:
    rows = answered(small_rows(400, seed=2))

    day = measured(rows, labels=rows[:0], previous=entry(last_labelled=last))

    assert (value(day, "missing:labels").state, day.last_labelled) == (state, last)


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = answered(small_rows(400, seed=2))
    shuffled = rows.sample(frac=1, random_state=1).reset_index(drop=True)

    assert measured(rows).values == measured(shuffled, labels=rows[::-1]).values
