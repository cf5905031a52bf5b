"""A model is arrays and two descriptions as data; prediction is a forward pass in NumPy.

Nothing that can carry code is stored or read: weights are safetensors, architecture and
preprocessing are canonical JSON, and a manifest names the three by digest. The trainer's
predictions are compared with this forward pass whenever a model is trained.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors
import safetensors.numpy
from pydantic import Field, model_validator

from retraining.digests import Digest
from retraining.errors import EvidenceError
from retraining.features import Matrix, Preprocessing
from retraining.records import ModelManifest, Record
from retraining.spec import LinearArchitecture, PipelineSpec
from retraining.store import Store

Probabilities = npt.NDArray[np.float64]

_BYTES_PER_WEIGHT = 4
_MAX_HEADER_BYTES = 65_536  # of a safetensors file with ten tensors: far more than it needs
_ROWS_AT_ONCE = 8192  # bounds the memory of hidden layers, whatever the number of rows


class ModelArchitecture(Record):
    """The network as data: dense layers, one activation between them, softmax at the end.

    Attributes:
        hidden_units: Width of each hidden layer; empty for `linear`.
        activation: After each hidden layer; None for `linear`.
        n_inputs: Encoded columns of a row.
        classes: In the order of the last layer's outputs.
    """

    kind: Literal["linear", "mlp"]
    hidden_units: tuple[int, ...] = ()
    activation: Literal["tanh", "relu"] | None = None
    n_inputs: int = Field(ge=1)
    classes: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_mlp = self.kind == "mlp"
        if is_mlp != bool(self.hidden_units) or is_mlp != (self.activation is not None):
            raise ValueError("mlp has hidden_units and an activation, linear has neither")
        if any(units < 1 for units in self.hidden_units):
            raise ValueError("a hidden layer has at least one unit")
        return self

    @classmethod
    def of(cls, spec: PipelineSpec, *, n_inputs: int) -> Self:
        """The architecture that `spec` asks for, on rows of `n_inputs` encoded columns."""
        asked = spec.training.architecture
        if isinstance(asked, LinearArchitecture):
            return cls(kind="linear", n_inputs=n_inputs, classes=spec.label.classes)
        return cls(
            kind="mlp",
            hidden_units=asked.hidden_units,
            activation=asked.activation,
            n_inputs=n_inputs,
            classes=spec.label.classes,
        )

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each layer, first layer first."""
        widths = (self.n_inputs, *self.hidden_units, len(self.classes))
        return tuple(pairwise(widths))

    @property
    def max_weights_bytes(self) -> int:
        """No weights file of this architecture is larger."""
        n_weights = sum((inputs + 1) * outputs for inputs, outputs in self.layer_shapes)
        return n_weights * _BYTES_PER_WEIGHT + _MAX_HEADER_BYTES


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model ready to predict; `layers` are (kernel [inputs, outputs], bias [outputs])."""

    architecture: ModelArchitecture
    preprocessing: Preprocessing
    layers: tuple[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns of a prediction."""
        return self.architecture.classes

    def predict(self, frame: pd.DataFrame) -> Probabilities:
        """Probability of each class, float64 [n, classes]; each row sums to 1.

        Raises:
            BatchRefusedError: A row holds a value that the pipeline file does not allow.
        """
        return self.predict_encoded(self.preprocessing.encode(frame))

    def predict_encoded(self, encoded: Matrix) -> Probabilities:
        """As `predict`, for rows that `preprocessing` has encoded, [n, n_inputs]."""
        probabilities = np.empty((len(encoded), len(self.classes)))
        for start in range(0, len(encoded), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            probabilities[part] = self._forward(encoded[part].astype(np.float64))
        return probabilities

    def _forward(self, values: npt.NDArray[np.float64]) -> Probabilities:
        for kernel, bias in self.layers[:-1]:
            values = values @ kernel + bias
            values = np.tanh(values) if self.architecture.activation == "tanh" else values.clip(0)
        kernel, bias = self.layers[-1]
        logits = values @ kernel + bias
        # The largest logit becomes 0, so that exp cannot overflow; softmax does not change.
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        return shares


def build_model(*, weights: bytes, architecture: bytes, preprocessing: bytes) -> Model:
    """Build a model from the content of its three files.

    Raises:
        EvidenceError: A file is not what it has to be, or they do not belong together.
    """
    described = ModelArchitecture.from_json(architecture)
    encoding = Preprocessing.from_json(preprocessing)
    if encoding.n_features != described.n_inputs:
        raise EvidenceError(
            f"The preprocessing gives {encoding.n_features} columns, the architecture expects"
            f" {described.n_inputs}: these files are not of one model. Do not use it."
        )
    return Model(architecture=described, preprocessing=encoding, layers=_layers(weights, described))


def load_model(store: Store, manifest: Digest) -> Model:
    """Read the model that `manifest` names; every byte is checked against its digest.

    Raises:
        ArtifactMissingError, ArtifactTamperedError: As for every read from the store.
        EvidenceError: The files are not a model, not of one model, or hold a non-finite weight.
    """
    named = ModelManifest.from_json(store.get(manifest))
    architecture = store.get(named.architecture)
    described = ModelArchitecture.from_json(architecture)
    if described.classes != named.classes:
        raise EvidenceError(
            f"The manifest {manifest} names other classes than its architecture does."
            " Do not use this model."
        )
    return build_model(
        weights=store.get(named.weights, max_bytes=described.max_weights_bytes),
        architecture=architecture,
        preprocessing=store.get(named.preprocessing),
    )


def save_model(
    store: Store, *, weights: bytes, architecture: bytes, preprocessing: bytes
) -> Digest:
    """Keep a model's three files and their manifest; return the manifest's digest.

    Raises:
        EvidenceError: They are not a model; nothing was kept.
    """
    model = build_model(weights=weights, architecture=architecture, preprocessing=preprocessing)
    manifest = ModelManifest(
        weights=store.put(weights),
        architecture=store.put(architecture),
        preprocessing=store.put(preprocessing),
        classes=model.classes,
    )
    return store.put(manifest.to_json())


def _layers(
    weights: bytes, architecture: ModelArchitecture
) -> tuple[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], ...]:
    if len(weights) > architecture.max_weights_bytes:
        raise EvidenceError(
            f"The weights have {len(weights)} bytes, this architecture's at most"
            f" {architecture.max_weights_bytes}. Do not use this model."
        )
    try:
        tensors = safetensors.numpy.load(weights)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise EvidenceError(
            f"The weights are not a safetensors file ({type(error).__name__})."
            " Do not use this model."
        ) from error
    expected: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in enumerate(architecture.layer_shapes):
        expected[f"dense_{index}/kernel"] = (inputs, outputs)
        expected[f"dense_{index}/bias"] = (outputs,)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        raise EvidenceError(
            f"The weights hold the tensors {found}, the architecture expects {expected}."
            " Do not use this model."
        )
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise EvidenceError(
                f"The tensor {name} holds {tensor.dtype} numbers or non-finite ones; expected"
                " finite float32. Do not use this model."
            )
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    return tuple(
        (wide[f"dense_{index}/kernel"], wide[f"dense_{index}/bias"])
        for index in range(len(architecture.layer_shapes))
    )
