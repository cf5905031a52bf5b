"""Measures the trainer's step from inside its environment and prints one JSON object.

Run by test_trainer_step.py, which holds the promises; here are only the measurements. Seeds are
fixed, so every number is the same at each run.
"""

import json
import resource
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dp_trainer.contract import Architecture, ContractError, DpSettings, TrainingRequest
from dp_trainer.files import TrainingArrays
from dp_trainer.model import (
    PoissonDpModel,
    build_model,
    compile_model,
    refuse_inexact_clipping,
)
from dp_trainer.runtime import DPModel, limit_threads, make_default_layer_registry, tf
from dp_trainer.train import noise_generator, poisson_samples, train

B = 16
CLIP = 1.4
FEATURES = 7
CLASSES = 3
# The contract refuses a noise of zero; this one is below the rounding of float32.
SILENT = 1e-12
ARCHITECTURES = {
    "linear": Architecture(kind="linear"),
    "mlp_tanh": Architecture(kind="mlp", hidden_units=(9,), activation="tanh"),
    "mlp_relu_deep": Architecture(kind="mlp", hidden_units=(9, 6), activation="relu"),
}


def settings(noise: float = SILENT, clip: float = CLIP, batch: int = B) -> DpSettings:
    return DpSettings(l2_clip_norm=clip, noise_multiplier=noise, expected_batch_size=batch, steps=1)


def make(architecture: Architecture, dp: DpSettings, *, features: int, classes: int) -> Any:
    """Return a model and its step, whose optimiser subtracts the gradient as it is."""
    model = build_model(
        architecture,
        n_features=features,
        n_classes=classes,
        dp=dp,
        noise=noise_generator(np.random.default_rng(1)),
        initial_weights=np.random.default_rng(2),
    )
    return model, compile_model(model, tf.keras.optimizers.SGD(1.0))


def flat(model: Any) -> np.ndarray:
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables]).astype(float)


def gradient_of(model: Any, step: Any, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Take the step, return what it subtracted, and put the weights back."""
    before = model.get_weights()
    start = flat(model)
    step((features, labels))
    subtracted = start - flat(model)
    model.set_weights(before)
    return subtracted


def batch_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(size)
    # Rows of very different length, so that some are clipped and some are not.
    scale = np.geomspace(0.02, 5, max(size, 1))[:size, None]
    features = (scale * random.standard_normal((size, FEATURES))).astype(np.float32)
    return features, random.integers(0, CLASSES, size)


def naive_gradient(model: Any, features: np.ndarray, labels: np.ndarray) -> tuple[Any, int]:
    """One row at a time, by the definition of DP-SGD: clip, sum, divide by the constant B."""
    total, n_clipped = np.zeros_like(flat(model)), 0
    for row, label in zip(features, labels, strict=True):
        with tf.GradientTape() as tape:
            logits = model(row[None])
            loss = tf.keras.losses.sparse_categorical_crossentropy([label], logits, True)[0]
        gradients = tape.gradient(loss, model.trainable_variables)
        gradient = np.concatenate([g.numpy().ravel() for g in gradients]).astype(float)
        norm = np.linalg.norm(gradient)
        n_clipped += norm > CLIP
        total += gradient * min(1.0, CLIP / norm)
    return total / B, int(n_clipped)


def exactness() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, architecture in ARCHITECTURES.items():
        model, step = make(architecture, settings(), features=FEATURES, classes=CLASSES)
        for size in (0, 1, B, 2 * B):
            features, labels = batch_of(size)
            naive, n_clipped = naive_gradient(model, features, labels)
            ours = gradient_of(model, step, features, labels)
            found[f"{name}/{size}"] = {
                "error": float(np.linalg.norm(ours - naive)),
                "norm": float(np.linalg.norm(naive)),
                "clipped": n_clipped,
                "finite": bool(np.isfinite(ours).all()),
            }
        found[f"{name}/graphs"] = step.experimental_get_tracing_count()
    return found


def influence_of_one_row() -> dict[str, float]:
    """Largest change of a step's gradient when one hostile row joins, in units of C/B."""
    found = {}
    for name, architecture in ARCHITECTURES.items():
        model, step = make(architecture, settings(), features=FEATURES, classes=CLASSES)
        for size in (0, B, 2 * B):
            features, labels = batch_of(size)
            without = gradient_of(model, step, features, labels)
            for magnitude in (1.0, 1e3, 1e6):
                row = np.full((1, FEATURES), magnitude, np.float32)
                label = np.argmin(model(row), axis=1)
                joined = np.concatenate([features, row]), np.concatenate([labels, label])
                change = np.linalg.norm(gradient_of(model, step, *joined) - without)
                found[f"{name}/{size}/{magnitude:g}"] = float(change / (CLIP / B))
    return found


def noise() -> dict[str, Any]:
    """Moments of what the noise adds to a step, in units of sigma * C / B."""
    sigma, clip, batch = 1.7, 0.6, 40
    wide = Architecture(kind="mlp", hidden_units=(200, 200, 200), activation="tanh")
    loud, loud_step = make(wide, settings(sigma, clip, batch), features=200, classes=CLASSES)
    calm, calm_step = make(wide, settings(SILENT, clip, batch), features=200, classes=CLASSES)
    draws = {}
    for size in (0, 1, batch, 2 * batch):
        random = np.random.default_rng(size)
        features = random.standard_normal((size, 200)).astype(np.float32)
        labels = random.integers(0, CLASSES, size)
        signal = gradient_of(calm, calm_step, features, labels)
        draw = gradient_of(loud, loud_step, features, labels) - signal
        draws[size] = draw / (sigma * clip / batch)
    no_rows = np.zeros((0, 200), np.float32), np.zeros(0, np.int64)
    many = [gradient_of(loud, loud_step, *no_rows) / (sigma * clip / batch) for _ in range(10)]
    per_layer = [kernel.size for kernel in loud.get_weights()]
    layers = np.split(np.stack(many), np.cumsum(per_layer)[:-1], axis=1)
    kernels = [layer.ravel() for layer in layers if layer.shape[1] == 200 * 200]
    between_layers = np.corrcoef(kernels) - np.eye(len(kernels))
    between_steps = np.corrcoef([*draws.values(), *many]) - np.eye(len(draws) + len(many))
    return {
        "std": {str(size): float(draw.std()) for size, draw in draws.items()},
        "std_of_layers": [float(kernel.std()) for kernel in kernels],
        "std_of_many": float(np.std(many)),
        "mean_of_many": float(np.mean(many)),
        "kurtosis": float(np.mean(np.power(many, 4)) / np.mean(np.square(many)) ** 2),
        "correlation_of_layers": float(np.abs(between_layers).max()),
        "correlation_of_steps": float(np.abs(between_steps).max()),
    }


def sampling() -> dict[str, Any]:
    rows, probability, steps = 400, 0.1, 5000
    members = np.zeros((steps, rows), bool)
    twice = 0
    random = np.random.default_rng(3)
    samples = poisson_samples(random, rows=rows, probability=probability, steps=steps)
    for number, sample in enumerate(samples):
        members[number, sample] = True
        twice += len(sample) - len(set(sample.tolist()))
    sizes = members.sum(axis=1)
    pairs = np.corrcoef(members.T)[np.triu_indices(rows, 1)]
    small = poisson_samples(np.random.default_rng(4), rows=5, probability=0.1, steps=20_000)
    every = poisson_samples(np.random.default_rng(5), rows=50, probability=1.0, steps=20)
    return {
        "size_mean": float(sizes.mean()),
        "size_variance": float(sizes.var()),
        "row_frequency": [float(members.mean(axis=0).min()), float(members.mean(axis=0).max())],
        "largest_correlation_of_rows": float(np.abs(pairs).max()),
        "next_step_frequency": float((members[1:] & members[:-1]).mean()),
        "rows_twice_in_a_batch": twice,
        "empty_share": float(np.mean([len(sample) == 0 for sample in small])),
        "sizes_at_probability_one": sorted({len(sample) for sample in every}),
    }


def dense(*stack: Any, shape: tuple[int, ...] = (FEATURES,), **last: Any) -> PoissonDpModel:
    """Return a model of these layers and a dense one."""
    inputs = tensor = tf.keras.Input(shape)
    for layer in (*stack, tf.keras.layers.Flatten()) if len(shape) > 1 else stack:
        tensor = layer(tensor)
    outputs = tf.keras.layers.Dense(CLASSES, **last)(tensor)
    return PoissonDpModel(dp=settings(), noise=None, inputs=inputs, outputs=outputs)


def microbatched(number: int) -> Any:
    """Return a model that clips means of rows."""
    inputs = tf.keras.Input((FEATURES,))
    return DPModel(
        1.0,
        1.0,
        num_microbatches=number,
        use_xla=False,
        layer_registry=make_default_layer_registry(),
        inputs=inputs,
        outputs=tf.keras.layers.Dense(CLASSES)(inputs),
    )


def compile_with_reduction(reduction: str) -> None:
    model = dense()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(True, reduction=reduction)
    model.compile(optimizer=tf.keras.optimizers.SGD(1.0), loss=loss)
    refuse_inexact_clipping(model)


def shuffled_fit() -> None:
    model, _ = make(ARCHITECTURES["linear"], settings(), features=FEATURES, classes=CLASSES)
    model.fit(np.zeros((4, FEATURES), np.float32), np.zeros(4, np.int64), verbose=0)


def unsafe_models() -> dict[str, str]:
    """What is said about each model whose clipping would not hold; empty if nothing is."""
    layers = tf.keras.layers
    twice = layers.Dense(FEATURES)
    image = (8, 8, 1)
    models = {
        "plain": dense(layers.Dense(4)),
        "batch_norm": dense(layers.BatchNormalization()),
        "batch_norm_without_weights": dense(layers.BatchNormalization(center=False, scale=False)),
        "layer_norm": dense(layers.LayerNormalization()),
        "convolution": dense(layers.Conv2D(2, 3), shape=image),
        "dense_on_images": dense(layers.Dense(2), shape=image),
        "dropout": dense(layers.Dropout(0.5)),
        "layer_used_twice": dense(twice, twice),
        "regulariser": dense(kernel_regularizer="l2"),
        "one_microbatch": microbatched(1),
        "a_microbatch_per_row": microbatched(B),
    }
    attempts: dict[str, Callable[[], object]] = {
        name: partial(compile_model, model, tf.keras.optimizers.SGD(1.0))
        for name, model in models.items()
    }
    attempts |= {
        "reduction_sum": partial(compile_with_reduction, "sum"),
        "reduction_none": partial(compile_with_reduction, "none"),
        "shuffled_fit": shuffled_fit,
    }
    found = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except ContractError as refusal:
            found[name] = str(refusal)
        else:
            found[name] = ""
    return found


def training() -> dict[str, Any]:
    random = np.random.default_rng(6)
    features = random.standard_normal((600, FEATURES)).astype(np.float32)
    labels = (features[:, :3].sum(axis=1) > 0).astype(np.int64)
    arrays = TrainingArrays(features, labels, features[:50])

    def run(seed: int | None, **changes: Any) -> Any:
        request = TrainingRequest(
            **{
                "features": "f",
                "labels": "l",
                "probe": "p",
                "n_classes": 2,
                "architecture": ARCHITECTURES["mlp_tanh"],
                "dp": DpSettings(
                    l2_clip_norm=1.0, noise_multiplier=1.0, expected_batch_size=150, steps=60
                ),
                "steps_per_epoch": 25,
                "learning_rate": 0.05,
                "threads": 1,
            }
            | changes
        )
        said.clear()
        return train(request, arrays, seed=seed, report=said.append)

    def flat_weights(model: Any) -> np.ndarray:
        return np.concatenate([values.ravel() for values in model.weights.values()])

    def accuracy(model: Any) -> float:
        return float(np.mean(model.probe_probabilities.argmax(axis=1) == labels[:50]))

    said: list[str] = []
    seeded = run(7)
    lines = list(said)
    sgd = run(7, optimizer="sgd", learning_rate=0.5)
    unseeded = [flat_weights(run(None)) for _ in range(2)]
    huge = Architecture(kind="mlp", hidden_units=(4,) * 8, activation="relu")
    try:
        strong = DpSettings(l2_clip_norm=1e4, noise_multiplier=1e2, expected_batch_size=1, steps=10)
        run(7, architecture=huge, dp=strong, learning_rate=100.0, optimizer="sgd")
        diverged = ""
    except ContractError as refusal:
        diverged = str(refusal)
    return {
        "same_seed_equal": bool(np.array_equal(flat_weights(seeded), flat_weights(run(7)))),
        "other_seed_equal": bool(np.array_equal(flat_weights(seeded), flat_weights(run(8)))),
        "without_seed_equal": bool(np.array_equal(*unseeded)),
        "accuracy": {"adam": accuracy(seeded), "sgd": accuracy(sgd)},
        "lines": lines,
        "diverged": diverged,
    }


def memory() -> dict[str, float]:
    """Growth of the process's peak during a step on 4,096 rows of a model of 66,000 weights.

    One gradient per row would take 1,000 MiB.
    """
    wide = Architecture(kind="mlp", hidden_units=(1024,), activation="tanh")
    _, step = make(wide, settings(batch=4096), features=60, classes=CLASSES)
    random = np.random.default_rng(8)
    features = random.standard_normal((4096, 60)).astype(np.float32)
    labels = random.integers(0, CLASSES, 4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        step((features, labels))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"growth_mib": (after - before) / 1024}


CHECKS = (exactness, influence_of_one_row, noise, sampling, unsafe_models, training, memory)


def attempt(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured, or nothing: one broken check leaves the others their say."""
    try:
        return check()
    except Exception:
        traceback.print_exc()
        return {}


if __name__ == "__main__":
    limit_threads(1)
    # Memory first: the peak never falls.
    json.dump({check.__name__: attempt(check) for check in reversed(CHECKS)}, sys.stdout)
