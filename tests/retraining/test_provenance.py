"""Who delivered a batch: replayers, and what a source's record is worth.

Forged, foreign, altered and incomplete batches are in test_bad_input.py.
"""

from typing import Any

import pytest

from retraining.digests import Digest
from retraining.evidence import DATASET_BATCH, Statement, TrustList, sign, signer_from_file
from retraining.provenance import batch_digest, verify_provenance
from retraining.records import (
    BatchId,
    IngestReport,
    ProvenanceReport,
    Refusal,
    RegisteredBatch,
    StoredFile,
)
from retraining.store import DirectoryStore
from retraining.trust_history import TrustHistory
from tests.fixtures.evidence import KeyRing
from tests.retraining.deliveries import WEEK, a_spec

W06, W05, W08 = "2026-W06", "2026-W05", "2026-W08"
FILES = (
    StoredFile(name="a.parquet", digest=Digest.of(b"a"), n_bytes=1),
    StoredFile(name="b.parquet", digest=Digest.of(b"b"), n_bytes=1),
)
OTHER = (StoredFile(name="a.parquet", digest=Digest.of(b"other"), n_bytes=5),)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def trust(ring: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> TrustList:
    store = DirectoryStore(tmp_path_factory.mktemp("store"))
    ring.publish(store, shop="provider", worker="pipeline")
    return TrustHistory.load(store, ring.root).latest


@pytest.fixture
def verify(ring: KeyRing, trust: TrustList):
    """Verify a batch; everything about it is good but what a test changes."""

    def run(
        *,
        week: str = WEEK,
        files: tuple[StoredFile, ...] = FILES,
        sequence: int = 7,
        history: tuple[RegisteredBatch, ...] = (),
        key: str = "shop",
        unsigned: bool = False,
        refusal: Refusal | None = None,
        **source: Any,
    ) -> ProvenanceReport:
        if unsigned:
            source |= {"key_id": None, "signature": "none"}
        statement = Statement(
            subjects=tuple((file.name, file.digest) for file in files),
            predicate_type=DATASET_BATCH,
            predicate={
                "provider": "The Shop Ltd.",
                "dataset": "shop",
                "batch": week,
                "sequence": sequence,
                "createdAt": "2026-02-16T00:00:00Z",
            },
        )
        manifest = sign(statement, signer_from_file(ring.folder / f"{key}.pem", key))[0]
        return verify_provenance(
            IngestReport(
                batch=BatchId(source="shop", week=week),
                files=() if refusal else files,
                refusal=refusal,
            ),
            a_spec(source=source).source("shop"),
            manifest=None if unsigned else manifest,
            trust=trust,
            history=history,
        )

    return run


def _known(
    week: str, sequence: int | None, files: tuple[StoredFile, ...] = OTHER, **changes: Any
) -> RegisteredBatch:
    return RegisteredBatch.model_validate(
        {
            "batch": {"source": "shop", "week": week},
            "batch_digest": batch_digest(files),
            "sequence": sequence,
            "n_rows": 100,
            "n_quarantined": 0,
            "accepted": Digest.of(b"accepted"),
            "refusal_code": None,
        }
        | changes
    )


def _code(report: ProvenanceReport) -> str | None:
    return report.refusal.code if report.refusal else None


# --- who it is from -------------------------------------------------------------------------


def test_a_signed_batch_is_verified_and_named_by_all_its_files(verify):
    report = verify()

    assert (report.signature, report.key_id, report.sequence) == ("verified", "shop", 7)
    assert report.files == FILES
    assert report.refusal is None
    assert report.batch_digest == batch_digest(FILES)
    assert report.batch_digest == batch_digest(FILES[::-1])
    renamed = (FILES[0].model_copy(update={"name": "c.parquet"}), FILES[1])
    assert batch_digest(renamed) != batch_digest(FILES)


def test_a_key_of_another_role_signs_no_batch(verify):
    assert _code(verify(key="worker", key_id="worker")) == "unknown_key"


def test_a_source_that_cannot_sign_is_fixed_by_digest_and_scored_riskier(verify):
    signed, unsigned = verify(), verify(unsigned=True)

    assert (unsigned.signature, unsigned.sequence, unsigned.refusal) == ("none", None, None)
    assert unsigned.batch_digest == signed.batch_digest
    assert unsigned.risk_score == pytest.approx(signed.risk_score + 0.2)
    assert "0.2 the source cannot sign" in unsigned.risk_reasons


def test_a_refusal_of_ingest_stays_the_reason(verify):
    missing = Refusal(code="missing", sentence="Nothing was delivered.")

    report = verify(refusal=missing)

    assert report.refusal == missing
    assert (report.signature, report.files, report.batch_digest) == ("refused", (), None)


def test_a_refused_batch_hands_on_no_file_and_no_sequence(verify):
    """A sequence from a refused manifest could shut out the batches that come after it."""
    report = verify(sequence=3, history=(_known(W06, 3),))

    assert _code(report) == "replayed_sequence"
    assert (report.signature, report.files, report.sequence) == ("refused", (), None)
    assert report.risk_score == 1.0


# --- replays --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sequence", "code"), [(4, None), (3, "replayed_sequence"), (2, "replayed_sequence")]
)
def test_the_sequence_grows_over_all_earlier_weeks(verify, sequence, code):
    history = (_known(W05, 3), _known(W06, 1))

    assert _code(verify(sequence=sequence, history=history)) == code


def test_a_week_may_be_tried_again_with_the_same_files(verify):
    history = (_known(W06, 6), _known(WEEK, 7, FILES), _known(WEEK, 7, FILES))

    report = verify(history=history)

    assert (_code(report), report.sequence) == (None, 7)


def test_a_held_week_is_tried_again_although_a_later_one_is_on_record(verify):
    history = (_known(WEEK, 7, FILES), _known(W08, 8))

    assert _code(verify(history=history)) is None


def test_the_same_sequence_with_other_files_is_refused(verify):
    assert _code(verify(history=(_known(WEEK, 7, OTHER),))) == "replayed_sequence"


def test_a_sequence_that_a_later_week_used_is_refused(verify):
    assert _code(verify(history=(_known(W08, 7, OTHER),))) == "replayed_sequence"


def test_a_week_is_corrected_with_a_higher_sequence(verify):
    history = (_known(WEEK, 7, OTHER), _known(W08, 8))

    assert _code(verify(sequence=9, history=history)) is None


def test_a_week_that_comes_late_is_not_behind_a_later_one(verify):
    assert _code(verify(history=(_known(W06, 6), _known(W08, 8)))) is None


def test_a_delivery_that_was_corrected_cannot_come_back(verify):
    history = (_known(WEEK, 7, FILES), _known(WEEK, 9, OTHER))

    assert _code(verify(sequence=7, history=history)) == "replayed_sequence"


def test_a_later_week_is_tried_again_after_an_earlier_one_was_corrected(verify):
    history = (_known(W06, 6), _known(WEEK, 7, FILES), _known(W06, 9), _known(WEEK, 7, FILES))

    assert _code(verify(history=history)) is None


def test_another_source_has_numbers_of_its_own(verify):
    foreign = _known(W06, 99, batch=BatchId(source="other", week=W06))

    assert _code(verify(history=(foreign,))) is None


@pytest.mark.parametrize("unsigned", [False, True])
def test_rows_of_one_week_are_not_sold_again_in_another(verify, unsigned):
    used = _known(W06, 1, FILES)

    assert _code(verify(history=(used,), unsigned=unsigned)) == "replayed_batch"


def test_files_that_were_refused_in_one_week_may_come_in_another(verify):
    unused = _known(W06, 1, FILES, accepted=None, refusal_code="wrong_columns")

    assert _code(verify(history=(unused,))) is None


# --- risk -----------------------------------------------------------------------------------


def _weeks(n: int, **changes: Any) -> tuple[RegisteredBatch, ...]:
    return tuple(_known(f"2025-W{week:02d}", week, **changes) for week in range(1, n + 1))


@pytest.mark.parametrize(
    ("trust_tier", "score"), [("trusted", 0.1), ("known", 0.3), ("untrusted", 0.6)]
)
def test_a_source_of_long_good_standing_has_the_risk_of_its_tier(verify, trust_tier, score):
    report = verify(sequence=99, history=_weeks(4), trust=trust_tier)

    assert report.risk_score == score
    assert report.risk_reasons == (f"{score:g} trust tier {trust_tier}",)


def test_a_young_source_is_riskier_until_its_fourth_week(verify):
    assert verify(sequence=99, history=_weeks(3), trust="trusted").risk_score == 0.2
    assert verify(sequence=99, history=_weeks(4), trust="trusted").risk_score == 0.1
    retried = (*_weeks(3), _known(WEEK, 7, FILES))
    assert verify(history=retried, trust="trusted").risk_score == 0.2


def test_the_record_is_the_mean_over_the_last_eight_weeks(verify):
    good = _weeks(20)
    quarantined = _known("2025-W20", 20, n_quarantined=40)
    refused = _known("2025-W19", 19, refusal_code="missing")
    long_ago = _known("2025-W12", 12, refusal_code="missing")
    history = (*good, quarantined, refused, long_ago)

    report = verify(sequence=99, history=history, trust="trusted")

    assert report.risk_score == pytest.approx(0.1 + 0.3 * (0.4 + 1) / 8, abs=1e-3)
    assert report.risk_reasons[1].endswith("its last 8 weeks: 18% quarantined or refused")


def test_the_worst_source_scores_one(verify):
    history = _weeks(2, refusal_code="missing")

    report = verify(unsigned=True, trust="untrusted", history=history)

    assert report.risk_score == 1.0


def test_the_same_batch_gives_the_same_report(verify):
    history = _weeks(5)

    assert verify(history=history).to_json() == verify(history=history).to_json()
