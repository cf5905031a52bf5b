"""Sign a statement, and open an envelope that somebody else may have written.

A record's identity is the SHA-256 of its *payload*: an envelope's bytes are malleable (unknown
fields, other base64, a second valid ECDSA signature), so links and replay checks never use them.

Formats: DSSE v1 (github.com/secure-systems-lab/dsse), in-toto Statement v1.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature, Signer

from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import EvidenceError, SignatureError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_SIGNATURES = 8  # more are somebody's attempt to make us slow


@dataclass(frozen=True, kw_only=True)
class Statement:
    """An in-toto Statement: what a predicate says about its subjects.

    Attributes:
        subjects: Name and digest of each subject; names differ, at least one.
    """

    subjects: tuple[tuple[str, Digest], ...]
    predicate_type: str
    predicate: Mapping[str, Any] = field(hash=False)

    def payload(self) -> bytes:
        """The canonical JSON that is signed."""
        names = [name for name, _ in self.subjects]
        if not names or len(set(names)) != len(names):
            raise EvidenceError("Expected a statement with subjects of different names.")
        subjects = [
            {"name": name, "digest": {"sha256": digest.hex}} for name, digest in self.subjects
        ]
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": subjects,
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


@dataclass(frozen=True, kw_only=True)
class OpenedRecord:
    """A statement whose signature was verified.

    Attributes:
        digest: SHA-256 of the payload: the record's identity.
        key_id: The trusted key that signed it.
    """

    digest: Digest
    key_id: str
    statement: Statement

    @property
    def subjects(self) -> tuple[tuple[str, Digest], ...]:
        """Name and digest of each subject."""
        return self.statement.subjects

    @property
    def predicate(self) -> Mapping[str, Any]:
        """What is said about them."""
        return self.statement.predicate


def sign(statement: Statement, signer: Signer) -> tuple[bytes, Digest]:
    """Return the DSSE envelope of `statement` and its identity, the payload digest."""
    payload = statement.payload()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return canonical_json(envelope.to_dict()), Digest.of(payload)


def payload_digest(raw: bytes) -> Digest:
    """The identity that an envelope claims, before anybody verified it."""
    return Digest.of(_read(raw)[0])


def open_envelope(raw: bytes, keys: Mapping[str, Key], *, predicate_type: str) -> OpenedRecord:
    """Verify an envelope against `keys` and parse its statement, in this order.

    Args:
        raw: The envelope's bytes, from anywhere.
        keys: Key id to public key; one valid signature by any of them is enough. The key id
            inside the envelope is only a hint by its writer and is not looked at.
        predicate_type: The only predicate that is accepted.

    Raises:
        SignatureError: No valid signature by any of the keys.
        EvidenceError: Another payload or predicate type, or a payload that
            is not one strict JSON Statement.
    """
    payload, signatures = _read(raw)
    pae = Envelope(payload, PAYLOAD_TYPE, {}).pae()
    signed_by = next(
        (key_id for key_id, key in keys.items() if _verifies(key, key_id, signatures, pae)), None
    )
    if signed_by is None:
        raise SignatureError(
            f"No valid signature: expected one by {sorted(keys) or 'a trusted key'}."
            " The record was altered, or signed with another key; ask whoever delivered it to"
            " sign it again, and check the trust list if their key changed."
        )
    return OpenedRecord(
        digest=Digest.of(payload),
        key_id=signed_by,
        statement=_parse_statement(payload, predicate_type),
    )


def _read(raw: bytes) -> tuple[bytes, list[bytes]]:
    envelope = parse_json(raw)
    try:
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise EvidenceError(f"Expected payloadType {PAYLOAD_TYPE} in the envelope.")
        payload = base64.b64decode(envelope["payload"], validate=True)
        listed = envelope["signatures"]
        if len(listed) > MAX_SIGNATURES:
            raise EvidenceError(f"Expected at most {MAX_SIGNATURES} signatures in an envelope.")
        signatures = [base64.b64decode(item["sig"], validate=True) for item in listed]
    except (KeyError, TypeError, AttributeError, binascii.Error, ValueError) as error:
        raise EvidenceError(
            "Expected a DSSE envelope with payload, payloadType and signatures."
        ) from error
    return payload, signatures


def _verifies(key: Key, key_id: str, signatures: Sequence[bytes], pae: bytes) -> bool:
    for signature in signatures:
        try:
            key.verify_signature(Signature(key_id, signature.hex()), pae)
        except (UnverifiedSignatureError, VerificationError, ValueError):
            continue
        return True
    return False


def _parse_statement(payload: bytes, predicate_type: str) -> Statement:
    body = parse_json(payload)
    try:
        if body["_type"] != STATEMENT_TYPE:
            raise EvidenceError(f"Expected a {STATEMENT_TYPE}.")
        if body["predicateType"] != predicate_type:
            raise EvidenceError(
                f"Expected a record of type {predicate_type}, found {body['predicateType']!r}."
            )
        subjects = tuple(
            (str(item["name"]), Digest.from_hex(item["digest"]["sha256"]))
            for item in body["subject"]
        )
        predicate = body["predicate"]
    except (KeyError, TypeError) as error:
        raise EvidenceError("Expected an in-toto Statement with subject and predicate.") from error
    if not isinstance(predicate, dict):
        raise EvidenceError("Expected an in-toto Statement whose predicate is an object.")
    statement = Statement(subjects=subjects, predicate_type=predicate_type, predicate=predicate)
    statement.payload()  # raises when names repeat or are missing
    return statement
