"""Append-only chains of signed records, and the trust lists that they are verified under.

A chain is a numbered list of envelopes, `<prefix>/0000000001.dsse.json` and on. Each record names
the payload digest of the one before and the trust list of its day; appending is one conditional
write, so of two writers exactly one wins. The registry, the privacy ledger, the closed batches of
feedback, the monitored days, reviews, incidents and approvals are such chains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from retraining.digests import Digest
from retraining.errors import ChainBrokenError, ConfigError, EvidenceError
from retraining.evidence import (
    FEEDBACK_ENTRY,
    INCIDENT_ENTRY,
    LEDGER_ENTRY,
    MONITORING_ENTRY,
    REGISTRY_ENTRY,
    REVIEW_ENTRY,
    Key,
    Role,
    Signer,
    Statement,
    TrustList,
    sign,
)
from retraining.records import (
    FeedbackEntry,
    IncidentEntry,
    LedgerCharge,
    MonitoringEntry,
    Record,
    RegistryEntry,
    ReviewEntry,
)
from retraining.store import Store

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class ChainedRecord(Protocol):
    """What a record needs to stand in a chain."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def sequence(self) -> int: ...  # noqa: D102
    @property
    def previous(self) -> Digest | None: ...  # noqa: D102
    @property
    def trust_list(self) -> Digest: ...  # noqa: D102
    @property
    def trust_version(self) -> int: ...  # noqa: D102


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


@dataclass(frozen=True)
class Link(Generic[T]):
    """One verified record of a chain: payload digest, signer and content."""

    digest: Digest
    key_id: str
    record: T


class SignedChain(Generic[R]):
    """One chain in the store, for one model.

    `also` may sign, too; `check_signer` then says whose key which record needs.
    """

    def __init__(
        self,
        store: Store,
        trust: TrustHistory,
        *,
        prefix: str,
        record_type: type[R],
        predicate_type: str,
        role: Role,
        also: Sequence[Role] = (),
        check_signer: Callable[[R, str, TrustList], None] | None = None,
    ) -> None:
        self._store = store
        self._trust = trust
        self._prefix = prefix
        self._record_type = record_type
        self._predicate_type = predicate_type
        self._roles: tuple[Role, ...] = (role, *also)
        self._check_signer = check_signer

    def load(self) -> list[Link[R]]:
        """Every record, in order, each verified and linked to the one before.

        Raises:
            ChainBrokenError: An entry is missing, altered, out of place, or not signed by the
                role that may write here.
        """
        links: list[Link[R]] = []
        trust_version = 0
        for number, name in enumerate(self._store.names(f"{self._prefix}/"), start=1):
            if name != self._name(number):
                raise ChainBrokenError(
                    f"Expected {self._name(number)}, found {name}: an entry was taken out."
                    " Restore it from the archive; nothing is promoted until then."
                )
            try:
                link = self._open(self._store.read(name))
            except EvidenceError as error:
                raise ChainBrokenError(f"{name}: {error}") from error
            body: ChainedRecord = link.record  # type: ignore[assignment]
            before = links[-1].digest if links else None
            if (body.sequence, body.previous) != (number, before):
                raise ChainBrokenError(
                    f"{name} says it is entry {body.sequence} after {body.previous}, expected"
                    f" {number} after {before}: entries were exchanged."
                )
            if body.trust_version < trust_version:
                raise ChainBrokenError(
                    f"{name} was made under trust list version {body.trust_version}, although"
                    f" version {trust_version} was in force: a revoked key may have signed it."
                )
            trust_version = body.trust_version
            links.append(link)
        return links

    def append(self, record: R, signer: Signer) -> Link[R]:
        """Sign `record` and write it as the next entry.

        Raises:
            NameTakenError: Somebody else wrote that entry first.
        """
        body: ChainedRecord = record  # type: ignore[assignment]
        statement = Statement(
            subjects=(("entry", record.identity),),
            predicate_type=self._predicate_type,
            predicate=record.model_dump(mode="json"),
        )
        raw, _ = sign(statement, signer)
        link = self._open(raw)  # also refuses to write what no reader would accept
        self._store.create(self._name(body.sequence), raw)
        return link

    def _name(self, number: int) -> str:
        return f"{self._prefix}/{number:010d}.dsse.json"

    def _open(self, raw: bytes) -> Link[R]:
        # Which list a record was made under stands inside it, so look before verifying; the
        # list itself is signed by root, and its version may only grow along the chain.
        opened = None
        for trust in sorted(self._trust.lists.values(), key=lambda t: -t.version):
            try:
                opened = trust.open(raw, predicate_type=self._predicate_type, roles=self._roles)
            except EvidenceError:
                continue
            if opened.predicate.get("trust_list") == trust.digest:
                break
            opened = None
        if opened is None:
            raise EvidenceError(
                f"not signed by a {' or '.join(self._roles)} key of the trust list that it names."
                " It was forged or altered. Find out who can write there, then restore the entry."
            )
        try:
            record = self._record_type.model_validate(dict(opened.predicate))
        except ValidationError as error:
            raise EvidenceError(f"is not a {self._record_type.__name__}.") from error
        body: ChainedRecord = record  # type: ignore[assignment]
        if body.model != self._prefix.rpartition("/")[2]:
            raise EvidenceError(f"belongs to the model {body.model!r}: entries were exchanged.")
        if isinstance(record, (ReviewEntry, IncidentEntry)) and record.reviewer != opened.key_id:
            raise EvidenceError(
                f"names the reviewer {record.reviewer!r}, and {opened.key_id!r} signed it."
            )
        known = self._trust.named(body.trust_list)
        if self._check_signer is not None:
            self._check_signer(record, opened.key_id, known)
        if body.trust_version != known.version:
            raise EvidenceError("names a trust list version that is not its list's.")
        return Link(opened.digest, opened.key_id, record)


def registry_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[RegistryEntry]:
    """The registry of one model: concluded weeks and champions, written by the promoter."""
    return SignedChain(
        store,
        trust,
        prefix=f"registry/{model}",
        record_type=RegistryEntry,
        predicate_type=REGISTRY_ENTRY,
        role="promoter",
    )


def ledger_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[LedgerCharge]:
    """The privacy ledger of one model: every start of a training run, written before it."""
    return SignedChain(
        store,
        trust,
        prefix=f"ledger/{model}",
        record_type=LedgerCharge,
        predicate_type=LEDGER_ENTRY,
        role="pipeline",
    )


def feedback_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[FeedbackEntry]:
    """The closed batches of users' feedback of one model, one per week at most."""
    return SignedChain(
        store,
        trust,
        prefix=f"feedback/{model}",
        record_type=FeedbackEntry,
        predicate_type=FEEDBACK_ENTRY,
        role="pipeline",
    )


def monitoring_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[MonitoringEntry]:
    """The monitored days of one model, and the incidents that were open after each."""
    return SignedChain(
        store,
        trust,
        prefix=f"monitoring/{model}",
        record_type=MonitoringEntry,
        predicate_type=MONITORING_ENTRY,
        role="pipeline",
    )


def review_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[ReviewEntry]:
    """What people decided about quarantined rows of one model, written by reviewers."""
    return SignedChain(
        store,
        trust,
        prefix=f"reviews/{model}",
        record_type=ReviewEntry,
        predicate_type=REVIEW_ENTRY,
        role="reviewer",
    )


def incident_chain(store: Store, trust: TrustHistory, model: str) -> SignedChain[IncidentEntry]:
    """What people did about poison that was found late, written by reviewers."""
    return SignedChain(
        store,
        trust,
        prefix=f"incidents/{model}",
        record_type=IncidentEntry,
        predicate_type=INCIDENT_ENTRY,
        role="reviewer",
    )


def charges_of(links: Sequence[Link[LedgerCharge]]) -> list[LedgerCharge]:
    """The bare charges of a ledger."""
    return [link.record for link in links]
