"""A provider's own part, in Python and as a shell script: both are verified by the same check."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from retraining.errors import BatchRefusedError, ConfigError
from retraining.evidence import create_key, signer_from_file
from retraining.ingest import ingest
from retraining.provenance import verify_provenance
from retraining.records import ProvenanceReport
from retraining.settings import REPOSITORY
from retraining.sign_batch import build_manifest, manifest_path, write_manifest
from retraining.store import DirectoryStore, open_inbox
from retraining.trust_history import TrustHistory
from tests.fixtures.evidence import KeyRing
from tests.retraining.deliveries import WEEK, a_spec

SCRIPT = REPOSITORY / "include" / "docs" / "sign_batch.sh"
Sign = Callable[[Path], None]


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    ring = KeyRing(tmp_path / "keys")
    ring.public("shop")
    return ring


def _sign_in_python(ring: KeyRing, delivery: Path, *, sequence: int = 7) -> None:
    manifest = build_manifest(
        delivery,
        provider="The Shop Ltd.",
        dataset="shop",
        batch=WEEK,
        sequence=sequence,
        created_at="2026-02-16T00:00:00Z",
        signer=signer_from_file(ring.folder / "shop.pem", "shop"),
    )
    write_manifest(delivery, manifest)


def _sign_in_shell(ring: KeyRing, delivery: Path) -> subprocess.CompletedProcess[str]:
    if missing := [tool for tool in ("bash", "openssl", "jq") if not shutil.which(tool)]:
        pytest.skip(f"needs {missing}")
    key = ring.folder / "shop.pem"
    arguments = [delivery, key, "The Shop Ltd.", "shop", WEEK, "7"]
    return subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True)


@pytest.fixture(params=["python", "shell"])
def sign_delivery(request: pytest.FixtureRequest, ring: KeyRing) -> Sign:
    def run(delivery: Path) -> None:
        if request.param == "python":
            _sign_in_python(ring, delivery)
        else:
            found = _sign_in_shell(ring, delivery)
            assert (found.returncode, found.stderr) == (0, "")

    return run


@pytest.fixture
def verify(ring: KeyRing, tmp_path: Path) -> Callable[[Path], ProvenanceReport]:
    store = DirectoryStore(tmp_path / "store")
    ring.publish(store, shop="provider")
    trust = TrustHistory.load(store, ring.root).latest
    source = a_spec().source("shop")

    def run(delivery: Path) -> ProvenanceReport:
        ingested = ingest(source, WEEK, inbox=open_inbox(delivery), store=store)
        manifest = store.get(ingested.manifest) if ingested.manifest else None
        return verify_provenance(ingested, source, manifest=manifest, trust=trust, history=())

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "delivery"
    (folder / "part 2" / "deep").mkdir(parents=True)
    for name in ("z.parquet", "A.parquet", "part 2/it's €.parquet", "part 2/deep/batch.parquet"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_signed_folder_is_verified(folder, sign_delivery, verify):
    sign_delivery(folder)

    report = verify(folder)

    assert report.refusal is None
    assert (report.signature, report.sequence, len(report.files)) == ("verified", 7, 4)


def test_a_folder_signed_again_does_not_sign_its_old_manifest(folder, sign_delivery, verify):
    sign_delivery(folder)
    sign_delivery(folder)

    assert verify(folder).refusal is None


def test_a_signed_single_file_is_verified(tmp_path, sign_delivery, verify):
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"PAR1")

    sign_delivery(file)

    assert (tmp_path / "rows.parquet.dsse.json").is_file()
    assert verify(file).signature == "verified"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "more.parquet").write_bytes(b"x"), "extra_files"),
        (lambda folder: (folder / "z.parquet").unlink(), "missing_files"),
        (lambda folder: (folder / "z.parquet").write_bytes(b"changed"), "changed_files"),
    ],
    ids=["extra", "missing", "changed"],
)
def test_what_changes_after_signing_is_noticed(folder, sign_delivery, verify, change, code):
    sign_delivery(folder)
    change(folder)

    report = verify(folder)

    assert report.refusal is not None
    assert report.refusal.code == code


def test_thousands_of_files_are_signed(tmp_path, sign_delivery, verify):
    """More than fit on one command line, or into one of its arguments."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3000):
        (folder / f"a-part-with-a-rather-long-name-{number:05d}.parquet").write_bytes(b"x")

    sign_delivery(folder)

    assert len(verify(folder).files) == 3000


def test_nothing_to_sign_is_said(ring, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()

    with pytest.raises(ConfigError, match="no file to sign"):
        _sign_in_python(ring, folder)
    found = _sign_in_shell(ring, folder)

    assert found.returncode != 0
    assert "no file to sign" in found.stderr
    assert list(folder.iterdir()) == []


def test_a_link_is_not_signed(ring, folder):
    (folder / "link.parquet").symlink_to("/etc/passwd")

    with pytest.raises(BatchRefusedError, match="symbolic link"):
        _sign_in_python(ring, folder)


def test_a_sequence_below_one_is_refused(ring, folder):
    with pytest.raises(ConfigError, match="above 0"):
        _sign_in_python(ring, folder, sequence=0)


def test_a_wrong_key_leaves_the_delivery_as_it_was(ring, folder, tmp_path):
    (ring.folder / "shop.pem").write_text("no key")

    found = _sign_in_shell(ring, folder)

    assert found.returncode != 0
    assert not manifest_path(folder).exists()


def test_the_key_that_signed_is_the_one_that_counts(folder, ring, verify, tmp_path):
    create_key(tmp_path / "thief.pem")
    shutil.copy(tmp_path / "thief.pem", ring.folder / "shop.pem")
    _sign_in_python(ring, folder)

    report = verify(folder)

    assert report.refusal is not None
    assert report.refusal.code == "bad_signature"
