"""A stored model: what it predicts, and which files are never one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from retraining.digests import Digest
from retraining.errors import ArtifactMissingError, ArtifactTamperedError, EvidenceError
from retraining.features import Matrix, fit_preprocessing
from retraining.models import Model, ModelArchitecture, build_model, load_model, save_model
from retraining.records import ModelManifest
from retraining.store import DirectoryStore
from tests.retraining.small_pipeline import CLASSES, small_rows, small_spec

Tensors = dict[str, np.ndarray]

REFERENCE = small_rows(50)
PREPROCESSING = fit_preprocessing(small_spec(), REFERENCE)
MLP = {"kind": "mlp", "hidden_units": [5, 3], "activation": "tanh"}


def architecture_of(asked: dict[str, object] | None = None) -> ModelArchitecture:
    return ModelArchitecture.of(small_spec(architecture=asked), n_inputs=PREPROCESSING.n_features)


def tensors_of(architecture: ModelArchitecture, *, scale: float = 1.0) -> Tensors:
    random = np.random.default_rng(1)
    tensors: Tensors = {}
    for index, (inputs, outputs) in enumerate(architecture.layer_shapes):
        tensors[f"dense_{index}/kernel"] = scale * random.normal(size=(inputs, outputs))
        tensors[f"dense_{index}/bias"] = scale * random.normal(size=outputs)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def model_of(architecture: ModelArchitecture, tensors: Tensors) -> Model:
    return build_model(
        weights=safetensors.numpy.save(tensors),
        architecture=architecture.to_json(),
        preprocessing=PREPROCESSING.to_json(),
    )


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def saved(store: DirectoryStore, tensors: Tensors | None = None) -> Digest:
    architecture = architecture_of()
    return save_model(
        store,
        weights=safetensors.numpy.save(tensors or tensors_of(architecture)),
        architecture=architecture.to_json(),
        preprocessing=PREPROCESSING.to_json(),
    )


# --- prediction -----------------------------------------------------------------------------


def row_by_row(architecture: ModelArchitecture, tensors: Tensors, encoded: Matrix) -> np.ndarray:
    """The definition, one row and one unit at a time."""
    activations = {"tanh": np.tanh, "relu": lambda value: max(value, 0.0), None: None}
    rows = []
    for row in encoded.astype(float):
        n_layers = len(architecture.layer_shapes)
        for index in range(n_layers):
            kernel, bias = tensors[f"dense_{index}/kernel"], tensors[f"dense_{index}/bias"]
            row = [
                sum(value * float(kernel[i, unit]) for i, value in enumerate(row))
                + float(bias[unit])
                for unit in range(kernel.shape[1])
            ]
            if index < n_layers - 1:
                row = [float(activations[architecture.activation](value)) for value in row]
        exponentials = np.exp(row)
        rows.append(exponentials / exponentials.sum())
    return np.array(rows)


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "linear"},
        MLP,
        {"kind": "mlp", "hidden_units": [4], "activation": "relu"},
    ],
)
def test_the_forward_pass_is_the_one_that_the_architecture_describes(
    asked: dict[str, object],
) -> None:
    architecture = architecture_of(asked)
    tensors = tensors_of(architecture)
    rows = small_rows(20, seed=3)

    predicted = model_of(architecture, tensors).predict(rows)

    np.testing.assert_allclose(
        predicted, row_by_row(architecture, tensors, PREPROCESSING.encode(rows)), atol=1e-12
    )
    assert predicted.dtype == np.float64
    np.testing.assert_allclose(predicted.sum(axis=1), 1)


def test_huge_weights_give_probabilities_and_not_overflow() -> None:
    architecture = architecture_of(MLP)

    predicted = model_of(architecture, tensors_of(architecture, scale=1e37)).predict(REFERENCE)

    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted.sum(axis=1), 1)


def test_many_rows_are_predicted_as_few_are() -> None:
    model = model_of(architecture_of(MLP), tensors_of(architecture_of(MLP)))
    encoded = np.repeat(PREPROCESSING.encode(REFERENCE), 400, axis=0)

    predicted = model.predict_encoded(encoded)

    np.testing.assert_allclose(predicted[::400], model.predict(REFERENCE), atol=1e-12)
    np.testing.assert_allclose(predicted[399::400], model.predict(REFERENCE), atol=1e-12)
    assert model.predict_encoded(encoded[:0]).shape == (0, 2)


# --- the store ------------------------------------------------------------------------------


def test_a_model_is_the_same_after_the_store(store: DirectoryStore) -> None:
    tensors = tensors_of(architecture_of())

    loaded = load_model(store, saved(store, tensors))

    expected = model_of(architecture_of(), tensors).predict(REFERENCE)
    assert np.array_equal(loaded.predict(REFERENCE), expected)
    assert loaded.classes == CLASSES


def test_the_same_model_has_the_same_digest(store: DirectoryStore) -> None:
    assert saved(store) == saved(store)


@pytest.mark.parametrize("part", ["weights", "architecture", "preprocessing"])
def test_a_model_whose_file_was_swapped_in_the_store_is_not_loaded(
    store: DirectoryStore, part: str
) -> None:
    manifest = saved(store)
    digest: Digest = getattr(ModelManifest.from_json(store.get(manifest)), part)
    blob = store.root / "blobs" / "sha256" / digest.hex[:2] / digest.hex
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes() + b" ")

    with pytest.raises(ArtifactTamperedError, match=digest):
        load_model(store, manifest)


def test_a_model_of_which_a_file_is_missing_is_not_loaded(store: DirectoryStore) -> None:
    manifest = saved(store)
    digest = ModelManifest.from_json(store.get(manifest)).weights
    (store.root / "blobs" / "sha256" / digest.hex[:2] / digest.hex).unlink()

    with pytest.raises(ArtifactMissingError, match=digest):
        load_model(store, manifest)


def test_a_manifest_that_renames_the_classes_is_refused(store: DirectoryStore) -> None:
    honest = ModelManifest.from_json(store.get(saved(store)))
    swapped = honest.model_copy(update={"classes": CLASSES[::-1]})

    with pytest.raises(EvidenceError, match="other classes"):
        load_model(store, store.put(swapped.to_json()))


def test_a_record_of_another_kind_is_no_manifest(store: DirectoryStore) -> None:
    with pytest.raises(EvidenceError, match="ModelManifest"):
        load_model(store, store.put(PREPROCESSING.to_json()))


# --- files that are no model ----------------------------------------------------------------


def _without(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != "dense_0/bias"}


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: change(tensors[name])}


def _with_nan(tensor: np.ndarray) -> np.ndarray:
    return np.where(np.arange(tensor.size).reshape(tensor.shape) == 0, np.nan, tensor).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (_without, "the architecture expects"),
        (lambda tensors: tensors | {"backdoor": np.zeros(2, np.float32)}, "backdoor"),
        (_changed("dense_0/kernel", np.transpose), "the architecture expects"),
        (_changed("dense_0/bias", lambda t: t[:, None]), "the architecture expects"),
        (_changed("dense_0/kernel", lambda t: t.astype(np.float64)), "float64"),
        (_changed("dense_0/kernel", lambda t: t.astype(np.float16)), "float16"),
        (_changed("dense_0/kernel", lambda t: t.astype(np.int32)), "int32"),
        (_changed("dense_0/kernel", _with_nan), "non-finite"),
        (_changed("dense_0/bias", lambda t: np.full_like(t, np.inf)), "non-finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    store: DirectoryStore, lie: Callable[[Tensors], Tensors], message: str
) -> None:
    changed = {
        name: np.ascontiguousarray(tensor)
        for name, tensor in lie(tensors_of(architecture_of())).items()
    }

    with pytest.raises(EvidenceError, match=message):
        saved(store, changed)
    assert not [path for path in store.root.rglob("*") if path.is_file()], "nothing was kept"


@pytest.mark.parametrize(
    "weights",
    [b"", b"\x80\x04pickle", b"\xff" * 100, bytes(8), b"PK\x03\x04" + bytes(100)],
)
def test_bytes_that_are_not_safetensors_are_refused(weights: bytes) -> None:
    with pytest.raises(EvidenceError, match="not a safetensors file"):
        build_model(
            weights=weights,
            architecture=architecture_of().to_json(),
            preprocessing=PREPROCESSING.to_json(),
        )


def test_weights_larger_than_the_architecture_allows_are_not_even_parsed() -> None:
    padded = safetensors.numpy.save(tensors_of(architecture_of()), {"note": "x" * 70_000})

    with pytest.raises(EvidenceError, match="at most"):
        build_model(
            weights=padded,
            architecture=architecture_of().to_json(),
            preprocessing=PREPROCESSING.to_json(),
        )


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "lambda"},
        {"activation": "exec"},
        {"activation": "tanh"},
        {"hidden_units": [4]},
        {"kind": "mlp", "activation": "tanh", "hidden_units": []},
        {"kind": "mlp", "activation": "tanh", "hidden_units": [0]},
        {"classes": ["ham"]},
        {"n_inputs": 0},
        {"code": "import os"},
    ],
)
def test_an_architecture_from_a_stranger_is_refused(change: dict[str, object]) -> None:
    raw = json.loads(architecture_of().to_json()) | change

    with pytest.raises(EvidenceError, match="ModelArchitecture"):
        ModelArchitecture.from_json(json.dumps(raw).encode())


def test_preprocessing_of_another_model_is_refused() -> None:
    other = fit_preprocessing(
        small_spec(features=[{"kind": "number", "name": "size", "min": 0, "max": 1}]), REFERENCE
    )

    with pytest.raises(EvidenceError, match="gives 1 columns, the architecture expects 8"):
        build_model(
            weights=safetensors.numpy.save(tensors_of(architecture_of())),
            architecture=architecture_of().to_json(),
            preprocessing=other.to_json(),
        )
