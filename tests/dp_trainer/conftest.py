"""Working folders for the trainer, and its interpreter where there is one."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dp_trainer
from dp_trainer.contract import Architecture, DpSettings, TrainingRequest

INCLUDE = Path(dp_trainer.__file__).parents[1]

REQUEST = TrainingRequest(
    features="features.npy",
    labels="labels.npy",
    probe="probe.npy",
    n_classes=2,
    architecture=Architecture(kind="mlp", hidden_units=(8,), activation="tanh"),
    dp=DpSettings(l2_clip_norm=1.0, noise_multiplier=1.0, expected_batch_size=50, steps=40),
    steps_per_epoch=10,
    learning_rate=0.05,
    threads=1,
)


@pytest.fixture
def request_() -> TrainingRequest:
    """A small request that the files of `workdir` satisfy."""
    return REQUEST


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A working folder as the parent prepares it: 200 rows of 3 features, whose sum decides."""
    random = np.random.default_rng(20260105)
    features = random.standard_normal((200, 3)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "labels.npy", (features.sum(axis=1) > 0).astype(np.int64))
    np.save(tmp_path / "probe.npy", random.standard_normal((60, 3)).astype(np.float32))
    (tmp_path / "request.json").write_text(REQUEST.to_json())
    return tmp_path


@pytest.fixture
def ask(workdir: Path) -> Callable[..., TrainingRequest]:
    """Change fields of the request in `workdir`; fields of `dp` are named as such."""

    def change(*, dp: dict[str, float] | None = None, **fields: object) -> TrainingRequest:
        changed = dataclasses.replace(
            REQUEST, dp=dataclasses.replace(REQUEST.dp, **(dp or {})), **fields
        )
        (workdir / "request.json").write_text(changed.to_json())
        return changed

    return change


@pytest.fixture(scope="session")
def trainer_python() -> str:
    """The interpreter that has TensorFlow."""
    default = INCLUDE.parent / ".venv-trainer" / "bin" / "python"
    python = os.environ.get("RETRAINING_TRAINER_PYTHON", str(default))
    if not os.access(python, os.X_OK):
        pytest.skip(f"no trainer environment at {python}; `make setup` builds it")
    return python


@pytest.fixture(scope="session")
def trainer_environment() -> dict[str, str]:
    """All that the trainer gets to see of our environment."""
    return {"PATH": os.defpath, "PYTHONPATH": str(INCLUDE), "LC_ALL": "C.UTF-8"}
