"""Private keys: made, found and never shown.

By default a role's key is the file `<keys>/<role>.pem` (PKCS8, mode 0600). Any key URI that
securesystemslib knows works in its place: `awskms:`, `gcpkms:`, `azurekms:`, `hsm:`, `hv:`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from retraining.digests import canonical_json, parse_json
from retraining.errors import ConfigError
from retraining.evidence.trust import Role, TrustList


def create_key(private: Path) -> Mapping[str, Any]:
    """Make an ed25519 key pair: `x.pem` (0600) and `x.pub.json`; return the public part.

    Raises:
        ConfigError: When either file exists: a key is never overwritten.
    """
    public = private.with_suffix(".pub.json")
    signer = CryptoSigner.generate_ed25519()
    described: dict[str, Any] = signer.public_key.to_dict()
    private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        for path, data in ((private, signer.private_bytes), (public, canonical_json(described))):
            mode = 0o600 if path == private else 0o644
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as f:
                f.write(data)
    except FileExistsError as error:
        raise ConfigError(
            f"{error.filename} exists, and a key is never overwritten."
            " Choose another name, or move the old key away."
        ) from error
    return described


def public_key_of(path: Path, key_id: str) -> Key:
    """Read a public key file (`*.pub.json`); raises ConfigError with what to do."""
    try:
        return Key.from_dict(key_id, dict(parse_json(path.read_bytes())))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} is missing. It holds a public key; `retraining keys create` makes one."
        ) from error
    except Exception as error:  # whatever is wrong with the file, it is no public key
        raise ConfigError(f"{path} is not a public key file (*.pub.json).") from error


def signer_from_file(path: Path, key_id: str) -> Signer:
    """A signer for a private key file; raises ConfigError."""
    try:
        private = load_pem_private_key(path.read_bytes(), None)
        public = SSlibKey.from_crypto(private.public_key(), keyid=key_id)
        return CryptoSigner(private, public)
    except FileNotFoundError as error:
        raise ConfigError(
            f"The private key {path} is missing. Run `retraining keys create`, or copy the key"
            " to this machine if it is meant to sign here."
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be used as a private key ({type(error).__name__})."
        ) from error


def trusted_signer(path: Path, role: Role, trust: TrustList) -> Signer:
    """A signer for a private key file whose public part the trust list knows under `role`.

    Raises:
        ConfigError: There is no such file, or the trust list does not know it as that.
    """
    material = signer_from_file(path, role).public_key.to_dict()
    for key_id, key in trust.keys_for([role]).items():
        if key.to_dict() == material:
            return signer_from_file(path, key_id)
    raise ConfigError(
        f"The {role} key {path} is not on trust list version {trust.version}. Have the root key's"
        " holder add it: `retraining keys trust`."
    )


@dataclass(frozen=True)
class SigningKeys:
    """Finds the private key of a role on this machine.

    Attributes:
        folder: Holds `<role>.pem`.
        uris: Role to key URI, where the key is not a file there; written `key_id=uri`.
    """

    folder: Path
    uris: Mapping[str, str]

    def signer(self, role: Role, trust: TrustList) -> Signer:
        """A signer whose public key the trust list knows under `role`.

        Raises:
            ConfigError: The key is not on this machine, or the trust list does not know it.
        """
        trusted = trust.keys_for([role])
        if uri := self.uris.get(role):
            key_id, _, target = uri.partition("=")
            if key_id not in trusted:
                raise ConfigError(
                    f"The trust list knows no {role} key {key_id!r}; it has {sorted(trusted)}."
                )
            return Signer.from_priv_key_uri(target, trusted[key_id])
        return trusted_signer(self.folder / f"{role}.pem", role, trust)

    def holds(self, role: Role, trust: TrustList) -> bool:
        """Whether this machine can sign in that role."""
        try:
            self.signer(role, trust)
        except ConfigError:
            return False
        return True
