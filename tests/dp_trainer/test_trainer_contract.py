import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dp_trainer
from dp_trainer.contract import (
    Architecture,
    ContractError,
    DpSettings,
    TrainingRequest,
    TrainingResult,
)

REQUEST = {
    "schema": 1,
    "features": "features.npy",
    "labels": "labels.npy",
    "probe": "probe.npy",
    "n_classes": 3,
    "architecture": {"kind": "mlp", "hidden_units": [64, 32], "activation": "tanh"},
    "dp": {
        "l2_clip_norm": 1.0,
        "noise_multiplier": 1.1,
        "expected_batch_size": 256,
        "steps": 120,
    },
    "steps_per_epoch": 8,
    "learning_rate": 0.01,
    "threads": 2,
}
RESULT = {
    "schema": 1,
    "weights": "weights.safetensors",
    "probe_probabilities": "probe_probabilities.npy",
    "steps": 120,
    "noise_multiplier": 1.1,
    "l2_clip_norm": 1.0,
    "expected_batch_size": 256,
    "rows": 2000,
    "versions": {"tensorflow": "2.15.1", "tensorflow_privacy": "0.9.0"},
}


def changed(document: dict, path: str, value: object) -> str:
    """JSON of the document with the member at `path` set (a.b reaches into a)."""
    copy = json.loads(json.dumps(document))
    *parents, last = path.split(".")
    target = copy
    for parent in parents:
        target = target[parent]
    target[last] = value
    return json.dumps(copy)


def test_the_contract_of_the_documentation_parses_and_comes_back_the_same():
    request = TrainingRequest.from_json(json.dumps(REQUEST))
    result = TrainingResult.from_json(json.dumps(RESULT))

    assert json.loads(request.to_json()) == REQUEST | {"optimizer": "adam"}
    assert json.loads(result.to_json()) == RESULT
    assert TrainingRequest.from_json(request.to_json()) == request
    assert TrainingResult.from_json(result.to_json().encode()) == result


def test_a_linear_model_has_no_hidden_fields():
    text = changed(REQUEST, "architecture", {"kind": "linear"})
    request = TrainingRequest.from_json(text)

    assert request.architecture == Architecture(kind="linear")
    assert json.loads(request.to_json())["architecture"] == {"kind": "linear"}


def test_weight_shapes_name_every_layer_in_order():
    shapes = TrainingRequest.from_json(json.dumps(REQUEST)).architecture.weight_shapes(
        n_features=57, n_classes=3
    )

    assert list(shapes.items()) == [
        ("dense_0/kernel", (57, 64)),
        ("dense_0/bias", (64,)),
        ("dense_1/kernel", (64, 32)),
        ("dense_1/bias", (32,)),
        ("dense_2/kernel", (32, 3)),
        ("dense_2/bias", (3,)),
    ]


BAD_MEMBERS = [
    # what a known seed or another mechanism would break
    ("seed", 7, "unknown key 'seed'"),
    ("dp.seed", 7, "unknown key 'seed'"),
    ("dp.num_microbatches", 1, "unknown key 'num_microbatches'"),
    ("dp.microbatches", None, "unknown key 'microbatches'"),
    ("dp.shuffle", True, "unknown key 'shuffle'"),
    ("dp.epsilon", 4.0, "unknown key 'epsilon'"),
    ("dp.noise_multiplier", 0, "noise_multiplier must be a number above 0"),
    ("dp.noise_multiplier", -1.1, "noise_multiplier must be a number above 0"),
    ("dp.noise_multiplier", "1.1", "noise_multiplier must be a number"),
    ("dp.noise_multiplier", True, "noise_multiplier must be a number"),
    ("dp.noise_multiplier", None, "noise_multiplier must be a number"),
    ("dp.l2_clip_norm", 0.0, "l2_clip_norm must be a number above 0"),
    ("dp.l2_clip_norm", 1e30, "l2_clip_norm must be a number above 0 and at most"),
    ("dp.l2_clip_norm", 10**400, "l2_clip_norm must be a number above 0 and at most"),
    ("dp.expected_batch_size", 0, "expected_batch_size must be an integer"),
    ("dp.expected_batch_size", 25.5, "expected_batch_size must be an integer"),
    ("dp.expected_batch_size", True, "expected_batch_size must be an integer"),
    ("dp.steps", 0, "steps must be an integer"),
    ("dp.steps", 10**9, "steps must be an integer"),
    ("dp", [], "dp must be a JSON object"),
    # names that leave the folder
    ("features", "../features.npy", "features must be a plain file name"),
    ("features", "/etc/passwd", "features must be a plain file name"),
    ("labels", "sub/labels.npy", "labels must be a plain file name"),
    ("labels", "..", "labels must be a plain file name"),
    ("labels", "", "labels must be a plain file name"),
    ("labels", "labels.npy\n", "labels must be a plain file name"),
    ("probe", ".probe.npy", "probe must be a plain file name"),
    ("probe", "probe\x00.npy", "probe must be a plain file name"),
    ("probe", "p" * 101, "probe must be a plain file name"),
    ("probe", 3, "probe must be a plain file name"),
    ("probe", "features.npy", "must name three files"),
    ("probe", "weights.safetensors", "must name three files"),
    # the model
    ("architecture", {"kind": "cnn"}, "kind must be one of linear, mlp"),
    ("architecture", {"kind": "linear", "hidden_units": [4]}, "takes neither"),
    ("architecture", {"kind": "linear", "activation": "tanh"}, "takes neither"),
    ("architecture", {"kind": "mlp"}, "activation must be one of"),
    ("architecture", "mlp", "architecture must be a JSON object"),
    ("architecture.layers", [], "unknown key 'layers'"),
    ("architecture.activation", "lambda x: x", "activation must be one of tanh, relu"),
    ("architecture.activation", ["tanh"], "activation must be one of tanh, relu"),
    ("architecture.hidden_units", [], "must list 1 to 8"),
    ("architecture.hidden_units", [8] * 9, "must list 1 to 8"),
    ("architecture.hidden_units", [0], r"hidden_units\[0\] must be an integer"),
    ("architecture.hidden_units", [8, 1e9], r"hidden_units\[1\] must be an integer"),
    ("architecture.hidden_units", 64, "must be a list"),
    # the rest
    ("schema", 2, "has schema 2, this side reads 1"),
    ("schema", 1.0, "has schema 1.0"),
    ("schema", True, "has schema True"),
    ("n_classes", 1, "n_classes must be an integer from 2"),
    ("steps_per_epoch", 0, "steps_per_epoch must be an integer"),
    ("learning_rate", 0, "learning_rate must be a number above 0"),
    ("learning_rate", 101, "learning_rate must be a number above 0 and at most 100"),
    ("threads", 0, "threads must be an integer"),
    ("threads", 100_000, "threads must be an integer"),
    ("optimizer", "lamb", "optimizer must be one of adam, sgd"),
    ("optimizer", None, "optimizer must be one of adam, sgd"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_MEMBERS)
def test_a_tampered_request_is_refused(path, value, message):
    with pytest.raises(ContractError, match=message):
        TrainingRequest.from_json(changed(REQUEST, path, value))


@pytest.mark.parametrize("key", sorted(set(REQUEST) - {"architecture", "dp"}))
def test_a_request_that_lacks_a_key_is_refused(key):
    text = json.dumps({name: value for name, value in REQUEST.items() if name != key})

    with pytest.raises(ContractError, match=f"The request lacks the key '{key}'"):
        TrainingRequest.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        (b"\xff\xfe", "not valid JSON"),
        ("[" * 50_000, "not valid JSON"),
        ('{"schema": 1, "schema": 1}', "the same key twice"),
        (json.dumps(REQUEST)[:-1] + ', "threads": 1}', "the same key twice"),
        (json.dumps(REQUEST).replace("1.1", "NaN"), "NaN is not a number"),
        (json.dumps(REQUEST).replace("1.1", "-Infinity"), "-Infinity is not a number"),
        (json.dumps(REQUEST).replace("1.1", "1e999"), "noise_multiplier must be a number"),
        (json.dumps(REQUEST).replace("120", "9" * 5000), "not valid JSON"),
        (json.dumps(REQUEST) + " " * 65_536, "larger than 65536 bytes"),
    ],
)
def test_what_is_not_one_json_object_is_refused(text, message):
    with pytest.raises(ContractError, match=message):
        TrainingRequest.from_json(text)


BAD_RESULT_MEMBERS = [
    ("weights", "../../registry/0000000001.dsse.json", "weights must be a plain file name"),
    ("weights", "/tmp/weights.safetensors", "weights must be a plain file name"),
    ("probe_probabilities", "a/b.npy", "probe_probabilities must be a plain file name"),
    ("rows", 0, "rows must be an integer"),
    ("rows", "2000", "rows must be an integer"),
    ("steps", -1, "steps must be an integer"),
    ("noise_multiplier", 0.0, "noise_multiplier must be a number"),
    ("epsilon", 0.1, "unknown key 'epsilon'"),
    ("versions", {"tensorflow": "2.15.1"}, "versions lacks the key 'tensorflow_privacy'"),
    ("versions.tensorflow", "2.15.1\nforged log line", "must be a version"),
    ("versions.keras", "2.15.0", "unknown key 'keras'"),
    ("versions.tensorflow", 2, "must be a version"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_RESULT_MEMBERS)
def test_a_tampered_result_is_refused(path, value, message):
    with pytest.raises(ContractError, match=message):
        TrainingResult.from_json(changed(RESULT, path, value))


@pytest.mark.parametrize(
    ("key", "claimed"),
    [
        ("steps", 119),
        ("noise_multiplier", 1.0999),
        ("l2_clip_norm", 2.0),
        ("expected_batch_size", 255),
        ("rows", 2001),
    ],
)
def test_a_result_for_another_mechanism_is_no_answer(key, claimed):
    request = TrainingRequest.from_json(json.dumps(REQUEST))
    honest = TrainingResult.from_json(json.dumps(RESULT))
    honest.require_answer_to(request, rows=2000)

    with pytest.raises(ContractError, match="do not use this model"):
        dataclasses.replace(honest, **{key: claimed}).require_answer_to(request, rows=2000)


def test_the_parent_cannot_build_a_request_that_the_trainer_would_refuse():
    with pytest.raises(ContractError, match="noise_multiplier must be a number above 0"):
        DpSettings(l2_clip_norm=1.0, noise_multiplier=0.0, expected_batch_size=4, steps=1)


@given(text=st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_no_bytes_raise_anything_but_a_contract_error(text):
    with pytest.raises(ContractError):
        TrainingRequest.from_json(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(path=st.sampled_from([*REQUEST, *(f"dp.{key}" for key in REQUEST["dp"])]), value=_JSON)
def test_any_value_of_any_member_is_taken_or_refused_with_one_short_line(path, value):
    try:
        request = TrainingRequest.from_json(changed(REQUEST, path, value))
    except ContractError as refusal:
        assert len(str(refusal)) < 500
        assert "\n" not in str(refusal)
    else:
        assert TrainingRequest.from_json(request.to_json()) == request


def test_the_contract_needs_the_standard_library_alone():
    include = Path(dp_trainer.__file__).parents[1]
    program = f"import sys; sys.path.insert(0, {str(include)!r}); import dp_trainer.contract"

    # -I and -S: no site-packages, so any other import fails.
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)
