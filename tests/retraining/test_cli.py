"""The command line: the same steps without Airflow, and one clear line when something is wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from retraining.cli import app
from retraining.settings import REPOSITORY
from tests.fixtures.workspace import WEEKS, Workspace, flip_labels, make_workspace

pytestmark = pytest.mark.slow  # whole weeks are run

PROGRAM = Path(sys.executable).with_name("retraining")
FIRST, SECOND = WEEKS[:2]


def call(workspace: Workspace, *arguments: str) -> Result:
    """Run a command in this process, on that workspace."""
    return CliRunner().invoke(
        app, ["--home", str(workspace.home), *arguments], env=workspace.environment
    )


def refused(result: Result) -> str:
    """The one line of a command that failed as it should: status 1, no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("retraining: ")
    assert "Traceback" not in result.output
    return result.stderr.removeprefix("retraining: ").strip()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A promoted week, and a poisoned one that was refused."""
    workspace = make_workspace(tmp_path_factory.mktemp("story") / "workspace")
    workspace.edit_spec({"sources": _all_stop(workspace)})
    workspace.deliver(FIRST)
    workspace.deliver(SECOND, ["gateway"])
    workspace.deliver(SECOND, ["feed"], change=flip_labels("spam", "ham", share=1.0))
    promoted = call(workspace, "run", workspace.model, "--week", FIRST)
    assert promoted.exit_code == 0, promoted.output
    poisoned = call(workspace, "run", workspace.model, "--week", SECOND)
    assert poisoned.exit_code in (2, 3), poisoned.output
    yield workspace


def _all_stop(workspace: Workspace) -> list[dict[str, object]]:
    import yaml

    sources = yaml.safe_load(workspace.spec_file.read_text())["sources"]
    return [source | {"on_refusal": "stop"} for source in sources]


# --- run and screen -------------------------------------------------------------------------


def test_a_week_runs_and_says_what_each_step_concluded(story: Workspace) -> None:
    entries = story.registry()
    assert entries[0].verdict == "PROMOTE"
    assert entries[1].verdict != "PROMOTE"
    assert entries[1].champion == entries[0].champion


def test_a_week_that_was_promoted_has_nothing_left_to_do(story: Workspace) -> None:
    again = call(story, "run", story.model, "--week", FIRST)
    assert again.exit_code == 0
    assert "promoted already" in again.output
    assert len(story.registry()) == 2


def test_json_carries_every_record_and_stdout_nothing_else(workspace: Workspace) -> None:
    result = call(workspace, "run", workspace.model, "--week", FIRST, "--dry-run", "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == {"PROMOTE": 0, "HOLD": 2, "REJECT": 3}[said["verdict"]]
    assert said["verdict"] == said["gate"]["verdict"] == "PROMOTE"
    assert not said["promoted"] and said["entry"] is None
    assert set(said["steps"]) == {
        *("pin", "screening", "training", "validation", "gate"),
        *(
            f"{step} {source} {FIRST}"
            for step in ("ingest", "provenance")
            for source in ("gateway", "feed")
        ),
    }
    for step in said["steps"].values():
        assert step["report"].startswith("sha256:") and step["attestation"].startswith("sha256:")
    assert workspace.registry() == []  # a dry run concludes nothing


def test_screening_alone_gives_the_digests_that_a_whole_run_gives(workspace: Workspace) -> None:
    screened = json.loads(
        call(workspace, "screen", workspace.model, "--week", FIRST, "--json").stdout
    )
    ran = json.loads(call(workspace, "run", workspace.model, "--week", FIRST, "--json").stdout)
    for name in set(screened["steps"]) - {"pin"}:
        assert ran["steps"][name]["report"] == screened["steps"][name]["report"]
        assert ran["steps"][name]["reused"] or name.startswith("ingest")
    assert "training" not in screened["steps"]


def test_screen_copies_the_suspicious_rows_and_names_the_refusal(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "workspace")
    workspace.edit_spec({"sources": _all_stop(workspace)})
    workspace.deliver(FIRST, ["gateway"])
    workspace.deliver(FIRST, ["feed"], change=flip_labels("spam", "ham", share=1.0))
    result = call(
        workspace, "screen", workspace.model, "--week", FIRST, "--out", str(tmp_path / "out")
    )
    assert result.exit_code == 3, result.output
    assert "refused" in result.output
    rows = pd.read_parquet(tmp_path / "out" / "suspicious_samples.parquet")
    assert len(rows) > 20
    assert (tmp_path / "out" / "suspicious_samples.csv").exists()
    assert workspace.registry() == []


def test_a_source_can_be_left_out_and_stands_on_record(workspace: Workspace) -> None:
    arguments = ("run", workspace.model, "--week", FIRST, "--leave-out", "feed", "--json")
    said = json.loads(call(workspace, *arguments).stdout)
    assert {batch["batch"]["source"] for batch in said["screening"]["batches"]} == {"gateway"}
    assert not [name for name in said["steps"] if "feed" in name]


# --- check ----------------------------------------------------------------------------------


def test_check_names_file_field_found_and_allowed(workspace: Workspace) -> None:
    workspace.edit_spec({"gate": {"margin": 7}, "training": {"epsilon_per_run": -1}})
    said = refused(call(workspace, "check", workspace.model))
    assert f"{workspace.spec_file}: gate.margin: found 7, allowed: " in said
    assert f"{workspace.spec_file}: training.epsilon_per_run: found -1" in said


def test_check_looks_at_every_file_and_says_which_are_wrong(workspace: Workspace) -> None:
    workspace.add_model("other_filter").edit_spec({"ownr": "nobody"})
    result = call(workspace, "check")
    assert "other_filter.yaml: ownr: no such field here" in refused(result)
    assert f"{workspace.model}: right" in result.stdout


def test_a_spec_may_be_a_path(workspace: Workspace) -> None:
    assert call(workspace, "check", str(workspace.spec_file)).exit_code == 0


def test_the_json_schema_that_ships_is_current() -> None:
    schema = REPOSITORY / "include" / "pipelines" / "schema.json"
    printed = CliRunner().invoke(app, ["check", "--json-schema"])
    assert printed.stdout == schema.read_text(), (
        "retraining check --json-schema > include/pipelines/schema.json"
    )


@pytest.mark.parametrize("model", ["spam_filter", "digit_reader"])
def test_the_pipeline_files_that_ship_are_right_and_point_editors_to_the_schema(model: str) -> None:
    import jsonschema
    import yaml

    path = REPOSITORY / "include" / "pipelines" / f"{model}.yaml"
    assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 0
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    schema = json.loads(path.with_name("schema.json").read_text())
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)


# --- champions, predict, show ---------------------------------------------------------------


def test_champions_lists_the_weeks_and_marks_who_serves(story: Workspace) -> None:
    shown = call(story, "champions", story.model)
    assert shown.exit_code == 0
    [promoted, other] = [line for line in shown.output.splitlines() if "2026-W" in line]
    assert "PROMOTE" in promoted and "(champion)" in promoted
    assert "(champion)" not in other
    listed = json.loads(call(story, "champions", story.model, "--json").stdout)
    assert [entry["week"] for entry in listed] == [FIRST, SECOND]


def test_predict_needs_no_labels_and_is_right_about_clear_rows(
    story: Workspace, tmp_path: Path
) -> None:
    holdout = pd.read_parquet(story.home / "data" / "holdout.parquet")
    asked, answer = tmp_path / "asked.csv", tmp_path / "answer.parquet"
    holdout.drop(columns="label").to_csv(asked, index=False, sep=";")  # as the feed writes
    result = call(story, "predict", story.model, str(asked), "--out", str(answer))
    assert result.exit_code == 0, result.output
    predicted = pd.read_parquet(answer)
    assert list(predicted.columns) == ["row_id", "prediction", "p_ham", "p_spam"]
    assert list(predicted["row_id"]) == list(holdout["row_id"])
    assert (predicted["prediction"] == holdout["label"]).mean() > 0.9
    assert predicted[["p_ham", "p_spam"]].sum(axis=1).round(6).eq(1).all()


def test_predict_says_which_column_holds_what_it_may_not(story: Workspace, tmp_path: Path) -> None:
    rows = pd.read_parquet(story.home / "data" / "holdout.parquet")
    rows.loc[3, "links"] = float("nan")
    rows.to_parquet(tmp_path / "rows.parquet")
    said = refused(call(story, "predict", story.model, str(tmp_path / "rows.parquet")))
    assert "Column 'links': 1 of 400 values" in said
    assert "missing.parquet" in refused(call(story, "predict", story.model, "missing.parquet"))


def test_show_finds_every_kind_of_record_by_its_first_digits(story: Workspace) -> None:
    listed = json.loads(call(story, "champions", story.model, "--json").stdout)
    decision = listed[1]["decision"].removeprefix("sha256:")
    shown = call(story, "show", decision[:10])
    assert shown.exit_code == 0, shown.output
    assert "attestation of gate" in shown.output
    assert "Signed by promoter, promoter of trust list version 1" in shown.output
    kinds = {
        listed[0]["decision"]: "attestation of gate",
        listed[0]["digest"]: "registry entry",
        listed[0]["ledger_head"]: "ledger entry",
        listed[0]["trust_list"]: "trust list",
        listed[0]["champion"]: "artefact",
    }
    for digest, kind in kinds.items():
        found = json.loads(call(story, "show", digest, "--json").stdout)
        assert (found["kind"], found["digest"], found["verified"]) == (kind, digest, True)


def test_show_walks_from_the_decision_to_the_delivered_bytes(story: Workspace) -> None:
    def look(digest: str) -> dict[str, dict[str, str]]:
        return json.loads(call(story, "show", digest, "--json").stdout)

    decision = json.loads(call(story, "champions", story.model, "--json").stdout)[0]["decision"]
    training = look(look(decision)["inputs"]["training"])
    screening = look(training["inputs"]["screening"])
    provenance = look(screening["inputs"][f"provenance/gateway/{FIRST}"])
    ingest = look(provenance["inputs"]["ingest"])
    assert "file/rows.parquet" in ingest["artefacts"]


def test_show_refuses_what_is_no_digest_and_says_when_nothing_has_it(story: Workspace) -> None:
    assert "expected a digest" in refused(call(story, "show", "the-last-one"))
    assert "No record" in refused(call(story, "show", "0" * 12))
    assert "0" * 64 in refused(call(story, "show", "0" * 64))


# --- how commands end -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nobody", "--week", FIRST], "there is no such pipeline file"),
        (["run", "small_filter", "--week", "next"], "expected an ISO week"),
        (["run", "small_filter", "--week", "2026-W60"], "expected an ISO week"),
        (["run", "small_filter", "--week", "2999-W01"], "lies in the future"),
        (["run", "small_filter", "--week", FIRST, "--leave-out", "x"], "has no source 'x'"),
        (["predict", "small_filter", "rows.csv"], "No version of small_filter serves"),
        (["verify", "small_filter"], "has no registry"),
        (["verify", "--root-key", "nowhere.pub.json"], "nowhere.pub.json is missing"),
        (["verify", "--store", "/nowhere/at/all"], "/nowhere/at/all"),
        (["keys", "create"], "has a trust list already"),
        (["keys", "trust"], "Nothing to change"),
        (["keys", "trust", "--remove", "x"], "No key 'x'"),
        (["keys", "trust", "--remove", "pipeline"], "nobody could sign"),
        (["keys", "trust", "--add", "x"], "expected NAME=FILE"),
        (["keys", "trust", "--add", "x=y", "--role", "king"], "allowed is one of"),
        (["keys", "provider", "../x"], "expected a name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_clear_line(
    workspace: Workspace, arguments: list[str], said: str
) -> None:
    assert said in refused(call(workspace, *arguments))


def test_a_mistyped_command_is_no_verdict(workspace: Workspace) -> None:
    for arguments in (["run"], ["run", "x", "--weak", "1"], ["nothing"], []):
        assert call(workspace, *arguments).exit_code == 1


def test_without_keys_the_next_step_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["--home", str(tmp_path), "run", "spam_filter", "--week", "2026-W40"]
    )
    assert "retraining keys create" in refused(result)


def test_help_answers_without_loading_what_commands_need() -> None:
    program = (
        "import sys; from retraining.cli import app\n"
        "heavy = {'pandas', 'numpy', 'pyarrow', 'sklearn', 'pydantic', 'yaml', 'airflow'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_installed_program_answers() -> None:
    done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    commands = "init check run screen predict champions show verify sign-batch keys"
    assert all(f" {command} " in done.stdout for command in commands.split())
