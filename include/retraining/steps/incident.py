"""Poison found late: trace it, confirm it, ask for the rollback, and put one incident on record.

Each part has its own signed record, and may need a key of another machine. Whatever is on record
already is found and not done again, so the same incident can be started again after a kill, or on
the machine that holds the key that was missing. A kill right after the request leaves a request
that nobody names; it changes nothing, and no longer fits once another one was carried out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retraining.chains import incident_chain
from retraining.digests import Digest
from retraining.errors import NameTakenError, RegistryMovedError, ReviewRefusedError
from retraining.evidence import Role, Signer, trusted_signer
from retraining.records import IncidentEntry, ReviewSubject
from retraining.registry import Registry
from retraining.reviews import refuse_unfounded
from retraining.signed_chain import Link
from retraining.steps.reviewing import require_known, review
from retraining.steps.rollback import request_rollback, restore
from retraining.steps.tracing import Traced, trace
from retraining.steps.workbench import Workbench

_SHORTEST_REASON = 3  # characters, as in the record


@dataclass(frozen=True, kw_only=True)
class IncidentPlan:
    """What an incident comes to, before anything is signed; see `IncidentEntry`.

    Attributes:
        withdraw: Whether the serving version is taken out of service where no version is left
            that did not learn from it.
        confirmed: The reviews that confirm it already, one for each of `about`; None: to be made.
    """

    about: tuple[ReviewSubject, ...]
    registry_head: Digest | None
    serving: int
    learned: tuple[int, ...]
    restore_to: int
    convict: tuple[int, ...]
    withdraw: bool
    confirmed: tuple[Digest | None, ...]

    @property
    def rolls_back(self) -> bool:
        """Whether the serving version is taken back."""
        return self.serving in self.learned and (self.restore_to > 0 or self.withdraw)

    @property
    def withdraws(self) -> bool:
        """Whether none serves afterwards."""
        return self.rolls_back and not self.restore_to

    @property
    def stuck(self) -> bool:
        """Whether the serving version learned from it and serves on, for want of another."""
        return self.serving in self.learned and not self.rolls_back

    @property
    def stuck_sentence(self) -> str:
        """What people do when `stuck`."""
        return (
            f"No version is left that did not learn from it, so there is none to restore, and"
            f" version {self.serving} still serves. Withdraw it with the same command and"
            " --withdraw, if no model is better than this one, or run the next week: it trains"
            " without these rows."
        )


@dataclass(frozen=True, kw_only=True)
class IncidentOutcome:
    """What is on record now.

    Attributes:
        entry: None after a dry run.
        serves: The version that serves now; 0 when none does.
        missing: Role whose key the rest needs and this machine does not hold; "" when nothing is
            left to do.
    """

    plan: IncidentPlan
    entry: Link[IncidentEntry] | None
    serves: int
    missing: Role | str = ""


def incident(
    bench: Workbench,
    model: str,
    about: Sequence[ReviewSubject],
    *,
    why: str,
    withdraw: bool = False,
    key: Path | None = None,
    dry_run: bool = False,
) -> IncidentOutcome:
    """Confirm poison, take the model back to the last version without it, and record the incident.

    Args:
        about: What is poison; all of it is confirmed.
        withdraw: Where no version is left without it, let none serve.
        key: The reviewer's private key; the installation's own when not given.
        dry_run: Only say what would be done.

    Raises:
        ReviewRefusedError: No reason is given, or it cannot be confirmed; see `review`.
        ConfigError: The reviewer's key is missing and something has to be signed with it.
        RegistryMovedError: Somebody else was at it at the same time; start it again.
        RollbackRefusedError, EvidenceError: As `restore` says.
    """
    if len(why.strip()) < _SHORTEST_REASON:
        raise ReviewRefusedError("Say why: the reason goes on record.")
    plan = plan_incident(bench, model, about, withdraw=withdraw)
    if dry_run:
        return IncidentOutcome(plan=plan, entry=None, serves=plan.serving)
    entry = _on_record(bench, model, plan)
    if entry is None:
        entry = _put_on_record(bench, model, plan, why.strip(), key)
    if not plan.rolls_back:
        return IncidentOutcome(plan=plan, entry=entry, serves=plan.serving)
    missing = "pipeline" if entry.record.rollback is None else "promoter"
    if entry.record.rollback is None or not bench.keys.holds("promoter", bench.trust.latest):
        return IncidentOutcome(plan=plan, entry=entry, serves=plan.serving, missing=missing)
    restored = restore(bench, entry.record.rollback)
    return IncidentOutcome(plan=plan, entry=entry, serves=restored.record.version)


def plan_incident(
    bench: Workbench, model: str, about: Sequence[ReviewSubject], *, withdraw: bool = False
) -> IncidentPlan:
    """Trace everything and say what has to be done; signs nothing.

    The rollback convicts only when every version that it would convict did learn: a rollback
    convicts all standing versions above the restored one, and that must not be a false word.

    Raises:
        ReviewRefusedError: Something cannot be confirmed; the message says why.
    """
    if not about:
        raise ReviewRefusedError(
            "No concluded run took a batch of that source, so there is nothing to confirm. Name"
            " the week as well to keep a batch that is still to come out."
        )
    registry, reviews = bench.registry(model), bench.reviews(model)
    learned: set[int] = set()
    for subject in about:
        require_known(bench, model, subject)
        refuse_unfounded(
            bench.store,
            bench.trust,
            model=model,
            verb="confirm",
            about=subject,
            before=reviews.reviewed,
            trust_version=bench.trust.latest.version,
        )
        learned |= {*trace(bench, model, _traced(subject)).versions}
    standing = set(registry.standing)
    learned &= standing
    serves_on = registry.version not in learned
    to = 0 if serves_on else _last_clean(registry, learned)
    above = {number for number in standing if number > to}
    taken_back = not serves_on and (to or withdraw)
    newest = {link.record.about: link for link in reviews.links}  # the later review wins
    return IncidentPlan(
        about=tuple(about),
        registry_head=registry.head,
        serving=registry.version,
        learned=tuple(sorted(learned)),
        restore_to=to,
        convict=tuple(sorted(above)) if taken_back and above <= learned else (),
        withdraw=withdraw,
        confirmed=tuple(
            newest[one].digest if one in newest and newest[one].record.verb == "confirm" else None
            for one in about
        ),
    )


def _last_clean(registry: Registry, learned: set[int]) -> int:
    clean = (n for n in registry.standing if n < registry.version and n not in learned)
    return max(clean, default=0)


def _traced(subject: ReviewSubject) -> Traced:
    if subject.batch is not None:
        return Traced(source=subject.batch.source, week=subject.batch.week)
    if subject.user is not None:
        return Traced(source=subject.user.source, user=subject.user.user)
    return Traced(row_ids=frozenset(subject.row_ids), pattern=subject.pattern)


def _on_record(bench: Workbench, model: str, plan: IncidentPlan) -> Link[IncidentEntry] | None:
    """The incident when it stands there already, as far as this machine could take it."""
    links = incident_chain(bench.store, bench.trust, model).load()
    known = next((link for link in reversed(links) if link.record.about == plan.about), None)
    if known is None or None in plan.confirmed:
        return None  # a confirmation that was taken back since has to be made again
    if not plan.rolls_back:
        done = known.record
        return known if set(plan.learned) <= set(done.learned) else None
    if known.record.registry_head != plan.registry_head:
        return None  # its request is good for another registry
    return (
        known
        if known.record.rollback or not bench.keys.holds("pipeline", bench.trust.latest)
        else None
    )


def _put_on_record(
    bench: Workbench, model: str, plan: IncidentPlan, why: str, key: Path | None
) -> Link[IncidentEntry]:
    trust = bench.trust.latest
    signer = trusted_signer(key, "reviewer", trust) if key else bench.keys.signer("reviewer", trust)
    confirmed = tuple(
        there or review(bench, model, "confirm", subject, why=why, key=key).digest
        for subject, there in zip(plan.about, plan.confirmed, strict=True)
    )
    request: Digest | None = None
    if plan.rolls_back and bench.keys.holds("pipeline", bench.trust.latest):
        asked = request_rollback(
            bench, model, to_version=plan.restore_to, reason=why, convict=bool(plan.convict)
        )
        if asked.report.registry_head != plan.registry_head:
            raise RegistryMovedError(
                f"Another run of {model} was concluded meanwhile. Start the incident again."
            )
        request = asked.attestation.digest
    return _append(bench, plan, signer, confirmed, request, model, why)


def _append(
    bench: Workbench,
    plan: IncidentPlan,
    signer: Signer,
    confirmed: tuple[Digest, ...],
    rollback: Digest | None,
    model: str,
    why: str,
) -> Link[IncidentEntry]:
    chain, trust = incident_chain(bench.store, bench.trust, model), bench.trust.latest
    links = chain.load()
    entry = IncidentEntry(
        model=model,
        sequence=len(links) + 1,
        previous=links[-1].digest if links else None,
        about=plan.about,
        why=why,
        registry_head=plan.registry_head,
        serving=plan.serving,
        learned=plan.learned,
        reviews=confirmed,
        restore_to=plan.restore_to,
        convict=plan.convict,
        rollback=rollback,
        reviewer=signer.public_key.keyid,
        trust_list=trust.digest,
        trust_version=trust.version,
    )
    try:
        link = chain.append(entry, signer)
    except NameTakenError as error:
        raise RegistryMovedError(
            f"Somebody else recorded an incident of {model} at the same time. Start it again: what"
            " was signed already is not signed twice."
        ) from error
    bench.log(f"incident {model}: by {entry.reviewer} [{link.digest}]")
    return link
