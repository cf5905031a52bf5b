"""Makes an installation's keys and the versions of its trust list: the work of the root's holder.

The root key signs the list of everybody else's keys and nothing more; once a list is signed it
can lie offline until the next change. Private keys are files, made here and never overwritten.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retraining.digests import canonical_json, parse_json
from retraining.errors import ConfigError, NameTakenError
from retraining.evidence import (
    Key,
    TrustedKey,
    TrustList,
    create_key,
    public_key_of,
    sign_trust_list,
)
from retraining.evidence.keys import signer_from_file
from retraining.evidence.trust import Role
from retraining.recording import now
from retraining.settings import Settings
from retraining.sign_batch import build_manifest, write_manifest
from retraining.store import Store, open_store
from retraining.trust_history import TrustHistory

_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
NEEDED_ROLES: tuple[Role, ...] = ("pipeline", "promoter")  # besides the root
TEAM_ROLES: tuple[Role, ...] = (*NEEDED_ROLES, "reviewer", "owner")


@dataclass(frozen=True)
class NewKey:
    """A key to put on the trust list.

    Attributes:
        public: Its `*.pub.json`, as `retraining keys provider` writes it.
        holder: Who holds the private key, for people.
    """

    key_id: str
    role: Role
    public: Path
    holder: str = ""


def provider_key(folder: Path, name: str) -> Path:
    """Where the private key of a provider lies, if it lies on this machine."""
    return folder / "providers" / f"{name}.pem"


def create_team_keys(settings: Settings, *, providers: Sequence[str] = ()) -> TrustList:
    """Make a small team's keys (root and `TEAM_ROLES`) and the first trust list.

    Keys that lie there already are used as they are, so that an interrupted run can be finished.

    Args:
        settings: Where keys and store are.
        providers: Also make a key for each of these, for a trial on one machine.

    Raises:
        ConfigError: The store has a trust list already.
    """
    store = open_store(settings.store)
    if store.names("trust/"):
        raise ConfigError(
            f"{store.uri} has a trust list already, so its keys were made before. Add one, of"
            f" whichever role, with `retraining keys provider NAME --out {settings.keys}` and"
            f" `retraining keys trust --add NAME={settings.keys}/NAME.pub.json --role ROLE`; called"
            " as its role, it is found there."
        )
    root = settings.keys / "root.pem"
    _ensure(root)
    own_root = public_key_of(root.with_suffix(".pub.json"), "root")
    if settings.root_key.exists() and public_key_of(settings.root_key, "root") != own_root:
        raise ConfigError(
            f"{settings.root_key} is not the public part of {root}. Remove one of the two, or"
            " set RETRAINING_ROOT_KEY to the other."
        )
    wanted = [NewKey(role, role, _ensure(settings.keys / f"{role}.pem")) for role in TEAM_ROLES]
    wanted += [
        NewKey(name, "provider", _ensure(provider_key(settings.keys, name)), holder=name)
        for name in providers
    ]
    keys = {new.key_id: _trusted(new) for new in wanted}
    return _write(store, 1, keys, root, own_root)


def create_provider_key(folder: Path, name: str) -> Path:
    """Make a provider's key pair; return the public part, which goes to the root's holder.

    Raises:
        ConfigError: There is one already.
    """
    if not _KEY_NAME.fullmatch(name):
        raise ConfigError(
            f"Found {name!r}, expected a name of letters, digits, '_' and '-', as sources have."
        )
    private = folder / f"{name}.pem"
    create_key(private)
    return private.with_suffix(".pub.json")


def change_trust(
    settings: Settings,
    *,
    add: Sequence[NewKey] = (),
    remove: Sequence[str] = (),
    root: Path | None = None,
) -> TrustList:
    """Sign and store the next version of the trust list.

    A removed key is revoked from the next registry entry on; older entries still verify under the
    list of their day.

    Args:
        settings: Where store and public root key are.
        add: Keys to add; a new key under an old name needs the old one removed first.
        remove: Key ids to take off.
        root: The root's private key; `<keys>/root.pem` when not given.

    Raises:
        ConfigError: A key id is unknown or taken, or nobody could sign or promote any more.
        EvidenceError: A stored version is not the root's.
    """
    store = open_store(settings.store)
    public = public_key_of(settings.root_key, "root")
    latest = TrustHistory.load(store, public).latest
    keys = dict(latest.keys)
    for key_id in remove:
        if keys.pop(key_id, None) is None:
            raise ConfigError(f"No key {key_id!r} on the trust list; it has {sorted(keys)}.")
    for new in add:
        if new.key_id in keys:
            raise ConfigError(
                f"The trust list has a key {new.key_id!r} already. Remove it in the same command"
                " to exchange it, or choose another name."
            )
        keys[new.key_id] = _trusted(new)
    held = {role for trusted in keys.values() for role in trusted.roles}
    if missing := [role for role in NEEDED_ROLES if role not in held]:
        raise ConfigError(
            f"Then nobody could sign as {missing}; add a new key in the same command."
        )
    private = root or settings.keys / "root.pem"
    return _write(store, latest.version + 1, keys, private, public)


def sign_delivery(
    delivery: Path,
    *,
    key: Path,
    dataset: str,
    batch: str,
    sequence: int,
    provider: str = "",
) -> Path:
    """Sign a folder or a file as its provider does; return the path of the manifest.

    Args:
        key: The provider's private key file; names the provider when `provider` does not.
        dataset: The source's name in the pipeline file; the rest as `build_manifest`.

    Raises:
        ConfigError: The key cannot be used, or there is nothing to sign.
        BatchRefusedError: A file is of a kind that no batch may have.
    """
    name = provider or key.stem
    manifest = build_manifest(
        delivery,
        provider=name,
        dataset=dataset,
        batch=batch,
        sequence=sequence,
        created_at=now(),
        signer=signer_from_file(key, name),
    )
    return write_manifest(delivery, manifest)


def _ensure(private: Path) -> Path:
    public = private.with_suffix(".pub.json")
    if not private.exists():
        create_key(private)
    elif not public.exists():  # an earlier run was killed between the two
        public.write_bytes(canonical_json(signer_from_file(private, "").public_key.to_dict()))
    return public


def _trusted(new: NewKey) -> TrustedKey:
    public_key_of(new.public, new.key_id)  # raises when it is none
    return TrustedKey(key=parse_json(new.public.read_bytes()), roles=(new.role,), holder=new.holder)


def _write(
    store: Store, version: int, keys: Mapping[str, TrustedKey], root: Path, public: Key
) -> TrustList:
    raw = sign_trust_list(version, keys, signer_from_file(root, "root"))
    # Opened as every reader will: a list by another key could never be taken back.
    trust = TrustList.open_signed(raw, public)
    try:
        store.create(f"trust/{version:010d}.dsse.json", raw)
    except NameTakenError as error:
        raise ConfigError(
            "Somebody else changed the trust list at the same time; look at"
            " `retraining keys list` and try again."
        ) from error
    return trust
