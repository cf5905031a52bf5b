"""Stores what a step concluded, signs it, and finds it again.

Every step goes through here in the same way: outputs by digest, a report by digest, one signed
attestation that names both, and a memo under which the same request finds it. Failures leave
nothing behind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from retraining.digests import Digest
from retraining.errors import ArtifactMissingError, EvidenceError, NameTakenError
from retraining.evidence import (
    Attestation,
    Moment,
    SigningKeys,
    TrustList,
    attest,
    payload_digest,
    read_attestation,
    role_of,
    sign,
)
from retraining.records import Record, Step, report_type
from retraining.store import Store

R = TypeVar("R", bound=Record, covariant=True)
R2 = TypeVar("R2", bound=Record)


def now() -> str:
    """The time, RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class StepResult(Generic[R]):
    """A concluded step: its attestation, its report, and whether it was done before."""

    attestation: Attestation
    report: R
    reused: bool = False

    def expect(self, report_type: type[R2]) -> "StepResult[R2]":
        """The same, known to carry a report of that class; raises EvidenceError."""
        if not isinstance(self.report, report_type):
            raise EvidenceError(
                f"{self.attestation.digest} carries no {report_type.__name__}; it was exchanged."
            )
        return StepResult(self.attestation, self.report, self.reused)


def open_result(
    store: Store,
    trust: TrustList,
    step: Step,
    digest: Digest,
    *,
    of_another_release: bool = False,
) -> StepResult[Record]:
    """Read a concluded step by its attestation's digest, everything verified.

    Args:
        of_another_release: As for `read_attestation`: for a record of the past only.

    Raises:
        EvidenceError: It is no attestation of that step, or its report is not one.
        ArtifactMissingError: The store has no such record.
        ArtifactTamperedError: The report's bytes were changed.
    """
    raw = store.read(f"attestations/{digest.hex}.dsse.json")
    if payload_digest(raw) != digest:
        raise EvidenceError(f"The store holds another record under {digest}: it was exchanged.")
    attestation = read_attestation(raw, trust, step=step, of_another_release=of_another_release)
    report = report_type(step).from_json(store.get(attestation.report))
    return StepResult(attestation, report)


class Recorder:
    """Records the steps of one run."""

    def __init__(
        self,
        store: Store,
        trust: TrustList,
        keys: SigningKeys,
        *,
        code_version: Digest,
        run_id: str,
        requested_by: str,
        clock: Callable[[], str] = now,
    ) -> None:
        self._store = store
        self._trust = trust
        self._keys = keys
        self._code_version = code_version
        self._run_id = run_id
        self._requested_by = requested_by
        self._clock = clock

    def started(self) -> str:
        """The time at which a step starts."""
        return self._clock()

    def finished(self, step: Step, request: Digest, report_type: type[R2]) -> StepResult[R2] | None:
        """An earlier result of exactly this request, if there is a valid one.

        A memo that does not verify is passed over: whoever wrote it cannot stop the step from
        being done again.
        """
        for name in self._store.names(f"memo/{request.hex}/"):
            try:
                digest = Digest.from_hex(name.rpartition("/")[2])
                result = open_result(self._store, self._trust, step, digest).expect(report_type)
                present = all(self._store.exists(d) for d in result.attestation.artefacts.values())
            except (EvidenceError, ArtifactMissingError):
                continue
            if result.attestation.request == request and present:
                return StepResult(result.attestation, result.report, reused=True)
        return None

    def conclude(
        self,
        step: Step,
        report: R2,
        *,
        model: str,
        week: str,
        request: Digest,
        started_on: str,
        inputs: Mapping[str, Digest],
        policy: Digest,
        artefacts: Mapping[str, Digest] | None = None,
        materials: Mapping[str, Digest] | None = None,
        passed: bool = False,
        memo: bool = True,
    ) -> StepResult[R2]:
        """Store the report, sign one attestation over it, and note it for reuse if `memo`."""
        statement = attest(
            step=step,
            model=model,
            week=week,
            request=request,
            report=self._store.put(report.to_json()),
            inputs=inputs,
            artefacts=artefacts or {},
            materials=materials or {},
            policy=policy,
            passed=passed,
            code_version=self._code_version,
            moment=Moment(
                started_on=started_on,
                finished_on=self._clock(),
                run_id=self._run_id,
                requested_by=self._requested_by,
            ),
        )
        raw, digest = sign(statement, self._keys.signer(role_of(step), self._trust))
        attestation = read_attestation(raw, self._trust, step=step)
        self._create(f"attestations/{digest.hex}.dsse.json", raw)
        if memo:
            self._create(f"memo/{request.hex}/{digest.hex}", b"{}")
        return StepResult(attestation, report)

    def _create(self, name: str, data: bytes) -> None:
        try:
            self._store.create(name, data)
        except NameTakenError:
            if name.startswith("memo/"):
                return
            # Same payload, same identity: only an envelope of the same statement may lie there.
            found = payload_digest(self._store.read(name))
            if found != payload_digest(data):
                raise
