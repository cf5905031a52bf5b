"""Preprocessing: what may feed it, and that a row's numbers are its own."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retraining.errors import BatchRefusedError, ConfigError, EvidenceError
from retraining.features import Preprocessing, fit_preprocessing, labels_of
from retraining.records import Record
from tests.retraining.small_pipeline import small_rows, small_spec

SPEC = small_spec()
REFERENCE = small_rows(200)
FITTED = fit_preprocessing(SPEC, REFERENCE)


def test_preprocessing_is_stored_in_exactly_these_bytes() -> None:
    reference = pd.DataFrame(
        {
            "size": [1.0, 3.0],
            "count": [0, 999],
            "country": ["de", "de"],
            "icon": [bytes([0, 0, 0, 0]), bytes([16, 16, 8, 8])],
        }
    )

    golden = (
        b'{"features":['
        b'{"deviation":1.0,"kind":"number","max":10.0,"max_deviations":2.0,"mean":2.0,'
        b'"min":-10.0,"name":"size","scale":"linear"},'
        b'{"deviation":3.45387764,"kind":"number","max":1000.0,"max_deviations":2.0,'
        b'"mean":3.45387764,"min":0.0,"name":"count","scale":"log"},'
        b'{"categories":["de","fr"],"kind":"category","name":"country"},'
        b'{"channels":1,"height":2,"kind":"image","max_value":16,"mean":0.375,"name":"icon",'
        b'"width":2}]}'
    )
    fitted = fit_preprocessing(SPEC, reference)

    assert fitted.to_json() == golden
    assert Preprocessing.from_json(golden) == fitted
    assert issubclass(Preprocessing, Record)


def test_each_kind_of_feature_is_encoded_as_documented() -> None:
    fitted = Preprocessing.from_json(
        json.dumps(
            {
                "features": [
                    {"kind": "number", "name": "a", "min": 0, "max": 10, "scale": "linear"}
                    | {"mean": 4, "deviation": 2, "max_deviations": 5},
                    {"kind": "number", "name": "b", "min": 1, "max": 100, "scale": "log"}
                    | {"mean": 0, "deviation": 0.5, "max_deviations": 5},
                    {"kind": "category", "name": "c", "categories": ["x", "y", "7"]},
                    {"kind": "image", "name": "d", "height": 1, "width": 2, "channels": 1}
                    | {"max_value": 200, "mean": 0.5},
                ]
            }
        ).encode()
    )
    rows = pd.DataFrame(
        {
            "a": [5, 99, -99],
            "b": [1.0, 3.0, 1e9],
            "c": pd.Series(["y", "x", 7], dtype=object),
            "d": [bytes([0, 200]), bytes([100, 255]), bytes([50, 150])],
        }
    )

    encoded = fitted.encode(rows)

    expected = [
        [0.5, 0, 0, 1, 0, -0.5, 0.5],
        [3, 2 * np.log(3), 1, 0, 0, 0, 0.5],
        # -99 is cut at the bound 0; 1e9 at the bound, then at five deviations.
        [-2, 5, 0, 0, 1, -0.25, 0.25],
    ]
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded, expected, rtol=1e-6)
    assert fitted.n_features == len(fitted.feature_names) == 7
    assert fitted.feature_names == ("a", "b", "c=x", "c=y", "c=7", "d[0,0,0]", "d[0,1,0]")


@given(
    st.lists(st.integers(0, 199), min_size=1, max_size=30),
    st.floats(-1e300, 1e300),
)
def test_a_row_is_encoded_the_same_whatever_rows_surround_it(
    neighbours: list[int], extreme: float
) -> None:
    alone = FITTED.encode(REFERENCE.head(1))
    crowd = REFERENCE.iloc[[0, *neighbours]].copy()
    crowd.iloc[1:, crowd.columns.get_loc("size")] = extreme

    assert np.array_equal(FITTED.encode(crowd)[:1], alone)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1e308))
def test_no_value_leaves_the_bounded_range(size: float, count: float) -> None:
    rows = REFERENCE.head(1).assign(size=size, count=count)

    assert np.abs(FITTED.encode(rows)).max() <= 5


def test_a_column_that_does_not_vary_in_the_reference_set_is_not_blown_up() -> None:
    fitted = fit_preprocessing(SPEC, REFERENCE.assign(size=1.0))

    moved = fitted.encode(REFERENCE.head(2).assign(size=[1.0, 1.2]))[:, 0]

    # The floor is a hundredth of the range of 20, so 0.2 is one deviation.
    np.testing.assert_allclose(moved, [0, 1], atol=1e-6)


def test_statistics_are_the_same_for_any_order_of_the_reference_set() -> None:
    shuffled = REFERENCE.sample(frac=1, random_state=1)

    assert fit_preprocessing(SPEC, shuffled).to_json() == FITTED.to_json()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("size", float("nan")),
        ("size", float("inf")),
        ("size", "many"),
        ("size", None),
        ("country", "atlantis"),
        ("country", None),
        ("icon", b"abc"),
        ("icon", b"abcde"),
        ("icon", None),
        ("icon", "abcd"),
        ("label", "eggs"),
        ("label", None),
    ],
)
def test_a_value_that_was_not_declared_is_refused_with_a_count_and_never_shown(
    column: str, value: object
) -> None:
    rows = REFERENCE.head(3).astype({column: object})
    rows.iat[1, rows.columns.get_loc(column)] = value

    with pytest.raises(BatchRefusedError, match=f"'{column}': 1 of 3 values") as caught:
        FITTED.encode(rows)
        labels_of(rows, SPEC)

    assert caught.value.code == "value_fault"
    assert value is None or str(value) not in str(caught.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(BatchRefusedError, match="icon"):
        FITTED.encode(REFERENCE.drop(columns="icon"))
    with pytest.raises(BatchRefusedError, match="label"):
        labels_of(REFERENCE.drop(columns="label"), SPEC)


def test_a_reference_set_that_cannot_scale_is_a_configuration_error() -> None:
    for broken in (
        REFERENCE.head(0),
        REFERENCE.drop(columns="size"),
        REFERENCE.assign(size=float("nan")),
        REFERENCE.assign(country="es"),
        REFERENCE.assign(icon=b""),
    ):
        with pytest.raises(ConfigError, match="reference set of small"):
            fit_preprocessing(SPEC, broken)


def test_labels_are_positions_in_the_declared_order_also_for_numbers() -> None:
    spec = small_spec(classes=("1", "0"))
    rows = pd.DataFrame({"label": [0, 1, 1]})

    assert labels_of(rows, spec).tolist() == [1, 0, 0]
    assert labels_of(rows, spec).dtype == np.int64


@pytest.mark.parametrize("dtype", ["object", "string", "category", "str"])
def test_text_is_understood_in_every_form_pandas_has(dtype: str) -> None:
    rows = REFERENCE.astype({"country": dtype, "label": dtype})

    assert np.array_equal(FITTED.encode(rows), FITTED.encode(REFERENCE))
    assert np.array_equal(labels_of(rows, SPEC), labels_of(REFERENCE, SPEC))


@pytest.mark.parametrize("dtype", ["object", "string", "category", "str"])
def test_a_missing_value_is_none_of_the_categories_even_if_one_is_called_nan(dtype: str) -> None:
    spec = small_spec(classes=("nan", "None", "<NA>"))

    with pytest.raises(BatchRefusedError, match="2 of 3 values"):
        labels_of(pd.DataFrame({"label": pd.Series(["nan", None, np.nan], dtype=dtype)}), spec)


def test_no_rows_are_no_rows() -> None:
    assert FITTED.encode(REFERENCE.head(0)).shape == (0, FITTED.n_features)
    assert labels_of(REFERENCE.head(0), SPEC).shape == (0,)


@pytest.mark.parametrize(
    "change",
    [
        {"deviation": 0},
        {"max_deviations": 0},
        {"mean": float("nan")},
        {"kind": "pickle"},
        {"extra": 1},
        {"max": "NaN"},
    ],
)
def test_preprocessing_from_a_stranger_is_refused(change: dict[str, object]) -> None:
    raw = json.loads(FITTED.to_json())
    raw["features"][0] |= change

    with pytest.raises(EvidenceError):
        Preprocessing.from_json(json.dumps(raw).encode())
