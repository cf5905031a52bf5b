"""The trust list: whose public key may sign what. Signed by the offline root key, versioned.

Every registry entry names the digest of the list that it was written under, and versions only
grow along the registry. So taking a key off the list revokes it from the next entry on, whatever
time a thief writes into a record, and old entries still verify under the list of their day.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from securesystemslib.signer import Key, Signer

from retraining.digests import Digest, canonical_json
from retraining.errors import EvidenceError
from retraining.evidence.envelope import OpenedRecord, Statement, open_envelope, sign
from retraining.records import Record

TRUST_LIST = "https://secure-retraining.dev/trust-list/v1"

Role = Literal["pipeline", "promoter", "provider", "reviewer", "owner"]


class TrustedKey(Record):
    """One public key and what it may sign.

    Attributes:
        key: As securesystemslib writes it: keytype, scheme, keyval.
        holder: Who holds the private key, for people.
    """

    key: Mapping[str, Any]
    roles: tuple[Role, ...] = Field(min_length=1)
    holder: str = ""

    def public_key(self, key_id: str) -> Key:
        """The key, ready to verify with; raises EvidenceError when it is none."""
        try:
            return Key.from_dict(key_id, dict(self.key))
        except (KeyError, ValueError, TypeError) as error:
            raise EvidenceError(f"Trust list: the key {key_id!r} cannot be read.") from error


class _TrustPredicate(Record):
    version: int = Field(ge=1)
    keys: Mapping[str, TrustedKey]


@dataclass(frozen=True)
class TrustList:
    """A verified trust list.

    Attributes:
        digest: Payload digest of the list.
        version: Grows by one with every change.
        keys: Key id to key and roles.
    """

    digest: Digest
    version: int
    keys: Mapping[str, TrustedKey]

    @classmethod
    def open_signed(cls, raw: bytes, root: Key) -> Self:
        """Verify a list against the root's public key; raises EvidenceError."""
        record = open_envelope(raw, {"root": root}, predicate_type=TRUST_LIST)
        try:
            body = _TrustPredicate.model_validate(dict(record.predicate))
        except ValidationError as error:
            raise EvidenceError("Trust list: the signed content is not a trust list.") from error
        _refuse_shared_material(body.keys)
        return cls(digest=record.digest, version=body.version, keys=body.keys)

    def keys_for(self, roles: Collection[Role], key_id: str | None = None) -> dict[str, Key]:
        """Public keys that hold one of `roles`, or only `key_id` if it does."""
        return {
            name: trusted.public_key(name)
            for name, trusted in self.keys.items()
            if set(roles) & set(trusted.roles) and key_id in (None, name)
        }

    def open(
        self,
        raw: bytes,
        *,
        predicate_type: str,
        roles: Collection[Role],
        key_id: str | None = None,
    ) -> OpenedRecord:
        """Open an envelope signed by a key with one of `roles` (and by `key_id`, if given).

        Raises:
            EvidenceError: As `open_envelope`, and when no such key is on the list.
        """
        keys = self.keys_for(roles, key_id)
        if not keys:
            wanted = f"key {key_id!r}" if key_id else "key"
            raise EvidenceError(
                f"Trust list version {self.version} has no {wanted} with role"
                f" {' or '.join(sorted(roles))}. Add it with `retraining keys trust` and the"
                " root key."
            )
        return open_envelope(raw, keys, predicate_type=predicate_type)


def sign_trust_list(version: int, keys: Mapping[str, TrustedKey], root: Signer) -> bytes:
    """Return the envelope of a trust list, signed with the root key."""
    _refuse_shared_material(keys)
    body = _TrustPredicate(version=version, keys=keys).model_dump(mode="json")
    statement = Statement(
        subjects=(("trust-list", Digest.of(canonical_json(body))),),
        predicate_type=TRUST_LIST,
        predicate=body,
    )
    return sign(statement, root)[0]


def _refuse_shared_material(keys: Mapping[str, TrustedKey]) -> None:
    # One key under two ids would count as two signers, and a provider could sign as pipeline.
    seen: dict[bytes, str] = {}
    for name, trusted in keys.items():
        material = canonical_json(dict(trusted.key.get("keyval", {})))
        if other := seen.get(material):
            raise EvidenceError(f"Trust list: {other!r} and {name!r} are the same key; keep one.")
        seen[material] = name
