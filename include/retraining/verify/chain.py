"""The attestations that a gate names, each opened once and held against what it was asked."""

from typing import TypeVar

from retraining.digests import Digest
from retraining.errors import ChainBrokenError
from retraining.evidence import TrustList
from retraining.recording import StepResult, open_result
from retraining.records import GateDecision, PinnedRun, Record, Step
from retraining.step_requests import PinnedContext, code_version
from retraining.store import Store

R = TypeVar("R", bound=Record)


class Chain:
    """The attestations that a gate's attestation names, opened under one trust list."""

    pinned: PinnedContext  # once `require_for` was called

    def __init__(
        self,
        store: Store,
        trust: TrustList,
        gate: StepResult[GateDecision],
        pin: StepResult[PinnedRun],
    ) -> None:
        self.store = store
        self.trust = trust
        self.gate = gate
        self.pin = pin
        self.replay = pin.report.code_version == code_version()
        self.inputs = dict(gate.attestation.inputs)
        self._opened: list[StepResult[Record]] = [gate, pin]
        self._model = ""

    def require_for(self, pinned: PinnedContext) -> None:
        """Every record from here on has to belong to this run's model."""
        self.pinned = pinned
        self._model = pinned.run.model
        require(
            {self.gate.attestation.model, self.pin.attestation.model} == {self._model},
            "The decision and the pinned run belong to different models.",
        )

    def take(
        self, step: Step, name: str, report_type: type[R], request: Digest | None
    ) -> StepResult[R] | None:
        """Open the input of that name, or None when the gate had none.

        With `request`, demand that the step was asked exactly that.
        """
        digest = self.inputs.pop(name, None)
        if digest is None:
            return None
        # Until 0.3 the pipeline signed validations. Nothing that cannot be replayed is promoted.
        result = open_result(
            self.store, self.trust, step, digest, of_another_release=not self.replay
        ).expect(report_type)
        require(
            result.attestation.model == self._model,
            f"{name} is a record of another model: {digest}.",
        )
        if request is not None:
            self.require_request(result, request)
        self._opened.append(result)
        return result

    def require_request(self, result: StepResult[Record], request: Digest) -> None:
        """Raise ChainBrokenError unless the step was asked exactly this, by the code of today."""
        require(
            not self.replay or result.attestation.request == request,
            f"The {result.attestation.step} record {result.attestation.digest} was made for"
            " another spec, policy, code version, trust list or input than this run pinned.",
        )

    def artefacts(self) -> list[Digest]:
        """Everything that the opened records name."""
        return [
            digest
            for result in self._opened
            for digest in (result.attestation.report, *result.attestation.artefacts.values())
        ]


def require(holds: bool, otherwise: str) -> None:
    """Raise ChainBrokenError with that sentence unless it holds."""
    if not holds:
        raise ChainBrokenError(otherwise)
