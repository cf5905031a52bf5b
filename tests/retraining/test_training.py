"""Training from the parent's side: what is planned, what is handed over, what is believed."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retraining.children import NO_NETWORK, network_isolation
from retraining.errors import BatchRefusedError, ConfigError, TrainerError
from retraining.features import Preprocessing, fit_preprocessing, labels_of
from retraining.models import build_model
from retraining.privacy import epsilon_spent
from retraining.records import DpSgdRun
from retraining.settings import Settings
from retraining.spec import PipelineSpec
from retraining.training import TrainedModel, plan_run, train
from tests.retraining.fake_trainer import write_fake_trainer
from tests.retraining.small_pipeline import small_rows, small_spec

ROWS = small_rows(400, seed=1)
REFERENCE = small_rows(100, seed=2)
SPEC = small_spec()


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir(mode=0o700)
    return folder


def train_with(
    trainer: Path,
    workdir: Path,
    *,
    spec: PipelineSpec = SPEC,
    run: DpSgdRun | None = None,
    on_line: Callable[[str], None] = lambda _line: None,
) -> TrainedModel:
    return train(
        ROWS,
        REFERENCE,
        spec,
        run or plan_run(len(ROWS), spec.training),
        trainer_python=trainer,
        workdir=workdir,
        on_line=on_line,
    )


# --- the plan -------------------------------------------------------------------------------


def test_a_plan_spends_the_budget_of_a_run_and_covers_the_epochs() -> None:
    run = plan_run(1000, SPEC.training)

    assert run.sampling_probability == 64 / 1000
    assert run.steps == 79  # 5 epochs of 1000 rows in batches of 64: 78.1
    assert (run.n_rows, run.expected_batch_rows, run.l2_clip_norm) == (1000, 64, 1)
    spent = epsilon_spent([run], delta=SPEC.training.delta)
    assert 0.99 * SPEC.training.epsilon_per_run < spent <= SPEC.training.epsilon_per_run


def test_fewer_rows_than_one_batch_are_refused_and_just_enough_are_not() -> None:
    with pytest.raises(BatchRefusedError, match=r"^63 rows .* asks for 64") as caught:
        plan_run(63, SPEC.training)

    assert caught.value.code == "too_few_rows"
    assert plan_run(64, SPEC.training).sampling_probability == 1


def test_a_delta_that_would_allow_to_give_one_row_away_is_refused() -> None:
    policy = small_spec(delta=1e-3).training

    assert plan_run(999, policy).n_rows == 999
    for n_rows in (1000, 1001):
        with pytest.raises(BatchRefusedError, match="Lower delta") as caught:
            plan_run(n_rows, policy)
        assert caught.value.code == "delta_too_large"


# --- what the trainer gets ------------------------------------------------------------------


def test_the_trainer_gets_exactly_what_was_planned(tmp_path: Path, workdir: Path) -> None:
    spec = small_spec(l2_clip_norm=0.7, optimizer="sgd", learning_rate=0.3)
    run = plan_run(len(ROWS), spec.training)

    lines: list[str] = []
    trained = train_with(
        write_fake_trainer(tmp_path / "trainer"), workdir, spec=spec, run=run, on_line=lines.append
    )

    request = json.loads((workdir / "request.json").read_text())
    assert request["dp"] == {
        "l2_clip_norm": 0.7,
        "noise_multiplier": run.noise_multiplier,
        "expected_batch_size": 64,
        "steps": run.steps,
    }
    assert (request["optimizer"], request["learning_rate"]) == ("sgd", 0.3)
    assert request["architecture"] == {"kind": "linear"}
    preprocessing = fit_preprocessing(spec, REFERENCE)
    assert np.array_equal(np.load(workdir / "features.npy"), preprocessing.encode(ROWS))
    assert np.array_equal(np.load(workdir / "labels.npy"), labels_of(ROWS, spec))
    assert np.array_equal(np.load(workdir / "probe.npy"), preprocessing.encode(REFERENCE))
    assert Preprocessing.from_json(trained.preprocessing) == preprocessing
    assert trained.run == run
    assert trained.versions == {"tensorflow": "0", "tensorflow_privacy": "0"}
    assert lines == ["epoch 1"]


def test_the_trainer_inherits_no_secret_and_no_home(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    trainer = write_fake_trainer(
        tmp_path / "trainer",
        after="pathlib.Path('environment.json').write_text(json.dumps(dict(os.environ)))",
    )

    train_with(trainer, workdir)

    environment = json.loads((workdir / "environment.json").read_text())
    assert "secret" not in environment.values()
    assert environment["HOME"] == str(workdir)
    assert (Path(environment["PYTHONPATH"]) / "dp_trainer" / "__main__.py").is_file()


def test_a_trainer_that_would_send_rows_away_reaches_nobody_and_the_report_says_so(
    tmp_path: Path, workdir: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        trainer = write_fake_trainer(
            tmp_path / "trainer",
            before="import socket\nsent = socket.socket().connect_ex"
            f"(('127.0.0.1', {thief.getsockname()[1]})) == 0",
            after="pathlib.Path('sent.json').write_text(json.dumps(sent))",
        )

        trained = train_with(trainer, workdir)

    sent = json.loads((workdir / "sent.json").read_text())
    assert trained.isolation == str(network_isolation())
    assert sent == (network_isolation() != NO_NETWORK)


def test_isolation_that_fails_when_it_is_needed_stops_the_training(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found at the first child of a process is a demand for those that follow."""
    launcher = tmp_path / "child_launcher.py"
    launcher.write_text("import sys; sys.exit('unshare: No space left on device')")
    monkeypatch.setattr("retraining.training.network_isolation", lambda: NO_NETWORK)
    monkeypatch.setattr("retraining.children._LAUNCHER", launcher)

    with pytest.raises(TrainerError, match=r"no model was made\..*unshare: No space left"):
        train_with(write_fake_trainer(tmp_path / "trainer"), workdir)


def test_the_labels_of_the_reference_set_do_not_reach_the_trainer(
    tmp_path: Path, workdir: Path
) -> None:
    trainer = write_fake_trainer(tmp_path / "trainer")
    unlabelled = REFERENCE.drop(columns="label")

    train(
        ROWS,
        unlabelled,
        SPEC,
        plan_run(len(ROWS), SPEC.training),
        trainer_python=trainer,
        workdir=workdir,
        on_line=print,
    )

    assert len(np.load(workdir / "labels.npy")) == len(ROWS)


def test_a_run_that_was_planned_for_other_rows_does_not_start(
    tmp_path: Path, workdir: Path
) -> None:
    trainer = write_fake_trainer(tmp_path / "trainer")
    for change in ({"n_rows": 500}, {"sampling_probability": 0.01}):
        run = plan_run(len(ROWS), SPEC.training).model_copy(update=change)
        with pytest.raises(TrainerError, match="Plan it again"):
            train_with(trainer, workdir, run=run)
    assert not list(workdir.iterdir())


def test_a_missing_trainer_is_named_with_the_way_to_get_it(tmp_path: Path, workdir: Path) -> None:
    with pytest.raises(ConfigError, match="make setup"):
        train_with(tmp_path / "nowhere" / "python", workdir)


def test_settings_that_the_trainer_does_not_offer_are_refused(
    tmp_path: Path, workdir: Path
) -> None:
    trainer = write_fake_trainer(tmp_path / "trainer")

    endless = plan_run(len(ROWS), SPEC.training).model_copy(update={"steps": 2_000_000})
    with pytest.raises(ConfigError, match=r"small: training: dp\.steps"):
        train_with(trainer, workdir, run=endless)


# --- trainers that lie ----------------------------------------------------------------------


def test_an_honest_trainer_is_believed(tmp_path: Path, workdir: Path) -> None:
    trained = train_with(write_fake_trainer(tmp_path / "trainer"), workdir)

    model = build_model(
        weights=trained.weights,
        architecture=trained.architecture,
        preprocessing=trained.preprocessing,
    )
    assert (model.predict(ROWS) == 0.5).all()


LIES = {
    "less noise than asked": "result['noise_multiplier'] *= 0.99",
    "more steps": "result['steps'] += 1",
    "a larger clip norm": "result['l2_clip_norm'] = 50.0",
    "a larger batch": "result['expected_batch_size'] += 1",
    "other rows": "result['rows'] -= 1",
    "noise as a text": "result['noise_multiplier'] = str(result['noise_multiplier'])",
    "a field more": "result['epsilon'] = 0.1",
    "a field less": "del result['rows']",
    "another schema": "result['schema'] = 2",
    "a version with a line break": r"result['versions']['tensorflow'] = '2\nall is well'",
    "weights outside the folder": "result['weights'] = '../weights.safetensors'",
    "weights by an absolute path": "result['weights'] = '/etc/passwd'",
    "probabilities outside the folder": "result['probe_probabilities'] = '../p.npy'",
    "weights that are the private rows": "result['weights'] = 'features.npy'",
    "NaN in the weights": "weights['dense_0/bias'][0] = np.nan",
    "infinity in the weights": "weights['dense_0/kernel'][0, 0] = np.inf",
    "weights of another shape": "weights['dense_0/kernel'] = np.zeros((k, d), np.float32)",
    "weights in doubles": "weights['dense_0/bias'] = np.zeros(k)",
    "a tensor more": "weights['backdoor'] = np.zeros(2, np.float32)",
    "a tensor less": "del weights['dense_0/bias']",
    "weights that predict otherwise": "weights['dense_0/bias'][0] = 0.001",
    "probabilities of another model": "probabilities[-1] = [0.4998, 0.5002]",
    "NaN in the probabilities": "probabilities[0, 0] = np.nan",
    "probabilities for fewer rows": "probabilities = probabilities[:-1]",
    "probabilities in doubles": "probabilities = probabilities.astype(float)",
    "probabilities column by column": "probabilities = np.asfortranarray(probabilities)",
    "probabilities as a pickle": "probabilities = probabilities.astype(object)",
}

CUNNING = {
    "no result": "os.unlink('result.json')",
    "an empty result": "open('result.json', 'w').close()",
    "a result that is no JSON": "open('result.json', 'w').write('{')",
    "a result with a key twice": (
        "open('result.json', 'w').write(json.dumps(result)[:-1] + ', \"rows\": 1}')"
    ),
    "a huge result": "open('result.json', 'a').write(' ' * 100_000)",
    "no weights": "os.unlink('weights.safetensors')",
    "huge weights": "open('weights.safetensors', 'ab').truncate(10_000_000)",
    "half the weights": "os.truncate('weights.safetensors', 80)",
    "half the probabilities": "os.truncate('probe_probabilities.npy', 200)",
    "a link as weights": (
        "os.rename('weights.safetensors', '../w'); os.symlink('../w', 'weights.safetensors')"
    ),
    "a link as result": "os.rename('result.json', '../r'); os.symlink('../r', 'result.json')",
    "a pipe as weights": "os.unlink('weights.safetensors'); os.mkfifo('weights.safetensors')",
    "a folder as result": "os.unlink('result.json'); os.mkdir('result.json')",
    "an exit status": "sys.exit(3)",
    "an end by a signal": "os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("lie", [*LIES, *CUNNING])
def test_a_trainer_that_lies_is_refused(tmp_path: Path, workdir: Path, lie: str) -> None:
    trainer = write_fake_trainer(
        tmp_path / "trainer", before=LIES.get(lie, ""), after=CUNNING.get(lie, "")
    )

    with pytest.raises(TrainerError) as caught:
        train_with(trainer, workdir)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lie", ["a huge result", "huge weights"])
def test_a_file_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, workdir: Path, lie: str
) -> None:
    trainer = write_fake_trainer(tmp_path / "trainer", after=CUNNING[lie])

    with pytest.raises(TrainerError, match=r"has more than the expected \d+ bytes"):
        train_with(trainer, workdir)


def test_a_trainer_that_dies_midway_leaves_no_model(tmp_path: Path, workdir: Path) -> None:
    trainer = write_fake_trainer(
        tmp_path / "trainer", before="sys.exit('dp_trainer: Training diverged.')"
    )

    with pytest.raises(TrainerError, match=r"exited with status 1 .* Training diverged\."):
        train_with(trainer, workdir)


def test_a_trainer_that_hangs_is_ended(tmp_path: Path, workdir: Path) -> None:
    spec = SPEC.model_copy(
        update={"training": SPEC.training.model_copy(update={"limit_seconds": 2})}
    )
    trainer = write_fake_trainer(tmp_path / "trainer", before="time.sleep(60)")

    with pytest.raises(TrainerError, match="within 2 seconds"):
        train_with(trainer, workdir, spec=spec)


def test_a_trainer_that_takes_too_much_memory_is_ended(tmp_path: Path, workdir: Path) -> None:
    spec = small_spec(limit_memory_mib=2048)
    trainer = write_fake_trainer(tmp_path / "trainer", before="np.ones((3 << 30,), np.uint8)")

    with pytest.raises(TrainerError, match="2048 MiB"):
        train_with(trainer, workdir, spec=spec)


# --- the real one ---------------------------------------------------------------------------


@pytest.fixture
def trainer_python() -> Path:
    path = Path(os.environ.get("RETRAINING_TRAINER_PYTHON", Settings().trainer_python))
    if not path.exists():
        pytest.skip(f"there is no trainer at {path}; make its environment with `make setup`")
    return path


@pytest.mark.trainer
@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    [{"kind": "linear"}, {"kind": "mlp", "hidden_units": [8, 4], "activation": "relu"}],
)
def test_the_real_trainer_learns_and_its_model_predicts_the_same_here(
    trainer_python: Path, workdir: Path, architecture: dict[str, object]
) -> None:
    spec = small_spec(architecture=architecture, epochs=20)
    lines: list[str] = []

    trained = train_with(trainer_python, workdir, spec=spec, on_line=lines.append)

    model = build_model(
        weights=trained.weights,
        architecture=trained.architecture,
        preprocessing=trained.preprocessing,
    )
    probe = fit_preprocessing(spec, REFERENCE).encode(REFERENCE)
    tensorflows = np.load(workdir / "probe_probabilities.npy")
    np.testing.assert_allclose(model.predict_encoded(probe), tensorflows, atol=2e-6)
    fresh = small_rows(500, seed=9)
    accuracy = (model.predict(fresh).argmax(axis=1) == labels_of(fresh, spec)).mean()
    assert accuracy > 0.8
    assert epsilon_spent([trained.run], delta=spec.training.delta) <= 3
    assert trained.versions["tensorflow"].startswith("2.15")
    assert trained.isolation == str(network_isolation())
    assert f"{trained.run.steps} of {trained.run.steps} steps" in lines[-1]


@pytest.mark.trainer
@pytest.mark.slow
def test_two_real_trainings_differ_because_nobody_knows_the_noise(
    trainer_python: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()

    first, second = (train_with(trainer_python, folder) for folder in folders)

    assert first.weights != second.weights
    assert first.preprocessing == second.preprocessing


@pytest.mark.trainer
@pytest.mark.slow
def test_a_refusal_of_the_real_trainer_reaches_the_reader(
    trainer_python: Path, workdir: Path
) -> None:
    (workdir / "weights.safetensors").write_bytes(b"left over")

    with pytest.raises(TrainerError, match=r"weights\.safetensors is there already"):
        train_with(trainer_python, workdir)
