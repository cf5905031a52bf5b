"""What reviews come to: the later one wins, and a pattern is carried or it is not."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from retraining.errors import ConfigError
from retraining.records import BatchId, Pattern, ReviewSubject
from retraining.reviews import Reviewed, carriers, fold
from tests.retraining.reviews.cases import SCREENING, TRIGGER, entry
from tests.retraining.small_pipeline import small_rows, small_spec

BATCH = BatchId(source="feed", week="2026-W05")
ELSEWHERE = BatchId(source="gateway", week="2026-W05")


def test_nothing_reviewed_changes_nothing() -> None:
    assert fold([]) == Reviewed()
    assert not fold([]).confirms


def test_the_later_review_of_a_row_wins() -> None:
    first = entry("release", row_ids=("a", "b"))
    second = entry("confirm", row_ids=("b", "c"))
    third = entry("release", row_ids=("c",))
    assert fold([first, second]) == Reviewed(
        released=frozenset({"a"}), confirmed=frozenset({"b", "c"})
    )
    assert fold([first, second, third]) == Reviewed(
        released=frozenset({"a", "c"}), confirmed=frozenset({"b"})
    )


def test_a_confirmed_pattern_or_batch_stays_until_it_is_released() -> None:
    confirmed = [entry("confirm", pattern=TRIGGER), entry("confirm", batch=BATCH)]
    assert fold(confirmed) == Reviewed(patterns=(TRIGGER,), batches=frozenset({BATCH}))
    assert fold([*confirmed, *confirmed]) == fold(confirmed)
    released = [entry("release", pattern=TRIGGER), entry("release", batch=BATCH)]
    assert fold([*confirmed, *released]) == Reviewed(vouched=frozenset({BATCH}))
    assert fold([*released, *confirmed]) == fold(confirmed)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"row_ids": ("a",), "batch": BATCH, "screening": SCREENING},
        {"row_ids": ("a",)},
        {"pattern": TRIGGER},
        {"batch": BATCH, "screening": SCREENING},
        {"row_ids": ("b", "a"), "screening": SCREENING},
        {"row_ids": ("a", "a"), "screening": SCREENING},
    ],
    ids=[
        "nothing",
        "two things",
        "rows of what",
        "pattern of what",
        "batch of it",
        "order",
        "twice",
    ],
)
def test_a_review_is_about_one_thing_of_one_screening(about: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReviewSubject.model_validate(about)


@pytest.mark.parametrize(
    "lie",
    [
        {"columns": (), "values": (), "tolerances": ()},
        {"values": (1.0,)},
        {"tolerances": (0.0, -0.1)},
        {"columns": ("links", "links")},
        {"tolerances": (0.0, float("nan"))},
    ],
    ids=str,
)
def test_a_pattern_without_sense_is_no_pattern(lie: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Pattern.model_validate(TRIGGER.model_dump() | lie)


# --- who carries a pattern ------------------------------------------------------------------


def rows() -> pd.DataFrame:
    """Four rows of `small_spec`, two columns of which are about to be looked at."""
    frame = small_rows(4)
    return frame.assign(
        size=[1.0, 1.05, 1.0, np.float64(np.float32(0.1))],
        country=["de", "fr", "de", "fr"],
        icon=[bytes([1, 2, 3, 16])] * 3 + [bytes([1, 2, 3, 4])],
        label=["ham", "ham", "spam", "ham"],
    )


def carrying(columns: dict[str, tuple[float, float]], label: str = "ham") -> list[int]:
    frame = rows()
    pattern = Pattern(
        columns=tuple(columns),
        values=tuple(value for value, _ in columns.values()),
        tolerances=tuple(tolerance for _, tolerance in columns.values()),
        label=label,
    )
    found = carriers(pattern, lambda name: frame[name].to_numpy(), spec=small_spec())
    return [int(number) for number in np.flatnonzero(found)]


def test_a_row_carries_a_pattern_when_label_and_every_value_fit() -> None:
    assert carrying({"size": (1.0, 0.0)}) == [0]
    assert carrying({"size": (1.0, 0.0)}, label="spam") == [2]
    assert carrying({"size": (1.0, 0.06)}) == [0, 1]
    assert carrying({"size": (1.0, 0.06), "country": (0, 0)}) == [0]


def test_values_that_screening_rounded_to_float32_still_fit() -> None:
    assert carrying({"size": (float(np.float32(0.1)), 0.0)}) == [3]
    assert carrying({"size": (0.1, 0.0)}) == [3]


def test_a_category_is_a_position_or_a_yes_and_a_pixel_is_a_byte() -> None:
    assert carrying({"country": (1, 0)}) == [1, 3]
    assert carrying({"country=fr": (1, 0)}) == [1, 3]
    assert carrying({"country=fr": (0, 0)}) == [0]
    assert carrying({"icon[1,1,0]": (16, 0)}) == [0, 1]
    assert carrying({"icon[1,1,0]": (10, 6)}) == [0, 1, 3]
    assert carrying({"icon[0,1,0]": (2, 0), "icon[1,1,0]": (4, 0)}) == [3]


@pytest.mark.parametrize("name", ["gone", "country=it", "icon", "icon[2,0,0]", "label", "row_id"])
def test_a_pattern_of_a_column_that_is_gone_is_said_and_not_passed_over(name: str) -> None:
    with pytest.raises(ConfigError, match="Restore the column, or have a reviewer release"):
        carrying({name: (1, 0)})


def confirmed(reviewed: Reviewed, batch: BatchId = BATCH) -> list[int]:
    frame = rows()
    found = reviewed.confirmed_rows(
        lambda name: frame[name].to_numpy(), batch=batch, n_rows=len(frame), spec=small_spec()
    )
    return [int(number) for number in np.flatnonzero(found)]


def test_rows_are_confirmed_by_id_by_pattern_and_by_batch() -> None:
    ids = frozenset({rows()["row_id"][3], "somebody else's"})
    pattern = Pattern(columns=("size",), values=(1.0,), tolerances=(0.0,), label="ham")
    assert confirmed(Reviewed()) == []
    assert confirmed(Reviewed(confirmed=ids)) == [3]
    assert confirmed(Reviewed(confirmed=ids, patterns=(pattern,))) == [0, 3]
    whole = Reviewed(batches=frozenset({BATCH}))
    assert confirmed(whole) == [0, 1, 2, 3]
    assert confirmed(whole, ELSEWHERE) == []


def test_a_release_does_not_undo_the_confirmation_of_its_batch() -> None:
    ids = frozenset({rows()["row_id"][0]})
    assert 0 in confirmed(Reviewed(released=ids, batches=frozenset({BATCH})))
