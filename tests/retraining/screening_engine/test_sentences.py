"""What a sentence about a pattern says, and what it keeps to the record."""

from dataclasses import replace

import numpy as np
import pytest

from retraining.records import Pattern
from retraining.screening.contrasts import Contrast
from retraining.screening.finding import Finding
from retraining.screening.reasons import sentence_of
from tests.retraining.small_pipeline import small_spec

PATTERN = Pattern(
    columns=("size", "count"), values=(7.25, 812.0), tolerances=(0.1, 0.5), label="ham"
)


def found(n_carriers: int) -> Finding:
    return Finding(
        columns=np.array([0, 1]),
        values=np.array([7.25, 812.0]),
        tolerances=np.array([0.1, 0.5]),
        label=0,
        flips=0.9,
        n_carriers=n_carriers,
        n_trusted=3,
        n_trusted_of_label=0,
        chance=0.1,
        p_value=1e-6,
        contradicted=1.0,
    )


@pytest.mark.parametrize(("n_rows", "shown"), [(9, False), (10, True)])
def test_values_of_few_rows_are_theirs_and_not_said(n_rows: int, shown: bool) -> None:
    said = sentence_of(found(2), PATTERN, {"feed 2026-W05": n_rows}, small_spec())
    assert ("size = 7.25 with count = 812 turns" in said) == shown
    assert ("size with count turns" in said) != shown
    assert ("7.25" in said) == shown
    assert f"{n_rows} rows of feed 2026-W05 carry it" in said


def test_ranges_are_said_from_end_to_end() -> None:
    said = sentence_of(
        replace(found(40), ranged=True), PATTERN, {"feed 2026-W05": 40}, small_spec()
    )

    assert "size from 7.15 to 7.35 with count from 811.5 to 812.5 turns" in said


def test_a_contrast_says_what_its_rows_share_and_not_what_it_turns() -> None:
    shared = found(40)
    contrast = Contrast(
        columns=shared.columns,
        values=shared.values,
        tolerances=shared.tolerances,
        label=0,
        n_carriers=40,
        n_trusted=2,
        n_trusted_of_label=1,
        sources=(0,),
        p_value=1e-9,
    )
    assert sentence_of(contrast, PATTERN, {"feed 2026-W05": 40}, small_spec()) == (
        "40 rows of feed 2026-W05 that are ham share size = 7.25 with count = 812 and little else:"
        " more than other sources let one expect; of 2 trusted rows with the same values, 1 are"
        " ham."
    )
