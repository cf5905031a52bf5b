import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from retraining.digests import Digest, canonical_json
from retraining.errors import ConfigError, EvidenceError
from retraining.evidence import (
    DATASET_BATCH,
    SLSA_PROVENANCE,
    Moment,
    SigningKeys,
    Statement,
    TrustedKey,
    TrustList,
    attest,
    create_key,
    payload_digest,
    public_key_of,
    read_attestation,
    sign,
    sign_trust_list,
    signer_from_file,
)

ANY = Digest.of(b"any")
STATEMENT = Statement(
    subjects=(("rows.csv", ANY),), predicate_type=DATASET_BATCH, predicate={"n": 1}
)


def trust_of(folder: Path, version: int = 1, **roles: str) -> TrustList:
    """A trust list with one fresh key per name; `roles` maps key ids to their role."""
    root = folder / "root.pem"
    if not root.exists():
        create_key(root)
    keys = {}
    for name, role in roles.items():
        private = folder / f"{name}.pem"
        public = (
            json.loads(private.with_suffix(".pub.json").read_bytes())
            if private.exists()
            else create_key(private)
        )
        keys[name] = TrustedKey(key=public, roles=(role,))  # type: ignore[arg-type]
    raw = sign_trust_list(version, keys, signer_from_file(root, "root"))
    return TrustList.open_signed(raw, public_key_of(folder / "root.pub.json", "root"))


def signed(folder: Path, key: str, statement: Statement = STATEMENT) -> bytes:
    return sign(statement, signer_from_file(folder / f"{key}.pem", key))[0]


def test_a_record_opens_with_the_key_of_its_role(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, feed="provider", pipeline="pipeline")
    record = trust.open(signed(tmp_path, "feed"), predicate_type=DATASET_BATCH, roles=["provider"])
    assert (record.key_id, record.subjects) == ("feed", (("rows.csv", ANY),))
    assert record.digest == payload_digest(signed(tmp_path, "feed"))


@pytest.mark.parametrize(
    ("key", "roles", "key_id", "sentence"),
    [
        ("feed", ["pipeline"], None, "No valid signature"),  # a provider signs as the pipeline
        ("pipeline", ["provider"], "feed", "No valid signature"),  # the pipeline as a provider
        ("other_feed", ["provider"], "feed", "No valid signature"),  # one provider as another
        ("feed", ["promoter"], None, "has no key with role promoter"),
        ("feed", ["provider"], "stranger", "has no key 'stranger'"),
    ],
)
def test_a_key_signs_for_its_own_role_and_name_only(
    tmp_path: Path, key: str, roles: list[Any], key_id: str | None, sentence: str
) -> None:
    trust = trust_of(tmp_path, feed="provider", other_feed="provider", pipeline="pipeline")
    with pytest.raises(EvidenceError, match=sentence):
        trust.open(signed(tmp_path, key), predicate_type=DATASET_BATCH, roles=roles, key_id=key_id)


def rewritten(raw: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(raw), **changes}).encode()


def test_altered_envelopes_are_refused(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, feed="provider")
    raw = signed(tmp_path, "feed")
    body = base64.b64decode(json.loads(raw)["payload"])
    other = base64.b64encode(body.replace(b'"n":1', b'"n":2')).decode()
    for altered in (
        rewritten(raw, payload=other),
        rewritten(raw, signatures=[]),
        rewritten(raw, payloadType="text/plain"),
        rewritten(raw, signatures=json.loads(raw)["signatures"] * 9),
        b"{}",
        b"[]",
        b"not json",
        raw[:-10],
    ):
        with pytest.raises(EvidenceError):
            trust.open(altered, predicate_type=DATASET_BATCH, roles=["provider"])


def test_an_envelope_may_change_its_dress_but_not_its_identity(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, feed="provider")
    raw = signed(tmp_path, "feed")
    signature = {**json.loads(raw)["signatures"][0], "keyid": "somebody", "extra": 1}
    dressed = rewritten(raw, signatures=[signature], unknown="field")
    assert Digest.of(dressed) != Digest.of(raw)
    opened = trust.open(dressed, predicate_type=DATASET_BATCH, roles=["provider"])
    assert (opened.digest, opened.key_id) == (payload_digest(raw), "feed")


def test_a_record_of_another_type_is_refused(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, feed="provider")
    with pytest.raises(EvidenceError, match="Expected a record of type"):
        trust.open(signed(tmp_path, "feed"), predicate_type=SLSA_PROVENANCE, roles=["provider"])


def sign_bytes(folder: Path, key: str, payload: bytes) -> bytes:
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, "application/vnd.in-toto+json", {})
    envelope.sign(signer_from_file(folder / f"{key}.pem", key))
    return json.dumps(envelope.to_dict()).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"%s","predicate":{},"subject":[]}',
        b'{"_type":"x","predicateType":"%s","predicate":{},"subject":[{"name":"a","digest":{"sha256":"00"}}]}',
        b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"%s","predicate":[],"subject":[]}',
        b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"%s","predicate":{"a":NaN},"subject":[]}',
        b'{"_type":1,"_type":"https://in-toto.io/Statement/v1","predicateType":"%s"}',
    ],
)
def test_a_signed_payload_that_is_no_strict_statement_is_refused(
    tmp_path: Path, payload: bytes
) -> None:
    trust = trust_of(tmp_path, feed="provider")
    raw = sign_bytes(tmp_path, "feed", payload % DATASET_BATCH.encode())
    with pytest.raises(EvidenceError):
        trust.open(raw, predicate_type=DATASET_BATCH, roles=["provider"])


def test_two_subjects_of_one_name_are_never_signed() -> None:
    twice = Statement(subjects=(("a", ANY), ("a", ANY)), predicate_type="x", predicate={})
    with pytest.raises(EvidenceError, match="different names"):
        twice.payload()


def test_a_trust_list_that_root_did_not_sign_is_refused(tmp_path: Path) -> None:
    trust_of(tmp_path, feed="provider")
    forged = sign_trust_list(2, {}, signer_from_file(tmp_path / "feed.pem", "root"))
    with pytest.raises(EvidenceError, match="No valid signature"):
        TrustList.open_signed(forged, public_key_of(tmp_path / "root.pub.json", "root"))


def test_one_key_under_two_names_is_refused(tmp_path: Path) -> None:
    public: Mapping[str, Any] = create_key(tmp_path / "a.pem")
    keys = {name: TrustedKey(key=public, roles=("provider",)) for name in ("a", "b")}
    with pytest.raises(EvidenceError, match="same key"):
        sign_trust_list(1, keys, CryptoSigner.generate_ed25519())


def test_a_key_is_never_overwritten_and_not_readable_by_others(tmp_path: Path) -> None:
    create_key(tmp_path / "a.pem")
    before = (tmp_path / "a.pem").read_bytes()
    assert (tmp_path / "a.pem").stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="never overwritten"):
        create_key(tmp_path / "a.pem")
    assert (tmp_path / "a.pem").read_bytes() == before


def test_a_machine_signs_only_with_a_key_that_the_trust_list_knows(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, pipeline="pipeline")
    keys = SigningKeys(tmp_path, {})
    assert keys.signer("pipeline", trust).public_key.keyid == "pipeline"
    with pytest.raises(ConfigError, match=r"promoter\.pem is missing"):
        keys.signer("promoter", trust)
    create_key(tmp_path / "promoter.pem")
    with pytest.raises(ConfigError, match="not on trust list version 1"):
        keys.signer("promoter", trust)


def test_the_key_uri_of_a_kms_replaces_the_file(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, signer_7="pipeline")
    keys = SigningKeys(tmp_path / "none", {"pipeline": f"signer_7=file2:{tmp_path}/signer_7.pem"})
    assert keys.signer("pipeline", trust).public_key.keyid == "signer_7"


MOMENT = Moment(
    started_on="2026-10-05T00:00:00Z",
    finished_on="2026-10-05T00:00:01Z",
    run_id="run",
    requested_by="me",
)


def attested(step: Any, **changes: Any) -> Statement:
    parts: dict[str, Any] = {
        "model": "spam",
        "week": "2026-W40",
        "request": Digest.of(b"request"),
        "report": Digest.of(b"report"),
        "inputs": {"ingest/feed/2026-W40": ANY, "registry-head": Digest.of(b"head")},
        "artefacts": {"weights": Digest.of(b"weights")},
        "materials": {"holdout": ANY},
        "policy": ANY,
        "passed": True,
        "code_version": ANY,
        "moment": MOMENT,
    }
    return attest(step=step, **{**parts, **changes})


@pytest.mark.parametrize(
    "step", ["pin", "ingest", "provenance", "screening", "training", "validation", "gate"]
)
def test_an_attestation_reads_back_what_it_said(tmp_path: Path, step: Any) -> None:
    role = "promoter" if step in ("validation", "gate") else "pipeline"
    trust = trust_of(tmp_path, signer=role)
    found = read_attestation(signed(tmp_path, "signer", attested(step)), trust, step=step)
    assert (found.model, found.week, found.report) == ("spam", "2026-W40", Digest.of(b"report"))
    assert found.inputs == {"ingest/feed/2026-W40": ANY, "registry-head": Digest.of(b"head")}
    assert found.artefacts == {"weights": Digest.of(b"weights")}
    assert found.request == (None if step == "gate" else Digest.of(b"request"))


def test_the_pipeline_key_cannot_sign_a_gate_decision(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, pipeline="pipeline", promoter="promoter")
    with pytest.raises(EvidenceError, match="No valid signature"):
        read_attestation(signed(tmp_path, "pipeline", attested("gate")), trust, step="gate")


def test_the_pipeline_key_signed_validations_until_it_did_not_any_more(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, pipeline="pipeline", promoter="promoter")
    raw = signed(tmp_path, "pipeline", attested("validation"))
    with pytest.raises(EvidenceError, match="No valid signature"):
        read_attestation(raw, trust, step="validation")
    old = read_attestation(raw, trust, step="validation", of_another_release=True)
    assert old.key_id == "pipeline"


def test_no_earlier_release_let_the_pipeline_key_sign_a_gate_decision(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, pipeline="pipeline", promoter="promoter")
    raw = signed(tmp_path, "pipeline", attested("gate"))
    with pytest.raises(EvidenceError, match="No valid signature"):
        read_attestation(raw, trust, step="gate", of_another_release=True)


def test_a_record_of_one_step_is_not_taken_for_another(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, pipeline="pipeline")
    raw = signed(tmp_path, "pipeline", attested("ingest"))
    with pytest.raises(EvidenceError, match="Expected an attestation of screening"):
        read_attestation(raw, trust, step="screening")


def test_predicates_are_those_of_the_field(tmp_path: Path) -> None:
    """Parsed by in-toto's own classes, which refuse a field name that they do not know."""
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.predicates.vsa.v1.vsa_pb2 import VerificationSummary

    ParseDict(dict(attested("training").predicate), Provenance())
    summary = dict(attested("gate", passed=False).predicate)
    assert summary["verificationResult"] == "FAILED"
    # The published class lacks verifier.version, which the specification has, and takes a string
    # where the specification has a list of levels.
    summary["verifier"] = {"id": summary["verifier"]["id"]}
    assert summary.pop("verifiedLevels") == []
    ParseDict(summary, VerificationSummary())


def test_openssl_alone_verifies_our_records(tmp_path: Path) -> None:
    trust_of(tmp_path, pipeline="pipeline")
    envelope = json.loads(signed(tmp_path, "pipeline"))
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    public = json.loads((tmp_path / "pipeline.pub.json").read_bytes())["keyval"]["public"]
    prefix = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of ed25519
    (tmp_path / "pub.der").write_bytes(prefix + bytes.fromhex(public))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER"]
    command += ["-inkey", "pub.der", "-in", "pae", "-sigfile", "sig"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "pae").write_bytes((tmp_path / "pae").read_bytes() + b" ")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_the_canonical_form_is_what_is_signed() -> None:
    assert STATEMENT.payload() == canonical_json(json.loads(STATEMENT.payload()))
