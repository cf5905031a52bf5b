"""All versions of the trust list: what a record of an earlier day is verified under."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from retraining.digests import Digest
from retraining.errors import ConfigError, EvidenceError
from retraining.evidence import Key, TrustList
from retraining.store import Store


@dataclass(frozen=True)
class TrustHistory:
    """All versions of the trust list, each verified against the root's public key."""

    lists: Mapping[Digest, TrustList]

    @classmethod
    def load(cls, store: Store, root: Key) -> Self:
        """Read and verify every version; raises ConfigError when there is none.

        Raises:
            EvidenceError: A version is not signed by the root key, or has a wrong number.
        """
        lists: dict[Digest, TrustList] = {}
        names = store.names("trust/")
        for number, name in enumerate(names, start=1):
            trust = TrustList.open_signed(store.read(name), root)
            if name != f"trust/{number:010d}.dsse.json" or trust.version != number:
                raise EvidenceError(
                    f"{name} holds version {trust.version} of the trust list, expected {number}."
                    " Versions are numbered without gaps; restore the missing one."
                )
            lists[trust.digest] = trust
        if not lists:
            raise ConfigError(
                f"{store.uri} holds no trust list. Run `retraining keys create` to make the keys"
                " and the first list."
            )
        return cls(lists)

    @property
    def latest(self) -> TrustList:
        """The list that new records are made under."""
        return max(self.lists.values(), key=lambda trust: trust.version)

    def named(self, digest: Digest) -> TrustList:
        """The list of that payload digest; raises EvidenceError when it is unknown."""
        try:
            return self.lists[digest]
        except KeyError:
            raise EvidenceError(
                f"The trust list {digest} is not in the store, but a record was made under it."
            ) from None
