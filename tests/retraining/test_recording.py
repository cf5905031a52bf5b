import shutil
from pathlib import Path

import pytest

from retraining.digests import Digest
from retraining.errors import ArtifactTamperedError, EvidenceError
from retraining.evidence import SigningKeys, TrustList
from retraining.recording import Recorder, StepResult, open_result
from retraining.records import BatchId, IngestReport, StoredFile
from retraining.store import DirectoryStore
from retraining.trust_history import TrustHistory
from tests.fixtures.evidence import KeyRing

REQUEST = Digest.of(b"request")


class Desk:
    """A recorder on an empty store, with the pipeline's key."""

    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore(folder / "store")
        self.keys = KeyRing(folder / "keys")
        self.keys.publish(self.store, pipeline="pipeline", other="provider")

    @property
    def trust(self) -> TrustList:
        return TrustHistory.load(self.store, self.keys.root).latest

    @property
    def recorder(self) -> Recorder:
        keys = SigningKeys(self.keys.folder, {})
        code = Digest.of(b"code")
        return Recorder(
            self.store, self.trust, keys, code_version=code, run_id="run", requested_by="me"
        )

    def conclude(self, source: str = "feed", request: Digest = REQUEST) -> StepResult[IngestReport]:
        file = StoredFile(name="a.csv", digest=self.store.put(source.encode()), n_bytes=4)
        report = IngestReport(batch=BatchId(source=source, week="2026-W40"), files=(file,))
        return self.recorder.conclude(
            "ingest",
            report,
            model="spam",
            week="2026-W40",
            request=request,
            started_on="2026-10-05T00:00:00Z",
            inputs={},
            artefacts={"file/a.csv": file.digest},
            policy=Digest.of(b"policy"),
        )

    def attestation(self, result: StepResult[IngestReport]) -> Path:
        name = f"attestations/{result.attestation.digest.hex}.dsse.json"
        return self.store.path_of_record(name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def found(desk: Desk, request: Digest = REQUEST) -> StepResult[IngestReport] | None:
    return desk.recorder.finished("ingest", request, IngestReport)


def test_a_finished_step_is_found_by_exactly_its_request(desk: Desk) -> None:
    done = desk.conclude()
    again = found(desk)
    assert again is not None and again.reused
    assert (again.attestation, again.report) == (done.attestation, done.report)
    assert found(desk, Digest.of(b"other request")) is None


def test_a_memo_that_points_elsewhere_is_passed_over(desk: Desk) -> None:
    elsewhere = desk.conclude("gateway", Digest.of(b"other request"))
    desk.store.create(f"memo/{REQUEST.hex}/{elsewhere.attestation.digest.hex}", b"{}")
    desk.store.create(f"memo/{REQUEST.hex}/garbage", b"{}")
    assert found(desk) is None


def test_a_result_whose_artefact_is_gone_is_done_again(desk: Desk) -> None:
    done = desk.conclude()
    desk.store.path_of(done.attestation.artefacts["file/a.csv"]).unlink()
    assert found(desk) is None


def test_a_result_that_a_revoked_key_signed_is_done_again(desk: Desk) -> None:
    desk.conclude()
    desk.keys.publish(desk.store, pipeline_2="pipeline")
    keys = SigningKeys(desk.keys.folder, {})
    recorder = Recorder(
        desk.store,
        desk.trust,
        keys,
        code_version=Digest.of(b"code"),
        run_id="run",
        requested_by="me",
    )
    assert recorder.finished("ingest", REQUEST, IngestReport) is None


def test_attestations_that_were_exchanged_are_noticed(desk: Desk) -> None:
    one, other = desk.conclude("feed"), desk.conclude("gateway", Digest.of(b"other request"))
    shutil.copy(desk.attestation(other), desk.attestation(one))
    with pytest.raises(EvidenceError, match="exchanged"):
        open_result(desk.store, desk.trust, "ingest", one.attestation.digest)


def test_a_report_that_was_edited_is_noticed(desk: Desk) -> None:
    done = desk.conclude()
    path = desk.store.path_of(done.attestation.report)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"a.csv", b"b.csv"))
    with pytest.raises(ArtifactTamperedError):
        open_result(desk.store, desk.trust, "ingest", done.attestation.digest)


def test_the_report_has_no_time_and_the_attestation_has(desk: Desk) -> None:
    first, again = desk.conclude(), desk.conclude()
    assert first.attestation.report == again.attestation.report
    assert b"2026-10-05T" not in desk.store.get(first.attestation.report)
