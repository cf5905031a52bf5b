"""Differentially private training of the challenger, in a child process that inherits nothing.

TensorFlow Privacy cannot share an environment with Airflow, so the trainer gets files and returns
files. It is believed in one thing only, that it sampled and noised as it says: what it claims is
compared with what was asked, its weights must give its own predictions in our forward pass, and
epsilon is computed by us.
"""

import io
import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import dp_trainer
from dp_trainer.contract import Architecture, DpSettings, TrainingRequest, TrainingResult
from dp_trainer.strict import MAX_JSON_BYTES, ContractError
from retraining.children import ChildLimits, allow_listed_env, network_isolation, run_child
from retraining.errors import (
    BatchRefusedError,
    ChildError,
    ConfigError,
    EvidenceError,
    TrainerError,
)
from retraining.features import Matrix, fit_preprocessing, labels_of
from retraining.models import ModelArchitecture, build_model
from retraining.privacy import calibrate_noise
from retraining.records import DpSgdRun
from retraining.spec import PipelineSpec, TrainingPolicy

# TensorFlow predicts in float32, we in float64; what separates them is rounding, about 1e-6.
MAX_PROBABILITY_DIFFERENCE = 1e-4
_MAX_PROBE_ROWS = 2000

_UNUSABLE = "Do not use this model; check the trainer's environment and train again."


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A challenger as files, and what its training did.

    Attributes:
        weights, architecture, preprocessing: Content of the model's files, as `save_model` takes.
        run: What epsilon is computed from.
        versions: Of the packages that trained it.
        isolation: What kept the trainer's process from the network.
    """

    weights: bytes
    architecture: bytes
    preprocessing: bytes
    run: DpSgdRun
    versions: dict[str, str]
    isolation: str


def plan_run(n_rows: int, policy: TrainingPolicy) -> DpSgdRun:
    """Return the DP-SGD run that `policy` asks for on `n_rows` rows.

    The noise is the smallest that spends at most `epsilon_per_run`.

    Raises:
        BatchRefusedError: Too few rows for the expected batch, or for delta to mean anything.
        ConfigError: No noise is enough for so small an epsilon.
    """
    batch = policy.expected_batch_rows
    if n_rows < batch:
        raise BatchRefusedError(
            "too_few_rows",
            f"{n_rows} rows were accepted, expected_batch_rows asks for {batch} in each step."
            " Wait for more rows, or ask for smaller batches.",
        )
    if policy.delta >= 1 / n_rows:
        # A mechanism that publishes one whole row would be (0, 1/n)-DP.
        raise BatchRefusedError(
            "delta_too_large",
            f"delta is {policy.delta:g}, with {n_rows} rows it must be below {1 / n_rows:.3g}:"
            " at 1 / rows it would allow to give one row away. Lower delta in the pipeline file.",
        )
    steps = math.ceil(policy.epochs * n_rows / batch)
    return DpSgdRun(
        noise_multiplier=calibrate_noise(
            epsilon=policy.epsilon_per_run,
            delta=policy.delta,
            sampling_probability=batch / n_rows,
            steps=steps,
        ),
        l2_clip_norm=policy.l2_clip_norm,
        sampling_probability=batch / n_rows,
        steps=steps,
        n_rows=n_rows,
        expected_batch_rows=batch,
    )


def train(
    rows: pd.DataFrame,
    reference: pd.DataFrame,
    spec: PipelineSpec,
    run: DpSgdRun,
    *,
    trainer_python: Path,
    workdir: Path,
    on_line: Callable[[str], None],
) -> TrainedModel:
    """Train one model on `rows`; charge `run` to the ledger before.

    Args:
        rows: Accepted rows, with labels; private.
        reference: The reference set: scales the features, and serves as probe. Its labels are
            not used.
        spec: The pinned spec: features, label, architecture, optimiser and limits.
        run: As planned by `plan_run` for exactly these rows.
        trainer_python: Interpreter of the trainer's environment.
        workdir: An empty folder of ours alone. The private rows lie in it until the caller
            removes it.
        on_line: Gets the trainer's progress, line by line, as it comes.

    Raises:
        TrainerError: The trainer failed or hit a limit, or its files are not what was asked for.
        ConfigError: The trainer's environment is missing, or the pipeline file asks for a
            training that the trainer does not offer.
        BatchRefusedError: Rows hold values that the pipeline file does not allow.
    """
    if len(rows) != run.n_rows or run.sampling_probability != run.expected_batch_rows / len(rows):
        raise TrainerError(
            f"The run was planned for {run.n_rows} rows, found {len(rows)}: its epsilon would be"
            " another. Plan it again for these rows."
        )
    preprocessing = fit_preprocessing(spec, reference)
    probe = preprocessing.encode(reference.head(_MAX_PROBE_ROWS))
    architecture = ModelArchitecture.of(spec, n_inputs=preprocessing.n_features)
    request = _request(spec, run)
    np.save(workdir / request.features, preprocessing.encode(rows), allow_pickle=False)
    np.save(workdir / request.labels, labels_of(rows, spec), allow_pickle=False)
    np.save(workdir / request.probe, probe, allow_pickle=False)
    (workdir / "request.json").write_text(request.to_json())
    isolation = _run_trainer(trainer_python, workdir, spec.training, on_line)

    result = _read_result(workdir, request, rows=run.n_rows)
    model = TrainedModel(
        weights=_read_back(workdir, result.weights, max_bytes=architecture.max_weights_bytes),
        architecture=architecture.to_json(),
        preprocessing=preprocessing.to_json(),
        run=run,
        versions=dict(result.versions),
        isolation=isolation,
    )
    claimed = _read_probabilities(
        workdir, result.probe_probabilities, shape=(len(probe), len(spec.label.classes))
    )
    _require_own_predictions(model, probe, claimed)
    return model


def _request(spec: PipelineSpec, run: DpSgdRun) -> TrainingRequest:
    policy = spec.training
    try:
        return TrainingRequest(
            features="features.npy",
            labels="labels.npy",
            probe="probe.npy",
            n_classes=len(spec.label.classes),
            architecture=Architecture.from_dict(policy.architecture.model_dump(mode="json")),
            dp=DpSettings(
                l2_clip_norm=run.l2_clip_norm,
                noise_multiplier=run.noise_multiplier,
                expected_batch_size=run.expected_batch_rows,
                steps=run.steps,
            ),
            steps_per_epoch=round(run.n_rows / run.expected_batch_rows),  # for its log alone
            learning_rate=policy.learning_rate,
            threads=min(len(os.sched_getaffinity(0)), 256),
            optimizer=policy.optimizer,
        )
    except ContractError as error:
        raise ConfigError(f"{spec.model}: training: {error}") from error


def _run_trainer(
    python: Path, workdir: Path, policy: TrainingPolicy, on_line: Callable[[str], None]
) -> str:
    """Run it to its end; return what kept it from the network."""
    if not python.exists():
        raise ConfigError(
            f"There is no trainer at {python}. Make its environment with `make setup`, or say"
            " where it is in RETRAINING_TRAINER_PYTHON."
        )
    try:
        isolation = network_isolation()
        # -P and -s: neither the working folder nor a user's packages can replace a module.
        run_child(
            [python, "-P", "-s", "-m", "dp_trainer", "train", "request.json", "result.json"],
            cwd=workdir,
            env=allow_listed_env(HOME=workdir, PYTHONPATH=Path(dp_trainer.__path__[0]).parent),
            limits=ChildLimits(seconds=policy.limit_seconds, memory_mib=policy.limit_memory_mib),
            on_line=on_line,
            isolation=isolation,
        )
    except ChildError as error:
        raise TrainerError(f"Training did not finish, and no model was made. {error}") from error
    return str(isolation)


# --- reading what the trainer wrote, without believing it -----------------------------------


def _read_result(workdir: Path, request: TrainingRequest, *, rows: int) -> TrainingResult:
    content = _read_back(workdir, "result.json", max_bytes=MAX_JSON_BYTES)
    try:
        result = TrainingResult.from_json(content)
        result.require_answer_to(request, rows=rows)
    except ContractError as error:
        raise TrainerError(f"The trainer's result is refused: {error} {_UNUSABLE}") from error
    return result


def _read_back(workdir: Path, name: str, *, max_bytes: int) -> bytes:
    """Content of a plain file in `workdir`; `name` is known to have no folder in it."""
    try:
        # A link could lead out of the folder, and opening a pipe could wait for ever.
        handle = os.open(workdir / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TrainerError(
            f"The trainer left no plain file {name} ({error.strerror}). {_UNUSABLE}"
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise TrainerError(f"What the trainer left as {name} is no plain file. {_UNUSABLE}")
    with os.fdopen(handle, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TrainerError(
            f"The trainer's {name} has more than the expected {max_bytes} bytes. {_UNUSABLE}"
        )
    return content


def _read_probabilities(workdir: Path, name: str, *, shape: tuple[int, int]) -> Matrix:
    """Read float32 [probe rows, classes]; never a pickle, never more than the shape allows."""
    expected = np.zeros(shape, dtype=np.float32)
    header = len(_npy(expected)) - expected.nbytes
    content = _read_back(workdir, name, max_bytes=header + expected.nbytes)
    # The header of one shape and type has one form, so bytes can be compared: no header that
    # somebody else wrote is ever parsed.
    if content[:header] != _npy(expected)[:header] or len(content) != header + expected.nbytes:
        raise TrainerError(f"The trainer's {name} is not float32 of shape {shape}. {_UNUSABLE}")
    return np.frombuffer(content, dtype=np.float32, offset=header).reshape(shape)


def _require_own_predictions(model: TrainedModel, probe: Matrix, claimed: Matrix) -> None:
    try:
        built = build_model(
            weights=model.weights,
            architecture=model.architecture,
            preprocessing=model.preprocessing,
        )
    except EvidenceError as error:
        raise TrainerError(f"The trainer's weights are refused: {error}") from error
    worst = float(np.abs(built.predict_encoded(probe) - claimed).max())
    if not worst <= MAX_PROBABILITY_DIFFERENCE:  # so that NaN is refused, too
        raise TrainerError(
            f"The trainer's weights give probabilities that differ by up to {worst:.2g} from those"
            f" it predicted; rounding explains {MAX_PROBABILITY_DIFFERENCE:g}. {_UNUSABLE}"
        )


def _npy(values: Matrix) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
