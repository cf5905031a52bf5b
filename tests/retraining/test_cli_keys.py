"""`retraining keys` and `sign-batch`: whose signature counts, from first key to revocation."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retraining.cli import app
from retraining.evidence import DATASET_BATCH, public_key_of
from retraining.evidence.trust import TrustList
from retraining.settings import Settings
from retraining.store import open_store
from retraining.trust_history import TrustHistory
from tests.fixtures.workspace import WEEKS, Workspace


def call(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), *arguments])


def did(home: Path, *arguments: str) -> str:
    result = call(home, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def latest(home: Path) -> TrustList:
    settings = Settings.load(home)
    root = public_key_of(settings.root_key, "root")
    return TrustHistory.load(open_store(settings.store), root).latest


def test_one_command_makes_the_keys_of_a_small_team(tmp_path: Path) -> None:
    said = did(tmp_path, "keys", "create")
    assert "offline" in said
    private = sorted(path.name for path in (tmp_path / "keys").rglob("*.pem"))
    assert private == ["owner.pem", "pipeline.pem", "promoter.pem", "reviewer.pem", "root.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").rglob("*.pem")} == {
        0o600
    }
    trust = latest(tmp_path)
    assert {name: key.roles for name, key in trust.keys.items()} == {
        "pipeline": ("pipeline",),
        "promoter": ("promoter",),
        "reviewer": ("reviewer",),
        "owner": ("owner",),
    }
    assert "BEGIN" not in said


def test_keys_are_never_made_twice(tmp_path: Path) -> None:
    did(tmp_path, "keys", "create")
    before = {path: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    result = call(tmp_path, "keys", "create", "--provider", "feed")
    assert result.exit_code == 1 and "has a trust list already" in result.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "keys").iterdir()} == before


def test_a_provider_makes_its_key_and_root_adds_it(tmp_path: Path) -> None:
    home, vendor = tmp_path / "home", tmp_path / "vendor"
    did(home, "keys", "create")
    said = did(home, "keys", "provider", "feed", "--out", str(vendor))
    assert "retraining keys trust --add feed=feed.pub.json" in said
    assert sorted(path.name for path in vendor.iterdir()) == ["feed.pem", "feed.pub.json"]
    did(home, "keys", "trust", "--add", f"feed={vendor / 'feed.pub.json'}", "--holder", "ACME")
    trust = latest(home)
    assert trust.version == 2
    assert (trust.keys["feed"].roles, trust.keys["feed"].holder) == (("provider",), "ACME")
    assert call(home, "keys", "provider", "feed", "--out", str(vendor)).exit_code == 1


def test_an_installation_from_before_a_role_gets_a_key_of_it(workspace: Workspace) -> None:
    """It has no reviewer and no owner; what `keys create` says there is what helps."""
    home, keys = workspace.home, workspace.settings.keys
    sign = ("approve", "--spec", workspace.model, "--why", "agreed with the team")
    assert not {"reviewer", "owner"} & latest(home).keys.keys()
    assert "owner.pem is missing" in call(home, *sign).stderr
    advice = call(home, "keys", "create").stderr
    commands = [
        said for said in advice.replace("\n", " ").split("`") if said.startswith("retraining keys ")
    ]
    assert [command.split()[:3] for command in commands] == [
        ["retraining", "keys", "provider"],
        ["retraining", "keys", "trust"],
    ]

    for role in ("reviewer", "owner"):
        for command in commands:
            did(home, *command.replace("NAME", role).replace("ROLE", role).split()[1:])

    assert latest(home).version == 3
    assert {name: latest(home).keys[name].roles for name in ("reviewer", "owner")} == {
        "reviewer": ("reviewer",),
        "owner": ("owner",),
    }
    assert (keys / "owner.pem").exists()
    assert "owner answers for the pipeline file" in did(home, *sign)


def test_a_removed_key_counts_no_more_and_the_list_says_since_when(tmp_path: Path) -> None:
    did(tmp_path, "keys", "create", "--provider", "feed")
    did(tmp_path, "keys", "trust", "--remove", "feed")
    assert "feed" not in latest(tmp_path).keys
    [line] = [line for line in did(tmp_path, "keys", "list").splitlines() if " feed " in line]
    assert "1 to 1, removed" in line


def test_a_key_is_exchanged_in_one_step(tmp_path: Path) -> None:
    did(tmp_path, "keys", "create")
    did(tmp_path, "keys", "provider", "pipeline", "--out", str(tmp_path / "new"))
    public = f"pipeline={tmp_path / 'new' / 'pipeline.pub.json'}"
    taken = call(tmp_path, "keys", "trust", "--add", public, "--role", "pipeline")
    assert taken.exit_code == 1 and "has a key 'pipeline' already" in taken.stderr
    before = latest(tmp_path).keys["pipeline"]
    did(
        tmp_path,
        *("keys", "trust", "--remove", "pipeline", "--add", public, "--role", "pipeline"),
    )
    assert latest(tmp_path).keys["pipeline"].key != before.key


def test_one_key_under_two_names_is_refused(tmp_path: Path) -> None:
    did(tmp_path, "keys", "create", "--provider", "feed")
    public = tmp_path / "keys" / "providers" / "feed.pub.json"
    result = call(tmp_path, "keys", "trust", "--add", f"other={public}")
    assert result.exit_code == 1 and "are the same key" in result.stderr
    assert latest(tmp_path).version == 1


def test_only_root_changes_the_list(tmp_path: Path) -> None:
    did(tmp_path, "keys", "create", "--provider", "feed")
    forger = tmp_path / "keys" / "pipeline.pem"
    result = call(tmp_path, "keys", "trust", "--remove", "feed", "--root", str(forger))
    assert result.exit_code == 1 and "No valid signature" in result.stderr
    assert "feed" in latest(tmp_path).keys


def test_a_public_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    did(tmp_path, "keys", "create")
    (tmp_path / "x.pub.json").write_text(json.dumps({"keytype": "ed25519"}))
    result = call(tmp_path, "keys", "trust", "--add", f"x={tmp_path / 'x.pub.json'}")
    assert result.exit_code == 1 and "is not a public key file" in result.stderr
    assert latest(tmp_path).version == 1


@pytest.mark.parametrize("single", [True, False], ids=["file", "folder"])
def test_sign_batch_signs_what_a_provider_hands_in(workspace: Workspace, single: bool) -> None:
    delivery = workspace.folder("gateway", WEEKS[0])
    (delivery / "batch.dsse.json").unlink()
    delivery = delivery / "rows.parquet" if single else delivery
    key = workspace.provider_key("gateway")
    arguments = ["sign-batch", str(delivery), "--key", str(key), "--source", "gateway"]
    said = did(workspace.home, *arguments, "--week", WEEKS[0], "--sequence", "7")
    manifest = Path(said.split("Signed: ")[1].strip())
    assert manifest.name == ("rows.parquet.dsse.json" if single else "batch.dsse.json")
    opened = latest(workspace.home).open(
        manifest.read_bytes(), predicate_type=DATASET_BATCH, roles=["provider"], key_id="gateway"
    )
    assert [name for name, _ in opened.subjects] == ["rows.parquet"]
    assert (opened.predicate["sequence"], opened.predicate["batch"]) == (7, WEEKS[0])
    assert opened.predicate["dataset"] == opened.predicate["provider"] == "gateway"


@pytest.mark.slow
def test_a_batch_that_was_signed_by_hand_goes_through(workspace: Workspace) -> None:
    (workspace.folder("gateway", WEEKS[0]) / "batch.dsse.json").unlink()
    key = workspace.provider_key("gateway")
    arguments = ["sign-batch", str(workspace.folder("gateway", WEEKS[0])), "--key", str(key)]
    did(workspace.home, *arguments, "--source", "gateway", "--week", WEEKS[0], "--sequence", "1")
    shown = call(workspace.home, "screen", workspace.model, "--week", WEEKS[0])
    assert shown.exit_code == 0, shown.output
    assert "signature verified" in shown.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--sequence", "0"], "Expected a sequence above 0"),
        (["--key", "nowhere.pem"], "nowhere.pem is missing"),
    ],
    ids=["sequence", "key"],
)
def test_sign_batch_says_what_is_wrong(workspace: Workspace, change: list[str], said: str) -> None:
    key = str(workspace.provider_key("gateway"))
    arguments = ["sign-batch", str(workspace.folder("gateway", WEEKS[0])), "--key", key]
    arguments += ["--source", "gateway", "--week", WEEKS[0], "--sequence", "1", *change]
    result = call(workspace.home, *arguments)
    assert result.exit_code == 1 and said in result.stderr
