"""Whoever has taken over an ordinary worker holds the pipeline's key, and not the promoter's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from retraining.audit import audit
from retraining.digests import Digest
from retraining.errors import (
    ChainBrokenError,
    ConfigError,
    EvidenceError,
    RegistryMovedError,
    RetrainingError,
)
from retraining.evidence import statements
from retraining.inspection import find_record
from retraining.records import BehaviourReport, BehaviourResult, Interval, ValidationReport
from retraining.step_requests import PinnedContext
from retraining.steps.serving import promotion_of
from retraining.weekly import screen_week
from tests.fixtures.workspace import MODEL, WEEKS, Workspace, make_workspace

pytestmark = pytest.mark.slow  # each test runs whole weeks
FIRST, SECOND = WEEKS[:2]
NEXT_RELEASE = Digest.of(b"the next release")


@contextmanager
def signed_by_the_pipeline() -> Iterator[None]:
    """As releases before 0.4 did it, and as a forger does it today."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statements, "_WITH_THE_PROMOTER", ("gate", "promotion"))
        yield


class TrainedWeek:
    """A week up to its challenger, and whatever somebody makes of it."""

    def __init__(self, workspace: Workspace, week: str = FIRST) -> None:
        self.workspace = workspace
        self.steps = workspace.steps()
        self.week = screen_week(self.steps, MODEL, week)
        self.run, self.screening = (
            done.attestation.digest for done in (self.week.run, self.week.screening)
        )
        self.trained = self.steps.train(self.run, self.screening)
        self.training = self.trained.attestation.digest

    @property
    def pinned(self) -> PinnedContext:
        return self.steps.pinned(self.run)  # type: ignore[no-any-return]

    def decide(self, validation: Digest, training: Digest | None = None) -> Any:
        return self.steps.decide(
            self.run,
            provenance=[done.attestation.digest for done in self.week.provenance],
            screening=self.screening,
            training=training or self.training,
            validation=validation,
        )

    def conclude(self, step: Any, report: Any, request: Digest, **inputs: Digest) -> Digest:
        """Sign a report as the recorder does, with the key of whatever role signs that step."""
        recorder = self.steps.recorder(self.pinned)
        done = recorder.conclude(
            step,
            report,
            model=MODEL,
            week=self.pinned.run.week,
            request=request,
            started_on=recorder.started(),
            inputs=inputs,
            policy=self.pinned.run.policy,
        )
        return done.attestation.digest  # type: ignore[no-any-return]

    def forged_validation(self) -> Digest:
        """A perfect challenger, says the pipeline's key, to exactly what the gate asks."""
        sure = Interval(value=1.0, low=1.0, high=1.0)
        clean = BehaviourResult(
            name="transplant", measure="rows", p_value=1.0, sentence="Nothing to see here."
        )
        honest = self.steps.validate(self.run, self.training).report
        report = honest.model_copy(
            update={
                "slices": tuple(
                    part.model_copy(update={"challenger": {"accuracy": sure}})
                    for part in honest.slices
                ),
                "behaviour": BehaviourReport(results=(clean,), false_alarm_rate=0.02),
            }
        )
        with signed_by_the_pipeline():
            return self.conclude(
                "validation", report, self.pinned.validation(self.training), training=self.training
            )


@pytest.fixture
def trained(workspace: Workspace) -> TrainedWeek:
    return TrainedWeek(workspace)


def test_its_key_alone_measures_nothing(trained: TrainedWeek) -> None:
    (trained.workspace.settings.keys / "promoter.pem").unlink()
    with pytest.raises(ConfigError, match="promoter"):
        trained.steps.validate(trained.run, trained.training)


def test_the_gate_believes_no_measurement_that_it_signed(trained: TrainedWeek) -> None:
    forged = trained.forged_validation()
    with pytest.raises(EvidenceError, match="No valid signature"):
        trained.decide(forged)
    assert trained.workspace.registry() == []


def test_promotion_believes_no_decision_that_was_made_from_such_a_measurement(
    trained: TrainedWeek,
) -> None:
    forged = trained.forged_validation()
    with signed_by_the_pipeline():  # a gate that was not careful
        decided = trained.decide(forged)
    assert decided.report.promotes
    with pytest.raises(EvidenceError, match="No valid signature"):
        trained.workspace.steps().promote(decided.attestation.digest)
    assert trained.workspace.registry() == []


def test_nor_under_the_name_of_an_older_release(
    trained: TrainedWeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the pipeline's signature is accepted; and there nothing is promoted any more."""
    forged = trained.forged_validation()
    with signed_by_the_pipeline():
        decided = trained.decide(forged).attestation.digest
    monkeypatch.setattr("retraining.verify.chain.code_version", lambda: NEXT_RELEASE)
    with pytest.raises(RegistryMovedError, match="code changed"):
        trained.workspace.steps().promote(decided)
    assert trained.workspace.registry() == []


def test_a_memo_of_its_measurement_is_passed_over_and_the_model_is_measured(
    trained: TrainedWeek,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # What it signs is the only measurement there is: the honest one leaves no memo here.
        patch.setattr(type(trained.steps.recorder()), "finished", lambda *_: None)
        forged = trained.forged_validation()
    for name in trained.steps.store.names("memo/"):
        if not name.endswith(forged.hex):
            trained.steps.store.path_of_record(name).unlink()
    honest = trained.workspace.steps().validate(trained.run, trained.training)
    assert not honest.reused
    assert honest.attestation.key_id == "promoter"
    assert "Nothing to see here." not in honest.report.to_json().decode()


def test_training_on_other_rows_than_screening_let_through_is_not_measured(
    trained: TrainedWeek,
) -> None:
    """It signs for a model that learned less than it did: nobody could ask what the rest taught."""
    report = trained.trained.report
    fewer = report.model_copy(update={"blocks": report.blocks[:1]})
    request = trained.pinned.training(trained.screening, report.blocks)
    forged = trained.conclude("training", fewer, request, screening=trained.screening)
    with pytest.raises(ChainBrokenError, match="other rows than screening let through"):
        trained.steps.validate(trained.run, forged)


def test_a_model_without_a_screening_is_not_measured(trained: TrainedWeek) -> None:
    request = trained.pinned.training(trained.screening, trained.trained.report.blocks)
    forged = trained.conclude("training", trained.trained.report, request)
    with pytest.raises(ChainBrokenError, match="names no screening"):
        trained.steps.validate(trained.run, forged)


# --- what earlier releases left behind ------------------------------------------------------


@pytest.fixture(scope="module")
def of_an_earlier_release(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A promoted week whose validation the pipeline signed."""
    workspace = make_workspace(tmp_path_factory.mktemp("earlier"), weeks=WEEKS[:1])
    with signed_by_the_pipeline():
        assert workspace.run_week(FIRST).entry is not None
    return workspace


def validation_of(workspace: Workspace) -> Digest:
    steps = workspace.steps()
    entry = steps.registry(MODEL).links[-1].record
    return steps.decision(entry.decision).attestation.inputs["validation"]  # type: ignore[no-any-return]


@pytest.mark.control
def test_what_an_earlier_release_promoted_still_verifies(
    of_an_earlier_release: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retraining.verify.chain.code_version", lambda: NEXT_RELEASE)
    steps = of_an_earlier_release.steps()
    (found,) = audit(steps.store, steps.trust)
    assert not found.chain.replayed and found.link.record.verdict == "PROMOTE"


def test_the_same_by_the_code_of_today_is_a_forgery(of_an_earlier_release: Workspace) -> None:
    steps = of_an_earlier_release.steps()
    with pytest.raises(RetrainingError, match="No valid signature"):
        list(audit(steps.store, steps.trust))


def test_monitoring_finds_what_an_earlier_release_measured(
    of_an_earlier_release: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = of_an_earlier_release.steps()
    with pytest.raises(EvidenceError, match="No valid signature"):
        promotion_of(steps, steps.registry(MODEL))
    monkeypatch.setattr("retraining.steps.serving.code_version", lambda: NEXT_RELEASE)
    assert promotion_of(steps, steps.registry(MODEL)).on_holdout["accuracy"].value > 0.75


@pytest.mark.control
def test_an_old_measurement_is_shown_with_who_signed_it(of_an_earlier_release: Workspace) -> None:
    steps = of_an_earlier_release.steps()
    digest = validation_of(of_an_earlier_release)
    shown = find_record(steps.store, steps.trust, str(digest))
    assert ValidationReport.model_validate(shown.body)
    assert "Signed by pipeline, pipeline of" in shown.verified
    assert "no gate believes it today" in shown.verified
