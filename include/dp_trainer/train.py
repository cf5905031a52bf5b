"""Trains on Poisson samples of the private rows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp_trainer.contract import TrainingRequest
from dp_trainer.files import TrainingArrays
from dp_trainer.model import build_model, compile_model, make_optimizer
from dp_trainer.runtime import tf
from dp_trainer.strict import ContractError

_PROBE_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class TrainedModel:
    """What training gives back; everything in it is covered by the run's (epsilon, delta)."""

    weights: dict[str, NDArray[np.float32]]  # names and shapes as Architecture.weight_shapes says
    probe_probabilities: NDArray[np.float32]  # [probe rows, classes]


def train(
    request: TrainingRequest,
    arrays: TrainingArrays,
    *,
    report: Callable[[str], None],
    seed: int | None = None,
) -> TrainedModel:
    """Train for request.dp.steps steps.

    Args:
        request: Architecture, mechanism and optimiser.
        arrays: Rows that `load_arrays` has checked.
        report: Called with one line per epoch: steps and seconds. Never a loss and never the size
            of a batch, because both say something about private rows.
        seed: For tests only. A seed that anybody knows makes the noise predictable and voids the
            guarantee; without one, the operating system's randomness is used and forgotten.

    Raises:
        ContractError: Training diverged, so that there is no model to hand back.
    """
    # 128 bits from the operating system when seed is None.
    sampling, noise, initial_weights = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)
    )
    model = build_model(
        request.architecture,
        n_features=arrays.features.shape[1],
        n_classes=request.n_classes,
        dp=request.dp,
        noise=noise_generator(noise),
        initial_weights=initial_weights,
    )
    step = compile_model(model, make_optimizer(request.optimizer, request.learning_rate))
    started = time.monotonic()
    samples = poisson_samples(
        sampling,
        rows=arrays.rows,
        probability=request.dp.expected_batch_size / arrays.rows,
        steps=request.dp.steps,
    )
    for number, sample in enumerate(samples, start=1):
        step((arrays.features[sample], arrays.labels[sample]))
        if number % request.steps_per_epoch == 0 or number == request.dp.steps:
            epoch = -(-number // request.steps_per_epoch)
            seconds = time.monotonic() - started
            report(f"epoch {epoch}: {number} of {request.dp.steps} steps, {seconds:.1f} s")
    weights = dict(
        zip(
            request.architecture.weight_shapes(
                n_features=arrays.features.shape[1], n_classes=request.n_classes
            ),
            (variable.numpy() for variable in model.trainable_variables),
            strict=True,
        )
    )
    if not all(np.isfinite(values).all() for values in weights.values()):
        raise ContractError("Training diverged; ask for a lower learning_rate.")
    return TrainedModel(weights, _probabilities(model, arrays.probe))


def poisson_samples(
    random: np.random.Generator, *, rows: int, probability: float, steps: int
) -> Iterator[NDArray[np.intp]]:
    """Yield the row numbers of each step's batch.

    Every row is in every batch with the same probability, independently of all other rows and
    steps: the assumption behind the accounting (a shuffled epoch can spend more, see Chua et al.,
    "How Private are DP-SGD Implementations?", ICML 2024). Batches differ in size and can be empty.
    """
    for _ in range(steps):
        yield np.flatnonzero(random.random(rows) < probability)


def noise_generator(random: np.random.Generator) -> Any:
    """Return TensorFlow's generator of the noise, with counter and key drawn from `random`.

    Not covered: Philox is not a cryptographic generator, and Gaussian noise in floating point is
    not exactly Gaussian (Mironov 2012, "On Significance of the Least Significant Bits for
    Differential Privacy"). An attacker sees the sum of all steps' noise in the weights alone.
    """
    state = random.integers(-(2**63), 2**63, size=3, dtype=np.int64)
    return tf.random.Generator.from_state(state, alg="philox")


def _probabilities(model: Any, probe: NDArray[np.float32]) -> NDArray[np.float32]:
    chunks = range(0, len(probe), _PROBE_ROWS_AT_ONCE)
    logits = [model(probe[start : start + _PROBE_ROWS_AT_ONCE]) for start in chunks]
    return np.concatenate([tf.nn.softmax(chunk).numpy() for chunk in logits])
