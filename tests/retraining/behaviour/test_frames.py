"""What is written as a frame reads back as the same numbers, and is always deliverable."""

import numpy as np
import pandas as pd

from retraining.screening.rows import RowReader
from retraining.spec import parse_spec
from retraining.validation.behaviour.frames import FrameWriter
from tests.retraining.behaviour.cases import INCLUDE, spec_of, week
from tests.retraining.screening_case import biopsy_spec


def _with_features(*features):
    spec = biopsy_spec().model_dump(mode="json") | {"features": list(features)}
    return parse_spec(spec, origin="test")


NUMBER = {"kind": "number", "name": "size", "min": -1, "max": 3}
COLOUR = {"kind": "category", "name": "colour", "categories": ["red", "green", "blue"]}
PICTURE = {"kind": "image", "name": "scan", "height": 2, "width": 2, "max_value": 16}


def test_mails_read_back_as_they_were_written():
    rows = RowReader(spec_of()).read(week().judging)

    frame = FrameWriter(spec_of()).frame(rows.features)
    again = RowReader(spec_of()).read(frame.assign(label="ham", mail_id="m"))

    assert (again.features == rows.features).all()


def test_scans_read_back_as_they_were_written():
    spec = spec_of("digit_reader")
    scans = pd.read_parquet(INCLUDE / "demo" / "data" / "digit_reader" / "holdout.parquet")
    rows = RowReader(spec).read(scans)

    frame = FrameWriter(spec).frame(rows.features)

    assert list(frame["pixels"]) == list(scans["pixels"])


def test_categories_and_numbers_read_back_beside_a_picture_and_without_one():
    rows = pd.DataFrame(
        {
            "size": [-1.0, 0.5, 3.0],
            "colour": ["blue", "red", "green"],
            "scan": [bytes([0, 1, 2, 16])] * 3,
            "label": ["benign"] * 3,
            "row_id": ["a", "b", "c"],
        }
    )
    for features in ((NUMBER, COLOUR), (NUMBER, COLOUR, PICTURE)):
        spec = _with_features(*features)
        frame = FrameWriter(spec).frame(RowReader(spec).read(rows).features)
        names = [feature["name"] for feature in features]
        pd.testing.assert_frame_equal(frame.astype({"colour": str}), rows[names], check_dtype=False)


def test_values_beyond_what_is_declared_are_cut_to_it():
    spec = _with_features(NUMBER, COLOUR)

    frame = FrameWriter(spec).frame(np.array([[9.0, 7.0], [-9.0, -2.0]], dtype=np.float32))

    assert list(frame["size"]) == [3.0, -1.0]
    assert list(frame["colour"]) == ["blue", "red"]
