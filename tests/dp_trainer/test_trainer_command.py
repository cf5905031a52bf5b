"""The command as the parent starts it, and everything that it refuses."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from dp_trainer.__main__ import main
from dp_trainer.contract import TrainingResult

OUTPUTS = ["result.json", "weights.safetensors", "probe_probabilities.npy"]


@pytest.fixture
def command(trainer_python: str) -> list[str]:
    return [trainer_python, "-P", "-s", "-m", "dp_trainer", "train", "request.json", "result.json"]


@pytest.fixture
def refusal(workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command in this process, where TensorFlow is not installed: refusals precede it."""
    monkeypatch.chdir(workdir)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")

    def run(request: str = "request.json", result: str = "result.json") -> str:
        before = sorted(Path().iterdir())
        status = main(["train", request, result])
        out, err = capfd.readouterr()
        assert (status, out) == (3, ""), err
        assert err.startswith("dp_trainer: ")
        assert err.count("\n") == 1
        assert sorted(Path().iterdir()) == before
        return err

    return run


def written(workdir: Path) -> list[str]:
    """Names in the folder beyond what the parent put there."""
    given = {"features.npy", "labels.npy", "probe.npy", "request.json"}
    return sorted({path.name for path in workdir.iterdir()} - given)


def softmax_of_network(weights: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    hidden = np.tanh(rows @ weights["dense_0/kernel"] + weights["dense_0/bias"])
    logits = hidden @ weights["dense_1/kernel"] + weights["dense_1/bias"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.trainer
def test_a_run_answers_its_request_and_numpy_predicts_what_tensorflow_did(
    command, workdir, trainer_environment, request_
):
    finished = subprocess.run(
        command, cwd=workdir, env=trainer_environment, capture_output=True, text=True, check=False
    )

    assert (finished.returncode, finished.stderr) == (0, "")
    progress = [rf"epoch {epoch}: {10 * epoch} of 40 steps, \d+\.\d s\n" for epoch in range(1, 5)]
    assert re.fullmatch("".join(progress), finished.stdout)
    assert written(workdir) == sorted(OUTPUTS)

    result = TrainingResult.from_json((workdir / "result.json").read_bytes())
    result.require_answer_to(request_, rows=200)
    assert result.versions == {"tensorflow": "2.15.1", "tensorflow_privacy": "0.9.0"}

    weights = safetensors.numpy.load_file(workdir / result.weights)
    shapes = request_.architecture.weight_shapes(n_features=3, n_classes=2)
    assert {name: values.shape for name, values in weights.items()} == shapes
    assert {values.dtype for values in weights.values()} == {np.dtype(np.float32)}
    # The same tensors are the same bytes, whoever wrote them.
    assert safetensors.numpy.save(weights) == (workdir / result.weights).read_bytes()

    probabilities = np.load(workdir / result.probe_probabilities, allow_pickle=False)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (60, 2))
    expected = softmax_of_network(weights, np.load(workdir / "probe.npy"))
    assert np.abs(probabilities - expected).max() < 1e-5
    assert probabilities[:, 1].std() > 0.1  # equal to a constant would prove nothing


@pytest.mark.trainer
def test_a_killed_run_leaves_nothing(command, workdir, trainer_environment, ask):
    ask(dp={"steps": 1_000_000})

    with subprocess.Popen(
        command, cwd=workdir, env=trainer_environment, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline().startswith("epoch 1: 10 of 1000000 steps")
        child.send_signal(signal.SIGKILL)

    assert written(workdir) == []


@pytest.mark.trainer
def test_a_full_disk_is_one_line_and_leaves_no_result(command, workdir, trainer_environment):
    finished = subprocess.run(
        command,
        cwd=workdir,
        env=trainer_environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 1
    assert re.fullmatch(
        rf"dp_trainer: broke with OSError \({os.strerror(errno.EFBIG)}\) in write_whole,"
        r" files\.py:\d+; no result was written\.\n",
        finished.stderr,
    )
    assert written(workdir) == []


def test_a_refusal_is_status_3_and_one_line_without_traceback(workdir, trainer_environment):
    (workdir / "request.json").write_text("{}")

    finished = subprocess.run(
        [sys.executable, "-P", "-m", "dp_trainer", "train", "request.json", "result.json"],
        cwd=workdir,
        env=trainer_environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 3
    assert finished.stderr == "dp_trainer: The request lacks the key 'architecture'.\n"


def test_what_broke_is_said_without_the_words_of_the_exception(
    workdir, monkeypatch, capfd, request_
):
    def break_with_a_row(_request: object) -> None:
        raise RuntimeError("row 17 is [0.25, 3.5]")

    monkeypatch.chdir(workdir)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr("dp_trainer.files.load_arrays", break_with_a_row)

    status = main(["train", "request.json", "result.json"])

    _, err = capfd.readouterr()
    assert status == 1
    assert re.fullmatch(
        r"dp_trainer: broke with RuntimeError in _train, __main__\.py:\d+;"
        r" no result was written\.\n",
        err,
    )


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_earlier_result_is_never_overwritten(refusal, name):
    Path(name).write_text("earlier")

    assert f"{name} is there already" in refusal()
    assert Path(name).read_text() == "earlier"


@pytest.mark.parametrize("name", ["../request.json", "/etc/hostname", ".hidden", "a/b.json"])
def test_the_command_stays_in_its_folder(refusal, name):
    assert "The request's name must be a plain file name" in refusal(request=name)
    assert "The result's name must be a plain file name" in refusal(result=name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "request.json is not UTF-8"),
        (b" " * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_request_that_is_no_json_is_refused(refusal, text, message):
    Path("request.json").write_bytes(text)

    assert message in refusal()


def test_a_request_with_an_added_seed_is_refused(refusal):
    text = json.loads(Path("request.json").read_text())
    Path("request.json").write_text(json.dumps(text | {"seed": 7}))

    assert "unknown key 'seed'" in refusal()


class Payload:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("name", ["features.npy", "labels.npy", "probe.npy"])
def test_a_pickle_is_refused_and_never_loaded(refusal, name):
    np.save(name, np.array([[Payload()] * 3] * 200, dtype=object), allow_pickle=True)

    assert f"{name} must be an npy 1.0 array" in refusal()


def test_an_archive_of_arrays_is_refused(refusal):
    with Path("features.npy").open("wb") as file:
        np.savez(file, np.zeros((200, 3), np.float32))

    assert "features.npy is not an npy file" in refusal()


def with_header(header: str, *, n_bytes: int = 0) -> bytes:
    """An npy file whose header says this, and so many bytes of data."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * n_bytes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an npy file"),
        (b"PK\x03\x04", "is not an npy file"),
        (b"\x93NUMPY\x01\x00\xff\xff", "is not an npy file"),
        (with_header("__import__('os').mkdir('unpickled')"), "is not an npy file"),
        (with_header("(" * 100), "is not an npy file"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}", n_bytes=24),
            "promises an array of shape (-2, -3), but 24 bytes follow",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (10**9, 3)}"),
            "is not an npy file",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 3)}"),
            "promises an array of shape (1000000000, 3), but 0 bytes follow",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': True, 'shape': (0, 3)}"),
            "must be an npy 1.0 array",
        ),
    ],
)
def test_a_hostile_array_header_is_refused_before_memory_is_taken(refusal, content, message):
    Path("features.npy").write_bytes(content)

    assert message in refusal()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("features.npy", np.zeros((200, 3), np.float64), "must be an npy 1.0 array of float32"),
        ("features.npy", np.zeros((200, 3), ">f4"), "must be an npy 1.0 array of float32"),
        ("features.npy", np.zeros(200, np.float32), "found float32 with 1 dimensions"),
        ("features.npy", np.zeros((0, 3), np.float32), "at least one row"),
        ("features.npy", np.zeros((200, 0), np.float32), "at least one row and one feature"),
        ("features.npy", np.zeros((199, 3), np.float32), "do not fit together"),
        ("labels.npy", np.zeros(200, np.int32), "must be an npy 1.0 array of int64"),
        ("labels.npy", np.zeros((200, 1), np.int64), "with 1 dimensions"),
        ("labels.npy", np.full(200, -1), "200 labels lie outside 0 to 1"),
        ("labels.npy", np.arange(200), "198 labels lie outside 0 to 1"),
        ("probe.npy", np.zeros((0, 3), np.float32), "at least one row"),
        ("probe.npy", np.zeros((60, 4), np.float32), "do not fit together"),
        ("probe.npy", np.full((60, 3), np.nan, np.float32), "60 rows of probe.npy"),
    ],
)
def test_an_array_of_another_kind_is_refused(refusal, name, values, message):
    np.save(name, values)

    assert message in refusal()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.1e6, -1.1e6])
def test_a_row_without_a_bound_is_refused_and_not_quoted(refusal, value):
    features = np.load("features.npy")
    features[17, 2] = value
    np.save("features.npy", features)

    message = refusal()

    assert "1 rows of features.npy hold a value that is not finite or beyond 1e+06" in message
    assert "17" not in message


def test_trailing_bytes_after_an_array_are_refused(refusal):
    with Path("labels.npy").open("ab") as file:
        file.write(b"\0" * 8)

    assert "labels.npy promises an array of shape (200,), but 1608 bytes follow" in refusal()


def test_a_batch_larger_than_the_rows_is_refused(refusal, ask):
    ask(dp={"expected_batch_size": 201})

    assert "there are only 200 rows" in refusal()


@pytest.mark.parametrize("name", ["request.json", "features.npy", "labels.npy", "probe.npy"])
@pytest.mark.parametrize("kind", ["link", "missing", "folder", "pipe"])
def test_what_is_not_a_plain_file_is_refused(refusal, name, kind):
    path = Path(name)
    path.rename(path.with_suffix(".moved"))
    if kind == "link":
        path.symlink_to(path.with_suffix(".moved"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)

    message = refusal()

    assert message.startswith(f"dp_trainer: {name} ")
    assert "plain file" in message or "not a regular file" in message
