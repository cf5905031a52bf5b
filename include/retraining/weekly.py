"""A whole week in one process: the steps in the order in which the DAG runs them.

For a laptop, a test and a benchmark. Airflow runs the same steps as tasks and leaves the same
records; this module, too, knows only digests and the order.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from retraining.digests import Digest
from retraining.errors import NothingToDo
from retraining.records import (
    GateDecision,
    IngestReport,
    PinnedRun,
    ProvenanceReport,
    PurgeReport,
    RegistryEntry,
    ScreeningReport,
    TrainingReport,
    ValidationReport,
)
from retraining.signed_chain import Link
from retraining.steps import RoundDigests, StepResult, StepRunner

T = TypeVar("T")
OnStep = Callable[[str, Any, float], None]


def _quiet(_name: str, _result: Any, _seconds: float) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class ScreenedWeek:
    """What the steps up to screening concluded.

    Attributes:
        skipped: Step to the reason why it had nothing to do.
        seconds: Wall-clock seconds of each step, by its name.
    """

    run: StepResult[PinnedRun]
    ingest: tuple[StepResult[IngestReport], ...]
    provenance: tuple[StepResult[ProvenanceReport], ...]
    screening: StepResult[ScreeningReport]
    skipped: dict[str, str]
    seconds: dict[str, float]


@dataclass(frozen=True)
class PurgeRound:
    """A purge, and the challenger of what it left; a step that had nothing to do is None."""

    purge: StepResult[PurgeReport]
    training: StepResult[TrainingReport] | None
    validation: StepResult[ValidationReport] | None

    def named(self) -> RoundDigests:
        """The same by digest, as the gate takes it."""
        trained, measured = self.training, self.validation
        return RoundDigests(
            self.purge.attestation.digest,
            trained.attestation.digest if trained else None,
            measured.attestation.digest if measured else None,
        )


@dataclass(frozen=True, kw_only=True)
class DecidedWeek:
    """What a whole run concluded; a step that had nothing to do is None.

    Attributes:
        rounds: What was purged after a challenger was refused, and what came of it.
        gate: The decision: HOLD and REJECT are conclusions, not errors.
        entry: The registry entry of a promotion; None when nothing was promoted.
    """

    screened: ScreenedWeek
    training: StepResult[TrainingReport] | None
    validation: StepResult[ValidationReport] | None
    rounds: tuple[PurgeRound, ...]
    gate: StepResult[GateDecision]
    entry: Link[RegistryEntry] | None


class _Clock:
    """Calls one step, times it, and tells whoever wants to know."""

    def __init__(self, on_step: OnStep) -> None:
        self.on_step = on_step
        self.seconds: dict[str, float] = {}
        self.skipped: dict[str, str] = {}

    def call(self, name: str, step: Callable[[], T]) -> T:
        started = time.monotonic()
        result = step()
        self._told(name, result, started)
        return result

    def call_or_skip(self, name: str, step: Callable[[], T]) -> T | None:
        started = time.monotonic()
        try:
            return self.call(name, step)
        except NothingToDo as nothing:
            self.skipped[name] = str(nothing)
            self._told(name, nothing, started)
            return None

    def _told(self, name: str, result: Any, started: float) -> None:
        self.seconds[name] = time.monotonic() - started
        self.on_step(name, result, self.seconds[name])


def screen_week(
    steps: StepRunner,
    model: str,
    week: str,
    *,
    left_out: Sequence[str] = (),
    dry_run: bool = False,
    reason: str = "",
    on_step: OnStep = _quiet,
) -> ScreenedWeek:
    """Run the steps up to screening; no model is trained and nothing is decided.

    Args:
        on_step: Called after each step with its name (`ingest mail_gateway_a`), its result, or
            the NothingToDo of a step that was skipped, and its seconds.

    Raises:
        NothingToDo: The week, or a later one, was promoted already.
        RetrainingError: A step broke.
    """
    return _screen_week(
        steps, _Clock(on_step), model, week, left_out=left_out, dry_run=dry_run, reason=reason
    )


def run_week(
    steps: StepRunner,
    model: str,
    week: str,
    *,
    left_out: Sequence[str] = (),
    dry_run: bool = False,
    reason: str = "",
    on_step: OnStep = _quiet,
) -> DecidedWeek:
    """Run a week from delivered bytes to registry; arguments and errors as `screen_week`."""
    clock = _Clock(on_step)
    screened = _screen_week(
        steps, clock, model, week, left_out=left_out, dry_run=dry_run, reason=reason
    )
    run = screened.run.attestation.digest
    screening = screened.screening.attestation.digest
    trained = clock.call_or_skip("training", lambda: steps.train(run, screening))
    training = trained.attestation.digest if trained else None
    measured = None
    if training is not None:
        measured = clock.call_or_skip("validation", lambda: steps.validate(run, training))
    rounds = _purge_rounds(steps, clock, run, screening, measured)
    gate = clock.call(
        "gate",
        lambda: steps.decide(
            run,
            provenance=_digests(screened.provenance),
            screening=screening,
            training=training,
            validation=measured.attestation.digest if measured else None,
            rounds=[purged.named() for purged in rounds],
        ),
    )
    entry = None
    if gate.report.promotes:
        entry = clock.call("promotion", lambda: steps.promote(gate.attestation.digest))
    return DecidedWeek(
        screened=screened,
        training=trained,
        validation=measured,
        rounds=rounds,
        gate=gate,
        entry=entry,
    )


def _purge_rounds(
    steps: StepRunner,
    clock: _Clock,
    run: Digest,
    screening: Digest,
    measured: StepResult[ValidationReport] | None,
) -> tuple[PurgeRound, ...]:
    rounds: list[PurgeRound] = []
    for number in range(1, 1 + steps.pinned(run).spec.gate.most_purges):
        if measured is None:
            break
        validated = measured.attestation.digest
        purge = clock.call_or_skip(f"purge {number}", partial(steps.purge, run, validated))
        if purge is None:
            break
        purged = purge.attestation.digest
        train = partial(steps.train, run, screening, purged)
        trained = clock.call_or_skip(f"training {number + 1}", train)
        measured = None
        if trained is not None:
            validate = partial(steps.validate, run, trained.attestation.digest)
            measured = clock.call_or_skip(f"validation {number + 1}", validate)
        rounds.append(PurgeRound(purge, trained, measured))
    return tuple(rounds)


def _screen_week(
    steps: StepRunner,
    clock: _Clock,
    model: str,
    week: str,
    *,
    left_out: Sequence[str],
    dry_run: bool,
    reason: str,
) -> ScreenedWeek:
    pin = clock.call(
        "pin",
        lambda: steps.pin(model, week, left_out=left_out, dry_run=dry_run, reason=reason),
    )
    run = pin.attestation.digest
    ingest: list[StepResult[IngestReport]] = []
    provenance: list[StepResult[ProvenanceReport]] = []
    for source in sorted({batch.source for batch in steps.pinned(run).batches()}):
        ingested = clock.call(f"ingest {source}", partial(steps.ingest, run, source))
        check = partial(steps.verify_provenance, run, _digests(ingested))
        ingest += ingested
        provenance += clock.call(f"provenance {source}", check)
    screening = clock.call("screening", lambda: steps.screen(run, _digests(provenance)))
    return ScreenedWeek(
        run=pin,
        ingest=tuple(ingest),
        provenance=tuple(provenance),
        screening=screening,
        skipped=clock.skipped,
        seconds=clock.seconds,
    )


def _digests(results: Sequence[StepResult[Any]]) -> list[Digest]:
    return [result.attestation.digest for result in results]
