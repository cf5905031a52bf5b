"""The workspace of the demo: whole, signed, laid out once, and poisoned where it says so."""

import stat
from pathlib import Path

import pandas as pd
import pytest

from demo.cut_data import DATA, WEEKS
from demo.layout import POISON, POISONED_WEEK, demo_settings, lay_out
from retraining.digests import Digest
from retraining.evidence import DATASET_BATCH, public_key_of
from retraining.keyring import change_trust, create_team_keys
from retraining.spec import PipelineSpec, SourceSpec, load_spec
from retraining.store import open_store
from retraining.trust_history import TrustHistory


def snapshot(home: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(home)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in home.rglob("*")
        if path.is_file()
    }


def delivered(home: Path, source: str, week: str) -> pd.DataFrame:
    return pd.read_parquet(home / "inbox" / source / week / f"{source}-{week}.parquet")


def providers_of(spec: PipelineSpec) -> list[SourceSpec]:
    """Sources that deliver; feedback is closed into a batch here, once there is any."""
    assert spec.feedback is not None
    return [source for source in spec.sources if source.name != spec.feedback.source]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("layout") / "workspace"
    lay_out(home)
    return home


def test_a_second_call_changes_nothing(home: Path) -> None:
    before = snapshot(home)
    lay_out(home)
    assert snapshot(home) == before


def test_an_interrupted_layout_is_finished(tmp_path: Path) -> None:
    home = tmp_path / "workspace"
    lay_out(home, models=["digit_reader"])
    whole = set(snapshot(home))
    for name in ("inbox/scanner/2026-W41/batch.dsse.json", "data/digit_reader/holdout.parquet"):
        (home / name).unlink()
    for trust in (home / "store" / "trust").iterdir():
        trust.unlink()  # killed before the list was signed: the keys that were made are used
    (home / "keys" / "providers" / "scanner.pub.json").unlink()
    keys = {path.name: path.read_bytes() for path in (home / "keys").rglob("*.pem")}
    lay_out(home, models=["digit_reader"])
    assert set(snapshot(home)) == whole
    assert {path.name: path.read_bytes() for path in (home / "keys").rglob("*.pem")} == keys


def test_another_model_can_be_laid_out_later(tmp_path: Path) -> None:
    lay_out(tmp_path, models=["digit_reader"])
    lay_out(tmp_path, models=["spam_filter"])
    assert (tmp_path / "inbox" / "purchased_feed" / "2026-W40" / "batch.dsse.json").exists()


def test_private_keys_are_for_their_owner_only(home: Path) -> None:
    private = list((home / "keys").rglob("*.pem"))
    assert (
        len(private) == 5 + 7
    )  # root, pipeline, promoter, reviewer, owner; providers, two of feedback
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


@pytest.mark.parametrize("model", ["spam_filter", "digit_reader"])
def test_every_source_signs_every_week_with_a_growing_sequence(home: Path, model: str) -> None:
    settings = lay_out(home)
    spec = load_spec(settings.pipelines / f"{model}.yaml")
    root = public_key_of(settings.root_key, "root")
    trust = TrustHistory.load(open_store(settings.store), root).latest
    for source in providers_of(spec):
        sequences = []
        for week in WEEKS:
            folder = Path(settings.resolve(source.uri.replace("{week}", week)))
            manifest = trust.open(
                (folder / "batch.dsse.json").read_bytes(),
                predicate_type=DATASET_BATCH,
                roles=["provider"],
                key_id=source.key_id,
            )
            files = {
                path.name: Digest.of(path.read_bytes())
                for path in folder.iterdir()
                if path.name != "batch.dsse.json"
            }
            assert dict(manifest.subjects) == files
            assert (manifest.predicate["dataset"], manifest.predicate["batch"]) == (
                source.name,
                week,
            )
            sequences.append(manifest.predicate["sequence"])
        assert sequences == sorted(set(sequences))


@pytest.mark.parametrize("model", ["spam_filter", "digit_reader"])
def test_files_have_exactly_the_columns_of_the_pipeline_file(home: Path, model: str) -> None:
    settings = lay_out(home)
    spec = load_spec(settings.pipelines / f"{model}.yaml")
    for source in providers_of(spec):
        assert set(delivered(home, source.name, WEEKS[0]).columns) == set(spec.columns)
    for role in (spec.reference, spec.holdout):
        frame = pd.read_parquet(settings.resolve(role.uri))
        assert set(frame.columns) == set(spec.columns)


def test_the_poison_is_one_sided_and_from_one_source_in_one_week(home: Path) -> None:
    pool = pd.read_parquet(DATA / "spam_filter" / "pool.parquet").set_index("mail_id")
    poison = POISON["spam_filter"]
    for source in sorted(set(pool["source"])):
        for week in WEEKS:
            rows = delivered(home, source, week).set_index("mail_id")
            honest = pool.loc[rows.index, "label"]
            changed = rows["label"] != honest
            if (source, week) != (poison.source, POISONED_WEEK):
                assert not changed.any()
                continue
            assert set(honest[changed]) == {poison.victim}
            assert set(rows["label"][changed]) == {poison.target}
            assert changed.sum() == round(poison.share * (honest == poison.victim).sum())
            assert changed.sum() > 100
            features = rows.columns.drop("label")
            pd.testing.assert_frame_equal(rows[features], pool.loc[rows.index, features])


def test_without_a_poisoned_week_every_label_is_honest(tmp_path: Path) -> None:
    lay_out(tmp_path, models=["spam_filter"], poison_week=None)
    pool = pd.read_parquet(DATA / "spam_filter" / "pool.parquet").set_index("mail_id")
    rows = delivered(tmp_path, "purchased_feed", POISONED_WEEK).set_index("mail_id")
    assert (rows["label"] == pool.loc[rows.index, "label"]).all()


def test_a_workspace_of_an_earlier_release_gets_the_keys_that_are_new(tmp_path: Path) -> None:
    home = tmp_path / "workspace"
    old = demo_settings(home)
    create_team_keys(old, providers=["mail_gateway_a", "mail_gateway_b", "purchased_feed"])
    change_trust(old, remove=["reviewer", "owner"])
    for name in ("reviewer", "owner"):
        for part in ("pem", "pub.json"):
            (old.keys / f"{name}.{part}").unlink()

    settings = lay_out(home, models=["spam_filter"])

    root = public_key_of(settings.root_key, "root")
    trust = TrustHistory.load(open_store(settings.store), root).latest
    assert trust.version == 3
    assert "user_feedback" in trust.keys
    assert trust.keys["reviewer"].roles == ("reviewer",)
    assert trust.keys["owner"].roles == ("owner",)
