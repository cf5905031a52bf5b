"""What crosses the boundary between the parent and the trainer: two small JSON files.

Standard library only, because both sides import it: the parent (NumPy 2, no TensorFlow) writes the
request and reads the result, the trainer does the reverse. Both sides distrust each other's files,
so parsing is strict: an unknown or missing key, a wrong type, a number out of range or a name that
could leave the working folder is a ContractError with one sentence to act on.

The files that they name lie in the same working folder:

| name in | key | content |
| --- | --- | --- |
| request | features | npy, float32 [rows, features], scaled to declared bounds |
| request | labels | npy, int64 [rows], classes numbered from 0 |
| request | probe | npy, float32 [probe rows, features]: rows that are not private |
| result | weights | safetensors, float32: dense_0/kernel, dense_0/bias, dense_1/kernel, … |
| result | probe_probabilities | npy, float32 [probe rows, classes] |

There is no field for a seed, for microbatches or for shuffling: each would break the guarantee.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from dp_trainer import strict
from dp_trainer.strict import ContractError

__all__ = [
    "Architecture",
    "ContractError",
    "DpSettings",
    "TrainingRequest",
    "TrainingResult",
]

WEIGHTS_NAME = "weights.safetensors"
PROBE_PROBABILITIES_NAME = "probe_probabilities.npy"

_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A fully connected network as data: `linear` is one layer, `mlp` has hidden ones before it."""

    kind: str
    hidden_units: tuple[int, ...] = ()
    activation: str | None = None  # of the hidden layers

    def __post_init__(self) -> None:
        """Check the fields; raises ContractError."""
        strict.choice("architecture.kind", self.kind, ("linear", "mlp"))
        if self.kind == "linear":
            if self.hidden_units or self.activation is not None:
                raise ContractError(
                    "architecture.kind 'linear' takes neither hidden_units nor activation;"
                    " leave them out or ask for 'mlp'."
                )
            return
        strict.choice("architecture.activation", self.activation, ("tanh", "relu"))
        if not isinstance(self.hidden_units, tuple) or not 1 <= len(self.hidden_units) <= 8:
            raise ContractError("architecture.hidden_units must list 1 to 8 layer widths.")
        for index, width in enumerate(self.hidden_units):
            strict.integer(f"architecture.hidden_units[{index}]", width, low=1, high=4096)

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Parse the `architecture` member of a request; raises ContractError."""
        found = strict.members(
            "architecture", value, {"kind"}, optional={"hidden_units", "activation"}
        )
        if "hidden_units" in found:
            if not isinstance(found["hidden_units"], list):
                raise ContractError("architecture.hidden_units must be a list of integers.")
            found["hidden_units"] = tuple(found["hidden_units"])
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the fields that do not apply."""
        if self.kind == "linear":
            return {"kind": self.kind}
        return {
            "kind": self.kind,
            "hidden_units": list(self.hidden_units),
            "activation": self.activation,
        }

    def weight_shapes(self, *, n_features: int, n_classes: int) -> dict[str, tuple[int, ...]]:
        """Return name and shape of every tensor in the weights file, first layer first."""
        widths = (n_features, *self.hidden_units, n_classes)
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            shapes[f"dense_{index}/kernel"] = (inputs, outputs)
            shapes[f"dense_{index}/bias"] = (outputs,)
        return shapes


@dataclass(frozen=True, kw_only=True)
class DpSettings:
    """The subsampled Gaussian mechanism: what the parent computes epsilon from.

    Every step takes each row with probability expected_batch_size / rows, sums the gradients
    clipped to l2_clip_norm, adds N(0, (noise_multiplier * l2_clip_norm)^2) to each coordinate of
    the sum and divides by expected_batch_size, whatever the batch's real size was.
    """

    l2_clip_norm: float
    noise_multiplier: float
    expected_batch_size: int
    steps: int

    def __post_init__(self) -> None:
        """Check the fields; raises ContractError."""
        strict.number("dp.l2_clip_norm", self.l2_clip_norm, high=1e4)
        # Without noise there is no guarantee, so zero is refused rather than trained.
        strict.number("dp.noise_multiplier", self.noise_multiplier, high=1e4)
        strict.integer("dp.expected_batch_size", self.expected_batch_size, low=1, high=10_000_000)
        strict.integer("dp.steps", self.steps, low=1, high=1_000_000)

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Parse the `dp` member of a request; raises ContractError."""
        return cls(**strict.members("dp", value, set(cls.__dataclass_fields__)))


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What the parent asks for. Epsilon and delta are not here: they are the parent's business.

    `optimizer` acts on the noised gradient, so it costs no privacy: `adam` with its usual
    constants, or `sgd` with momentum 0.9. `steps_per_epoch` only sets how often progress is said.
    """

    features: str
    labels: str
    probe: str
    n_classes: int
    architecture: Architecture
    dp: DpSettings
    steps_per_epoch: int
    learning_rate: float
    threads: int
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        """Check the fields; raises ContractError."""
        for key in ("features", "labels", "probe"):
            strict.plain_name(key, getattr(self, key))
        names = [self.features, self.labels, self.probe, WEIGHTS_NAME, PROBE_PROBABILITIES_NAME]
        if len(set(names)) != len(names):
            raise ContractError(
                "features, labels and probe must name three files, none of them"
                f" {WEIGHTS_NAME} or {PROBE_PROBABILITIES_NAME}, which the trainer writes."
            )
        strict.integer("n_classes", self.n_classes, low=2, high=1000)
        strict.integer("steps_per_epoch", self.steps_per_epoch, low=1, high=1_000_000)
        strict.number("learning_rate", self.learning_rate, high=100)
        strict.integer("threads", self.threads, low=1, high=256)
        strict.choice("optimizer", self.optimizer, ("adam", "sgd"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse request.json; raises ContractError."""
        keys = set(cls.__dataclass_fields__) - {"optimizer"}
        found = strict.document("The request", text, keys, optional={"optimizer"})
        found["architecture"] = Architecture.from_dict(found["architecture"])
        found["dp"] = DpSettings.from_dict(found["dp"])
        return cls(**found)

    def to_json(self) -> str:
        """Return the text of request.json, the same for the same request."""
        members = {key: getattr(self, key) for key in self.__dataclass_fields__}
        members |= {"architecture": self.architecture.to_dict(), "dp": asdict(self.dp)}
        return strict.to_json(members)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What the trainer says it did; a claim that the parent compares with its request."""

    weights: str
    probe_probabilities: str
    steps: int
    noise_multiplier: float
    l2_clip_norm: float
    expected_batch_size: int
    rows: int
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check the fields; raises ContractError."""
        strict.plain_name("weights", self.weights)
        strict.plain_name("probe_probabilities", self.probe_probabilities)
        self.dp_settings()
        strict.integer("rows", self.rows, low=1, high=2**53)
        versions = strict.members("versions", self.versions, {"tensorflow", "tensorflow_privacy"})
        for package, version in versions.items():
            if not isinstance(version, str) or not _VERSION.fullmatch(version):
                raise ContractError(f"versions.{package} must be a version such as '2.15.1'.")

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse result.json; raises ContractError."""
        return cls(**strict.document("The result", text, set(cls.__dataclass_fields__)))

    def to_json(self) -> str:
        """Return the text of result.json, the same for the same result."""
        members = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return strict.to_json(members | {"versions": dict(self.versions)})

    def dp_settings(self) -> DpSettings:
        """Return the mechanism that was run, as the trainer claims."""
        return DpSettings(
            l2_clip_norm=self.l2_clip_norm,
            noise_multiplier=self.noise_multiplier,
            expected_batch_size=self.expected_batch_size,
            steps=self.steps,
        )

    def require_answer_to(self, request: TrainingRequest, *, rows: int) -> None:
        """Raise ContractError unless this result claims exactly what was asked, on so many rows."""
        if self.dp_settings() != request.dp or self.rows != rows:
            raise ContractError(
                f"The trainer answered for {self.dp_settings()} on {self.rows} rows, but was asked"
                f" for {request.dp} on {rows} rows; do not use this model."
            )
