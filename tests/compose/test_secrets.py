"""What `make compose-secrets` and `docker compose run --rm keys` leave behind."""

import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from cryptography.fernet import Fernet

from retraining.evidence import public_key_of
from retraining.settings import REPOSITORY
from retraining.store import open_store
from retraining.trust_history import TrustHistory
from tests.fixtures.workspace import make_workspace

Load = Callable[[str], ModuleType]
WITH_FEEDBACK = {
    "traffic": {
        "predictions": {"uri": "traffic/predictions/{day}", "max_rows": 1000},
        "labels": {"uri": "traffic/labels/{day}", "max_rows": 1000},
    },
    "feedback": {"uri": "traffic/feedback/{week}", "source": "said"},
}
FEEDBACK_FILES = {"uri": "inbox/said/{week}", "format": "parquet", "on_refusal": "leave_out"}


def make_secrets(folder: Path, *options: str) -> str:
    """Run the script as make does, in `folder`, with this machine's Python and nothing else."""
    script = REPOSITORY / "include" / "deploy" / "make_secrets.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_every_secret_that_the_stack_reads_is_made_once_and_is_nobodys_default(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    make_secrets(tmp_path / "a")
    make_secrets(tmp_path / "b")
    first, second = tmp_path / "a" / "secrets", tmp_path / "b" / "secrets"
    names = {path.name for path in first.iterdir() if path.is_file()}
    compose = (REPOSITORY / "docker-compose.yaml").read_text()
    read = {name for name in names if f"/{name}" in compose}
    assert read == names
    for name in names:
        value = (first / name).read_text()
        assert len(value) >= 16
        assert value == value.strip()
        assert value != (second / name).read_text()
        assert stat.S_IMODE((first / name).stat().st_mode) == 0o444
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    Fernet((first / "fernet_key").read_text())
    password = (first / "airflow_database_password").read_text()
    assert f":{password}@postgres/airflow" in (first / "airflow_database_url").read_text()


def test_a_second_run_changes_nothing_and_completes_an_interrupted_one(tmp_path: Path) -> None:
    make_secrets(tmp_path, "--store", "s3://bucket/prefix")
    before = {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    (tmp_path / "secrets" / "airflow_database_url").unlink()  # made again, of the same password
    (tmp_path / "secrets" / "redis_password").unlink()
    (tmp_path / "secrets" / "broker_url").unlink()
    (tmp_path / "secrets" / "result_backend").unlink()
    (tmp_path / ".env").write_text(before[tmp_path / ".env"] + "# mine\n")

    make_secrets(tmp_path)

    after = {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    assert set(after) == set(before)
    changed = {p.name for p in before if after[p] != before[p]}
    assert changed == {".env", "redis_password", "broker_url", "result_backend"}
    assert after[tmp_path / ".env"].endswith("# mine\n")
    assert (
        after[tmp_path / "secrets" / "redis_password"]
        in (after[tmp_path / "secrets" / "broker_url"])
    )
    assert "RETRAINING_STORE=s3://bucket/prefix" in after[tmp_path / ".env"]


def test_the_settings_file_holds_no_secret(tmp_path: Path) -> None:
    said = make_secrets(tmp_path)
    text = (tmp_path / ".env").read_text()
    for path in (tmp_path / "secrets").iterdir():
        if path.is_file():
            assert path.read_text() not in text + said


@pytest.fixture
def made_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deploy_script: Load
) -> Callable[..., Path]:
    """Run `docker compose run --rm keys OPTIONS` as far as it is ours; return the secrets."""
    make_secrets(tmp_path)
    (tmp_path / "pipelines").mkdir()
    module = deploy_script("make_keys")

    def run(*options: str) -> Path:
        secrets = tmp_path / "secrets"
        monkeypatch.setenv("RETRAINING_STORE", str(tmp_path / "store"))
        monkeypatch.setenv("RETRAINING_PIPELINES", str(tmp_path / "pipelines"))
        monkeypatch.setattr(sys, "argv", ["make_keys.py", "--secrets", str(secrets), *options])
        module.main()
        return secrets

    return run


def test_each_worker_gets_its_own_keys_and_only_promotion_the_promoters(
    made_keys: Callable[..., Path], tmp_path: Path
) -> None:
    secrets = made_keys("--provider", "gateway")

    held = {
        worker.name: sorted(p.name for p in (worker / "keys").rglob("*") if p.is_file())
        for worker in (secrets / "workers").iterdir()
    }
    assert held == {
        "init": ["root.pub.json"],
        "console": ["root.pub.json"],
        "default": ["pipeline.pem", "root.pub.json"],
        "training": ["pipeline.pem", "root.pub.json"],
        "promotion": ["promoter.pem", "root.pub.json"],
    }
    store = open_store(tmp_path / "store")
    root = public_key_of(secrets / "workers" / "training" / "keys" / "root.pub.json", "root")
    trust = TrustHistory.load(store, root).latest
    assert set(trust.keys) == {"pipeline", "promoter", "reviewer", "owner", "gateway"}
    assert made_keys() == secrets  # a second time: the same keys, handed out again
    assert TrustHistory.load(store, root).latest.version == 1


def test_the_key_that_signs_closed_feedback_goes_to_the_default_worker_also_later(
    made_keys: Callable[..., Path], tmp_path: Path
) -> None:
    workspace = make_workspace(tmp_path / "workspace")
    secrets = made_keys()
    sources = yaml.safe_load(workspace.spec_file.read_text())["sources"]
    said = sources[-1] | {"name": "said", "key_id": "said", "trust": "untrusted"} | FEEDBACK_FILES
    workspace.edit_spec(WITH_FEEDBACK | {"sources": [*sources, said]})
    shutil.copy(workspace.spec_file, tmp_path / "pipelines")

    made_keys()

    held = [p.relative_to(secrets / "workers") for p in (secrets / "workers").rglob("said.pem")]
    assert held == [Path("default/keys/providers/said.pem")]
    root = public_key_of(secrets / "keys" / "root.pub.json", "root")
    trust = TrustHistory.load(open_store(tmp_path / "store"), root).latest
    assert (trust.version, trust.keys["said"].roles) == (2, ("provider",))


def test_keys_of_another_installation_are_not_taken_for_this_stores(
    made_keys: Callable[..., Path],
) -> None:
    secrets = made_keys()
    for path in (secrets / "keys").iterdir():
        path.unlink()

    with pytest.raises(SystemExit, match="has a trust list already"):
        made_keys()
