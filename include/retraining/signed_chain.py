"""Append-only chains of signed records, one per model and kind.

A chain is a numbered list of envelopes, `<prefix>/0000000001.dsse.json` and on. Each record names
the payload digest of the one before and the trust list of its day; appending is one conditional
write, so of two writers exactly one wins. The registry, the privacy ledger, the closed batches of
feedback, the monitored days, reviews, incidents and approvals are such chains.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from retraining.digests import Digest
from retraining.errors import ChainBrokenError, EvidenceError
from retraining.evidence import Role, Signer, Statement, TrustList, sign
from retraining.records import Record
from retraining.store import Store
from retraining.trust_history import TrustHistory

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
class Link(Generic[T]):
    """One verified record of a chain: payload digest, signer and content."""

    digest: Digest
    key_id: str
    record: T


@dataclass(frozen=True)
class Entries(Generic[T]):
    """The verified entries of one chain, oldest first, and as they were when a run pinned them."""

    model: str
    links: tuple[Link[T], ...] = ()
    called: ClassVar[str]  # what messages call them

    @property
    def head(self) -> Digest | None:
        """Payload digest of the newest entry."""
        return self.links[-1].digest if self.links else None

    def position(self, head: Digest | None) -> int:
        """How many entries there are up to that one; raises ChainBrokenError when it is gone."""
        if head is None:
            return 0
        for position, link in enumerate(self.links, start=1):
            if link.digest == head:
                return position
        raise ChainBrokenError(
            f"The {self.called} of {self.model} have no entry {head}, which a run took into"
            " account: they were shortened or exchanged. Restore them before anything is promoted."
        )

    def up_to(self, head: Digest | None) -> Self:
        """The entries as they were when `head` was the newest; raises ChainBrokenError."""
        return replace(self, links=self.links[: self.position(head)])


class SignedChain(Generic[R]):
    """One chain in the store, for one model.

    `also` may sign, too; `check_signer` says whose key which record needs.
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
        known = self._trust.named(body.trust_list)
        if self._check_signer is not None:
            self._check_signer(record, opened.key_id, known)
        if body.trust_version != known.version:
            raise EvidenceError("names a trust list version that is not its list's.")
        return Link(opened.digest, opened.key_id, record)
