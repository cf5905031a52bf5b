"""The steps of a weekly run, in their order."""

from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule

from retraining.errors import EvidenceError, NothingToDo, RetrainingError
from retraining_airflow.naming import CONSOLE, DIGITS
from retraining_airflow.notifications import GateRefused, check_notifiers
from retraining_airflow.operators.base import (
    RetrainingOperator,
    champion_asset,
    reason_of,
    shown_in_log,
)
from retraining_airflow.settings import DagSettings
from retraining_airflow.xcom import digests_of, one_digest, parse_digests

if TYPE_CHECKING:
    from airflow.sdk import Context

    from retraining.digests import Digest
    from retraining.steps import RoundDigests, StepRunner


class PinOperator(RetrainingOperator):
    """Fixes what the run depends on, from the pipeline file and the form."""

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Pin the run; raises ConfigError for a manual run without a reason."""
        from retraining.registry import previous_week, week_of

        form, dag_run = context["params"], context["dag_run"]
        result = steps.pin(
            self.model,
            form.get("week") or previous_week(week_of(dag_run.run_after.date())),
            left_out=form.get("leave_out") or (),
            dry_run=bool(form.get("dry_run")),
            reason=reason_of(context),
        )
        check_notifiers(steps.pinned(result.attestation.digest).spec.notifications)
        return digests_of([result])


class IngestOperator(RetrainingOperator):
    """Brings in what one source delivered, for each week of the run."""

    template_fields = ("run", "source")

    def __init__(self, *, run: Any, source: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.source = source

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Ingest; skipped when the source was left out by hand."""
        return digests_of(steps.ingest(one_digest("pin", self.run), self.source))


class ProvenanceOperator(RetrainingOperator):
    """Checks who delivered the batches of one source, and that they are as they were signed."""

    template_fields = ("run", "source", "ingested")

    def __init__(self, *, run: Any, source: Any, ingested: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.source = source
        self.ingested = ingested

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Verify each batch."""
        run = one_digest("pin", self.run)
        return digests_of(steps.verify_provenance(run, parse_digests("ingest", self.ingested)))


class ScreenShardOperator(RetrainingOperator):
    """Judges the rows of one shard of the week; `ScreenOperator` takes it from there."""

    template_fields = ("run", "provenance", "shard")

    def __init__(self, *, run: Any, provenance: Any, shard: Any, **kwargs: Any) -> None:
        kwargs.setdefault("trigger_rule", TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
        super().__init__(**kwargs)
        self.run = run
        self.provenance = provenance
        self.shard = shard

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Judge one shard."""
        run, checked = one_digest("pin", self.run), parse_digests("provenance", self.provenance)
        return digests_of([steps.screen_shard(run, checked, int(self.shard))])


class ScreenOperator(RetrainingOperator):
    """Parses the verified batches for the first time and judges every row."""

    template_fields = ("run", "provenance")

    def __init__(self, *, run: Any, provenance: Any, **kwargs: Any) -> None:
        # Sources left out by hand are skipped; when all of them are, there is nothing to screen.
        kwargs.setdefault("trigger_rule", TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
        super().__init__(**kwargs)
        self.run = run
        self.provenance = provenance

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Screen all batches together."""
        run = one_digest("pin", self.run)
        return digests_of([steps.screen(run, parse_digests("provenance", self.provenance))])


class TrainOperator(RetrainingOperator):
    """Trains the challenger with differential privacy, in a child process.

    With `purge`, on what that left of the screened rows.
    """

    template_fields = ("run", "screening", "purge")

    def __init__(self, *, run: Any, screening: Any, purge: Any = None, **kwargs: Any) -> None:
        # Each start is charged to the privacy ledger, so there is one more try only. It is for a
        # machine that failed: what is bound to fail again fails at once in any case.
        kwargs.setdefault("retries", 1)
        super().__init__(**kwargs)
        self.run = run
        self.screening = screening
        self.purge = purge

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Train; skipped when screening refused the week, or a purge left too little."""
        run, screening = one_digest("pin", self.run), one_digest("screen", self.screening)
        purge = one_digest("purge", self.purge) if self.purge else None
        return digests_of([steps.train(run, screening, purge)])


class ValidateOperator(RetrainingOperator):
    """Measures challenger and champion on the same holdout rows, and what was learned."""

    template_fields = ("run", "training")

    def __init__(self, *, run: Any, training: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.training = training

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Validate; skipped when training refused."""
        run = one_digest("pin", self.run)
        return digests_of([steps.validate(run, one_digest("train", self.training))])


class PurgeOperator(RetrainingOperator):
    """Takes out what taught a refused challenger, so that it can be trained again without."""

    template_fields = ("run", "validation")

    def __init__(self, *, run: Any, validation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.validation = validation

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Purge; skipped when no check of behaviour refuses the challenger."""
        run = one_digest("pin", self.run)
        return digests_of([steps.purge(run, one_digest("validate", self.validation))])


class GateOperator(RetrainingOperator):
    """Turns the reports of all steps into the week's one signed decision.

    Red at once for HOLD and REJECT; retries are for a store that does not answer.
    """

    template_fields = ("run", "provenance", "screening", "training", "validation", "rounds")

    def __init__(
        self,
        *,
        run: Any,
        provenance: Any,
        screening: Any,
        training: Any,
        validation: Any,
        rounds: Any = (),
        **kwargs: Any,
    ) -> None:
        # A refusal upstream is for the gate to judge; what broke upstream is not.
        kwargs.setdefault("trigger_rule", TriggerRule.NONE_FAILED)
        super().__init__(**kwargs)
        self.run = run
        self.provenance = provenance
        self.screening = screening
        self.training = training
        self.validation = validation
        self.rounds = rounds  # of outputs of the tasks that purge, train and validate again

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Decide; raises GateRefused, with one sentence, unless the decision is PROMOTE."""
        from retraining.gate import sentence

        if self.run is None:
            raise NothingToDo("Nothing to decide: the run was not pinned.")
        result = steps.decide(
            one_digest("pin", self.run),
            provenance=parse_digests("provenance", self.provenance),
            screening=one_digest("screen", self.screening),
            training=one_digest("train", self.training) if self.training else None,
            validation=one_digest("validate", self.validation) if self.validation else None,
            rounds=[_round(*outputs) for outputs in self.rounds if outputs[0]],
        )
        digest, address = result.attestation.digest, _report_address(result.attestation.digest)
        said = sentence(
            result.report,
            address,
            approve=steps.commands_to_approve(digest) if result.report.verdict == "HOLD" else "",
        )
        if result.report.verdict != "PROMOTE":
            # A line of its own: Airflow makes no links in the message of an exception.
            self.log.info("Full report: %s", address)
            raise GateRefused(shown_in_log(said))
        self.log.info("%s", said)
        return digests_of([result])


def _report_address(decision: "Digest") -> str:
    if url := DagSettings.load().console_url.rstrip("/"):
        return f"{url}{CONSOLE}/gate/{decision.hex[:DIGITS]}"
    return f"retraining gate-report {decision}"


def _round(purge: Any, training: Any, validation: Any) -> "RoundDigests":
    from retraining.steps import RoundDigests

    return RoundDigests(
        one_digest("purge", purge),
        one_digest("train", training) if training else None,
        one_digest("validate", validation) if validation else None,
    )


class PromoteOperator(RetrainingOperator):
    """Makes the challenger the champion, if a signed decision says so."""

    template_fields = ("decision", "approved")

    def __init__(self, *, model: str, decision: Any, approved: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("outlets", [champion_asset(model)])
        super().__init__(**kwargs)
        self.model = model
        self.decision = decision
        self.approved = approved

    def run_step(self, steps: "StepRunner", context: "Context") -> str:
        """Promote, and tell whoever is scheduled on the champion; skipped in a dry run."""
        try:
            digest = one_digest("gate", self.decision or self.approved)
            said = steps.decision(digest)
        except RetrainingError as error:
            if error.retryable:
                raise
            raise EvidenceError(
                f"Nothing signed says PROMOTE, so {self.model} keeps its champion: {error}"
            ) from None
        if said.attestation.model != self.model:
            raise EvidenceError(
                f"Nothing signed says PROMOTE for {self.model}: the gate's task names a decision"
                f" about {said.attestation.model}."
            )
        if said.report.dry_run:
            raise NothingToDo("Not promoted: this was a dry run.")
        entry = steps.promote(digest)
        asset = champion_asset(self.model)
        context["outlet_events"][asset].extra = {
            "version": entry.record.version,
            "model": str(entry.record.champion),
            "week": entry.record.week,
            "registry_entry": str(entry.digest),
        }
        self.log.info("%s version %s serves.", self.model, entry.record.version)
        return str(entry.digest)
