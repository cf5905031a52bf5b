"""The step against a naive loop, its noise, its samples, and the models that it must not train."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.trainer, pytest.mark.xdist_group("trainer_step")]

ARCHITECTURES = ["linear", "mlp_tanh", "mlp_relu_deep"]
BATCH_SIZES = [0, 1, 16, 32]  # none, one, the expected B, twice B


@pytest.fixture(scope="module")
def measured(trainer_python: str, trainer_environment: dict[str, str]) -> dict[str, Any]:
    """All measurements of step_checks.py, from one process: TensorFlow takes 5 s to start."""
    script = Path(__file__).with_name("step_checks.py")
    finished = subprocess.run(
        [trainer_python, "-s", str(script)],
        env=trainer_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    print(finished.stderr[-4000:])
    assert finished.returncode == 0
    return json.loads(finished.stdout)


@pytest.mark.parametrize("size", BATCH_SIZES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_equals_clipping_row_by_row(measured, architecture, size):
    found = measured["exactness"][f"{architecture}/{size}"]

    assert found["finite"]
    assert found["error"] < 1e-5 * found["norm"] + 1e-11


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_naive_loop_clipped_some_rows_and_spared_others(measured, architecture):
    assert 0 < measured["exactness"][f"{architecture}/32"]["clipped"] < 32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batches_of_every_size_use_one_graph(measured, architecture):
    assert measured["exactness"][f"{architecture}/graphs"] == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_hostile_row_moves_a_step_by_the_clipping_norm_over_b_and_no_more(measured, architecture):
    found = {
        key: change
        for key, change in measured["influence_of_one_row"].items()
        if key.startswith(f"{architecture}/")
    }

    assert len(found) == 9
    # Joining or leaving moves it by C/B, so that replacing moves it by at most 2C/B. The row was
    # chosen to reach the bound; one that stays far below would prove nothing.
    assert all(0.999 < change < 1.0001 for change in found.values()), found


def test_the_noise_is_sigma_c_over_b_whatever_the_batch(measured):
    noise = measured["noise"]

    assert set(noise["std"]) == {"0", "1", "40", "80"}
    # 121,000 values each: 1% is five standard errors, and 1,210,000: 0.4% is six.
    assert all(abs(std - 1) < 0.01 for std in noise["std"].values()), noise
    assert abs(noise["std_of_many"] - 1) < 0.004


def test_the_noise_is_gaussian_with_mean_zero(measured):
    assert abs(measured["noise"]["mean_of_many"]) < 0.005
    assert abs(measured["noise"]["kurtosis"] - 3) < 0.03


def test_layers_and_steps_get_noise_of_their_own(measured):
    noise = measured["noise"]

    assert len(noise["std_of_layers"]) == 3
    assert all(abs(std - 1) < 0.01 for std in noise["std_of_layers"])
    assert noise["correlation_of_layers"] < 0.01
    assert noise["correlation_of_steps"] < 0.02


def test_batches_are_poisson_samples(measured):
    found = measured["sampling"]

    # 400 rows at 0.1: binomial with mean 40 and variance 36. Shuffled batches have variance 0.
    assert found["size_mean"] == pytest.approx(40, abs=0.5)
    assert found["size_variance"] == pytest.approx(36, abs=3)
    assert found["rows_twice_in_a_batch"] == 0
    assert found["sizes_at_probability_one"] == [50]


def test_each_row_is_sampled_on_its_own_in_every_step(measured):
    found = measured["sampling"]
    least, most = found["row_frequency"]

    assert 0.08 < least < 0.1 < most < 0.12
    assert (
        found["largest_correlation_of_rows"] < 0.085
    )  # 80,000 pairs of 5,000 steps: 6 / sqrt(5000)
    assert found["next_step_frequency"] == pytest.approx(0.01, abs=0.0005)


def test_empty_batches_happen(measured):
    assert measured["sampling"]["empty_share"] == pytest.approx(0.9**5, abs=0.015)


def test_a_model_of_dense_layers_is_trained(measured):
    assert measured["unsafe_models"]["plain"] == ""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("batch_norm", "Fast gradient clipping is off"),
        ("batch_norm_without_weights", "keeps statistics of private rows"),
        ("layer_norm", "Fast gradient clipping is off"),
        ("convolution", "Fast gradient clipping is off"),
        ("dense_on_images", "not known to be exact for Flatten"),
        ("dropout", "not known to be exact for Dropout"),
        ("layer_used_twice", "used twice"),
        ("regulariser", "regularisers are not clipped"),
        ("reduction_sum", "found sum"),
        ("reduction_none", "found none"),
        ("one_microbatch", "Microbatches clip means"),
        ("a_microbatch_per_row", "Microbatches clip means"),
        ("shuffled_fit", "shuffles"),
    ],
)
def test_a_model_that_would_break_the_bound_is_refused(measured, model, message):
    assert message in measured["unsafe_models"][model]


def test_a_fixed_seed_repeats_a_run_and_without_one_no_run_repeats(measured):
    training = measured["training"]

    assert training["same_seed_equal"]
    assert not training["other_seed_equal"]
    assert not training["without_seed_equal"]


def test_both_optimisers_learn_a_simple_rule_under_noise(measured):
    assert min(measured["training"]["accuracy"].values()) > 0.9


def test_progress_counts_steps_and_seconds_and_says_no_loss(measured):
    lines = measured["training"]["lines"]

    assert [line.rpartition(",")[0] for line in lines] == [
        "epoch 1: 25 of 60 steps",
        "epoch 2: 50 of 60 steps",
        "epoch 3: 60 of 60 steps",
    ]


def test_a_run_that_diverged_hands_back_no_model(measured):
    assert "diverged" in measured["training"]["diverged"]


def test_memory_of_a_step_does_not_hold_a_gradient_per_row(measured):
    assert measured["memory"]["growth_mib"] < 300
