"""`retraining init`: a newcomer's own files become a pipeline that passes `check` and `run`."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from retraining.cli import app
from retraining.digests import Digest
from retraining.init_spec.tables import guess_dialect
from retraining.spec import CsvFormat, PipelineSpec, load_spec
from tests.fixtures.workspace import make_workspace

pytestmark = pytest.mark.slow  # whole weeks are run

WEEKS = ("2026-W07", "2026-W08")
Frame = Callable[[int, int], pd.DataFrame]


def census(n_rows: int, seed: int) -> pd.DataFrame:
    """Like the census table that everybody begins with: numbers, categories with gaps, text ids."""
    random = np.random.default_rng(seed)
    age = random.integers(17, 91, n_rows)
    hours = random.integers(1, 100, n_rows)
    gain = np.where(random.random(n_rows) < 0.1, random.integers(100, 99999, n_rows), 0)
    rich = (age - 50) / 20 + (hours - 50) / 15 + (gain > 0) + random.normal(0, 0.4, n_rows) > 0
    return pd.DataFrame(
        {
            "person_id": [f"p{seed}-{number}" for number in range(n_rows)],
            "age": age,
            "workclass": random.choice(["Private", "State-gov", "?", "Never worked"], n_rows),
            "capital_gain": gain,
            "hours_per_week": hours,
            "joined": [f"2026-02-{1 + number % 28:02d}" for number in range(n_rows)],
            "native_country": random.choice(["United-States", "Mexico", "Ünïted: {x}"], n_rows),
            "income": np.where(rich, ">50K", "<=50K"),
        }
    )


def credit(n_rows: int, seed: int) -> pd.DataFrame:
    """Like a credit table: integers for everything, classes 1 and 2, a yes/no column."""
    random = np.random.default_rng(seed)
    amount = np.exp(random.normal(7.5, 0.9, n_rows))
    months = random.integers(4, 73, n_rows)
    bad = (np.log(amount) - 7.5) + (months - 38) / 15 + random.normal(0, 0.4, n_rows) > 0
    return pd.DataFrame(
        {
            "id": np.arange(n_rows) + 10_000 * seed,
            "months": months,
            "amount": amount,
            "own_telephone": random.random(n_rows) < 0.4,
            "purpose": random.choice(["A40", "A41", "A410"], n_rows),
            "risk": np.where(bad, 2, 1),
        }
    )


def deliver(folder: Path, make: Frame, *, suffix: str, n_rows: int = 250, **how: object) -> Path:
    """Two sources with two weeks each, and a reference set; returns the inbox."""
    inbox = folder / "in"
    for number, source in enumerate(("branch north", "web")):
        (inbox / source).mkdir(parents=True)
        for position, week in enumerate(WEEKS):
            rows = make(n_rows, 1 + 2 * number + position)
            write(rows, inbox / source / f"{week}{suffix}", **how)
    write(make(700, 9), folder / f"reference{suffix}", **how)
    return inbox


def write(rows: pd.DataFrame, path: Path, **how: object) -> None:
    if path.suffix == ".csv":
        rows.to_csv(path, index=False, **how)  # type: ignore[call-overload]
    else:
        rows.to_parquet(path, index=False)


class Newcomer:
    """Somebody with files, a workspace and a folder of pipeline files."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.home = base / "workspace"
        trainer = make_workspace(base / "elsewhere").settings.trainer_python
        self.environment = {
            "RETRAINING_PIPELINES": str(base / "pipelines"),
            "RETRAINING_TRAINER_PYTHON": str(trainer),
        }

    def call(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["--home", str(self.home), *arguments], env=self.environment)

    def init(self, inbox: Path, label: str, *arguments: str, suffix: str = ".csv") -> Result:
        reference = str(self.base / f"reference{suffix}")
        return self.call(
            *("init", "mine", "--inbox", str(inbox), "--reference", reference),
            *("--label", label, *arguments),
        )

    @property
    def spec(self) -> PipelineSpec:
        return load_spec(self.base / "pipelines" / "mine.yaml")


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer(tmp_path)


@pytest.mark.parametrize(
    ("make", "label", "suffix", "how"),
    [
        (census, "income", ".csv", {}),
        (census, "income", ".csv", {"sep": ";", "decimal": ","}),
        (census, "income", ".csv", {"sep": "\t", "encoding": "latin-1"}),
        (credit, "risk", ".csv", {"sep": ";", "decimal": ","}),
        (census, "income", ".parquet", {}),
        (credit, "risk", ".parquet", {}),
    ],
    ids=[
        "census",
        "census-semicolon",
        "census-tab-latin1",
        "credit-comma",
        "census-pq",
        "credit-pq",
    ],
)
def test_own_files_become_a_pipeline_that_runs(
    newcomer: Newcomer, make: Frame, label: str, suffix: str, how: dict[str, object]
) -> None:
    inbox = deliver(newcomer.base, make, suffix=suffix, **how)
    drafted = newcomer.init(inbox, label, "--sign", suffix=suffix)
    assert drafted.exit_code == 0, drafted.output
    assert "retraining run mine --week 2026-W07" in drafted.output
    assert "would be" not in drafted.output  # nothing refused, nothing quarantined
    assert newcomer.call("check", "mine").exit_code == 0
    for week in WEEKS:
        ran = newcomer.call("run", "mine", "--week", week)
        assert ran.exit_code == 0, ran.output
        assert "signature verified" in ran.output
    verified = newcomer.call("verify")
    assert "Verified: 2 concluded weeks of mine" in verified.output


def test_the_draft_guesses_roles_types_bounds_and_classes(newcomer: Newcomer) -> None:
    newcomer.init(deliver(newcomer.base, census, suffix=".csv"), "income")
    spec = newcomer.spec
    assert (spec.row_id, spec.event_time, spec.label.column) == ("person_id", "joined", "income")
    assert spec.label.classes == ("<=50K", ">50K")
    features = {feature.name: feature for feature in spec.features}
    assert set(features) == {"age", "workclass", "capital_gain", "hours_per_week", "native_country"}
    age = features["age"]
    assert age.kind == "number" and age.scale == "linear"
    assert age.min == 0 and 120 <= age.max <= 140  # seen 17 to 90: half the range on either side
    gain = features["capital_gain"]
    assert gain.kind == "number" and (gain.scale, gain.min) == ("log", 0)
    country = features["native_country"]
    assert country.kind == "category"
    assert country.categories == ("Mexico", "United-States", "Ünïted: {x}")
    assert [source.name for source in spec.sources] == ["branch_north", "web"]
    assert all(source.key_id == source.name for source in spec.sources)
    assert spec.sources[0].uri == str(newcomer.base / "in" / "branch north" / "{week}.csv")


def test_every_guess_is_marked_for_review(newcomer: Newcomer) -> None:
    result = newcomer.init(
        deliver(newcomer.base, credit, suffix=".parquet"), "risk", suffix=".parquet"
    )
    text = (newcomer.base / "pipelines" / "mine.yaml").read_text()
    assert f"{text.count('# review:')} lines to review" in result.output
    for guessed in ("label:", "row_id:", "trust:", "key_id:", "epsilon_per_run:", "harm:"):
        assert any(guessed in line and "# review:" in line for line in text.splitlines()), guessed
    assert newcomer.spec.label.positive in ("1", "2")


def test_holdout_and_reference_are_cut_apart_and_pinned(newcomer: Newcomer) -> None:
    newcomer.init(deliver(newcomer.base, census, suffix=".csv"), "income")
    spec = newcomer.spec
    frames = {}
    for role in ("reference", "holdout"):
        pinned = getattr(spec, role)
        path = newcomer.home / pinned.uri
        assert pinned.digest == Digest.of(path.read_bytes())
        frames[role] = pd.read_csv(path, dtype=str, keep_default_na=False)
    ids = {role: set(frame["person_id"]) for role, frame in frames.items()}
    assert not ids["reference"] & ids["holdout"]
    whole = pd.read_csv(newcomer.base / "reference.csv", dtype=str, keep_default_na=False)
    assert ids["reference"] | ids["holdout"] == set(whole["person_id"])
    assert (len(frames["reference"]), len(frames["holdout"])) == (280, 420)
    # Values stay as they were written: no id becomes a number, no date is put another way.
    kept = whole.set_index("person_id").loc[frames["holdout"]["person_id"]].reset_index()
    pd.testing.assert_frame_equal(kept[frames["holdout"].columns], frames["holdout"])


def test_a_given_holdout_is_used_and_the_reference_set_kept_whole(newcomer: Newcomer) -> None:
    inbox = deliver(newcomer.base, census, suffix=".csv")
    write(census(333, 77), newcomer.base / "judge.csv")
    result = newcomer.init(inbox, "income", "--holdout", str(newcomer.base / "judge.csv"))
    assert "No holdout was given" not in result.output
    assert len(pd.read_csv(newcomer.home / newcomer.spec.holdout.uri)) == 333
    assert len(pd.read_csv(newcomer.home / newcomer.spec.reference.uri)) == 700


def test_without_sign_only_the_providers_can_sign(newcomer: Newcomer) -> None:
    inbox = deliver(newcomer.base, census, suffix=".csv")
    result = newcomer.init(inbox, "income")
    assert "sign-batch" in result.output
    assert not list(inbox.rglob("*.dsse.json"))
    ran = newcomer.call("run", "mine", "--week", WEEKS[0])
    assert ran.exit_code in (2, 3), ran.output  # unsigned batches are refused


def test_reference_rows_with_gaps_are_left_out_and_counted(newcomer: Newcomer) -> None:
    inbox = deliver(newcomer.base, credit, suffix=".parquet")
    rows = credit(700, 9)
    rows.loc[:11, "amount"] = float("nan")
    write(rows, newcomer.base / "reference.parquet")
    result = newcomer.init(inbox, "risk", suffix=".parquet")
    assert "12 reference rows lack a value" in result.output
    text = (newcomer.base / "pipelines" / "mine.yaml").read_text()
    assert "12 of 700 reference rows lack it" in text


def test_what_the_draft_would_not_let_through_is_said_before_the_first_run(
    newcomer: Newcomer,
) -> None:
    inbox = deliver(newcomer.base, census, suffix=".csv")
    rows = census(250, 4)
    rows.loc[:4, "workclass"] = "Federal-gov"
    write(rows, inbox / "web" / f"{WEEKS[1]}.csv")
    result = newcomer.init(inbox, "income")
    assert "web 2026-W08: 5 of 250 rows would be quarantined (unknown_category:workclass 5)" in (
        result.output
    )


def test_images_become_one_feature(newcomer: Newcomer) -> None:
    def pictures(n_rows: int, seed: int) -> pd.DataFrame:
        random = np.random.default_rng(seed)
        pixels = random.integers(0, 17, (n_rows, 36), dtype=np.uint8)
        pixels[0] = 16
        return pd.DataFrame(
            {
                "name": [f"{seed}-{number}.png" for number in range(n_rows)],
                "pixels": [bytes(row) for row in pixels],
                "kind": random.choice(["cat", "dog", "owl"], n_rows),
            }
        )

    inbox = deliver(newcomer.base, pictures, suffix=".parquet")
    result = newcomer.init(inbox, "kind", suffix=".parquet")
    assert result.exit_code == 0, result.output
    [feature] = newcomer.spec.features
    assert feature.kind == "image"
    assert (feature.height, feature.width, feature.channels, feature.max_value) == (6, 6, 1, 16)
    assert newcomer.spec.label.positive is None


def test_a_folder_per_week_is_a_source_too(newcomer: Newcomer) -> None:
    inbox = newcomer.base / "in"
    for week in WEEKS:
        (inbox / "web" / week).mkdir(parents=True)
        for part in range(2):
            write(census(150, part + len(week)), inbox / "web" / week / f"{part}.csv")
    write(census(700, 9), newcomer.base / "reference.csv")
    assert newcomer.init(inbox, "income").exit_code == 0
    assert newcomer.spec.sources[0].uri.endswith("in/web/{week}")
    assert newcomer.spec.sources[0].max_rows == 10 * 300


def test_a_second_model_uses_the_same_installation(newcomer: Newcomer) -> None:
    inbox = deliver(newcomer.base, census, suffix=".csv")
    newcomer.init(inbox, "income", "--sign")
    (inbox / "shop").mkdir()
    write(census(250, 50), inbox / "shop" / f"{WEEKS[0]}.csv")
    reference = str(newcomer.base / "reference.csv")
    second = newcomer.call(
        *("init", "other", "--inbox", str(inbox), "--reference", reference, "--label", "income")
    )
    assert second.exit_code == 0, second.output
    listed = newcomer.call("keys", "list").output
    assert [line for line in listed.splitlines() if " shop " in line and "since 2" in line]
    assert [line for line in listed.splitlines() if " web " in line and "since 1" in line]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.drop(columns="income"), "there is no label column 'income'"),
        (lambda rows: rows.drop(columns="person_id"), "no column names each row"),
        (
            lambda rows: rows.drop(columns="person_id").assign(metres=range(0, 7000, 10)),
            "no column names each row",
        ),
        (lambda rows: rows.assign(income="rich"), "has 1 different values"),
        (lambda rows: rows.assign(income=np.arange(len(rows)) / 7), "another task"),
        (
            lambda rows: rows.assign(note=[f"note {i}" for i in range(len(rows))]),
            "'note' is text with 700 different values",
        ),
        (lambda rows: rows.head(30), "expected at least 40"),
        (lambda rows: rows.assign(extra=1), "has other columns than"),
    ],
    ids=[
        "label",
        "id",
        "id-is-measured",
        "one-class",
        "regression",
        "free-text",
        "few-rows",
        "extra-column",
    ],
)
def test_files_that_cannot_work_are_refused_with_what_to_change(
    newcomer: Newcomer, spoil: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    inbox = deliver(newcomer.base, census, suffix=".csv")
    write(spoil(census(700, 9)), newcomer.base / "reference.csv")
    result = newcomer.init(inbox, "income")
    assert result.exit_code == 1, result.output
    assert said in result.stderr
    assert not (newcomer.base / "pipelines" / "mine.yaml").exists()
    # Corrected, the same command works.
    write(census(700, 9), newcomer.base / "reference.csv")
    assert newcomer.init(inbox, "income").exit_code == 0


@pytest.mark.parametrize("what", ["no-folder", "empty", "mixed", "not-a-table", "truncated"])
def test_an_inbox_that_is_none_is_refused_with_the_layout(newcomer: Newcomer, what: str) -> None:
    inbox = newcomer.base / "in"
    write(census(700, 9), newcomer.base / "reference.csv")
    suffix = ".csv"
    if what != "no-folder":
        (inbox / "web").mkdir(parents=True)
    if what == "mixed":
        write(census(200, 1), inbox / "web" / "2026-W07.csv")
        write(census(200, 1), inbox / "web" / "2026-W08.parquet")
    if what == "not-a-table":
        (inbox / "web" / "2026-W07.csv").write_bytes(b"\x00\xff\x00")
    if what == "truncated":
        write(census(200, 1), inbox / "web" / "2026-W07.parquet")
        whole = (inbox / "web" / "2026-W07.parquet").read_bytes()
        (inbox / "web" / "2026-W07.parquet").write_bytes(whole[: len(whole) // 2])
    result = newcomer.init(inbox, "income", suffix=suffix)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("retraining: ") and "Traceback" not in result.output


def test_an_existing_pipeline_file_is_never_overwritten(newcomer: Newcomer) -> None:
    inbox = deliver(newcomer.base, census, suffix=".csv")
    newcomer.init(inbox, "income")
    path = newcomer.base / "pipelines" / "mine.yaml"
    before = path.read_bytes()
    result = newcomer.init(inbox, "income")
    assert result.exit_code == 1 and "is not overwritten" in result.stderr
    assert path.read_bytes() == before


def test_a_name_that_cannot_be_one_leaves_no_file_behind(newcomer: Newcomer) -> None:
    inbox = deliver(newcomer.base, census, suffix=".csv")
    arguments = ("--inbox", str(inbox), "--reference", str(newcomer.base / "reference.csv"))
    result = newcomer.call("init", "My Model", *arguments, "--label", "income")
    assert result.exit_code == 1 and "My Model" in result.stderr
    assert not list((newcomer.base / "pipelines").glob("*"))


@pytest.mark.parametrize(
    ("how", "delimiter", "decimal", "encoding"),
    [
        ({}, ",", ".", "utf-8"),
        ({"sep": ";", "decimal": ","}, ";", ",", "utf-8"),
        ({"sep": ";"}, ";", ".", "utf-8"),
        ({"sep": "|", "encoding": "latin-1"}, "|", ".", "latin-1"),
        ({"quoting": csv.QUOTE_ALL}, ",", ".", "utf-8"),
    ],
)
def test_the_dialect_of_a_csv_file_is_guessed(
    tmp_path: Path, how: dict[str, object], delimiter: str, decimal: str, encoding: str
) -> None:
    rows = credit(50, 1).assign(place="Göteborg")
    write(rows, tmp_path / "rows.csv", **how)
    guessed = guess_dialect(tmp_path / "rows.csv")
    assert (guessed.delimiter, guessed.decimal, guessed.encoding) == (delimiter, decimal, encoding)


def test_the_draft_is_plain_yaml_that_says_what_it_says(newcomer: Newcomer) -> None:
    """Names and values from strangers' files must never become YAML of their own."""
    awkward = ["yes", "null", "a: b", "# c", "[d", "{week}", "'e'", '"f"', "1e5", "~", " g", "ü\\"]

    def odd(n_rows: int, seed: int) -> pd.DataFrame:
        rows = census(n_rows, seed)
        values = [awkward[number % len(awkward)] for number in range(n_rows)]
        return rows.assign(**{"odd: {name} # 1": values})

    inbox = deliver(newcomer.base, odd, suffix=".parquet")
    result = newcomer.init(inbox, "income", suffix=".parquet")
    assert result.exit_code == 0, result.output
    [feature] = [f for f in newcomer.spec.features if f.name == "odd: {name} # 1"]
    assert feature.kind == "category" and feature.categories == tuple(sorted(awkward))
    raw = yaml.safe_load((newcomer.base / "pipelines" / "mine.yaml").read_text())
    assert not isinstance(newcomer.spec.sources[0].format, CsvFormat)
    assert raw["sources"][0]["format"] == "parquet"
