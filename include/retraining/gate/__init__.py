"""The gate: the reports of all steps become the week's one decision.

Pure, without clock, store or randomness, so that an auditor replays it byte for byte. Every check
says what was seen, what is allowed and what to do next, and the verdict is the worst of them:

* REJECT: the challenger is surely bad;
* HOLD: it may be bad, or there was too little to tell, or the data were not in order;
* PROMOTE: every check passed.

`data_checks` look at the rows, `model_checks` at how well the challenger does, `behaviour_checks`
at what it learned, `people_checks` at who answers for it, `purge_checks` at what a second one is
worth without the rows that taught it; `wording` writes the sentence that the on-call reads first.
"""

from collections.abc import Iterable, Sequence

from retraining.approvals import People
from retraining.digests import Digest, canonical_json
from retraining.errors import ChainBrokenError
from retraining.gate.behaviour_checks import check_behaviour, refused_behaviour
from retraining.gate.data_checks import check_data
from retraining.gate.model_checks import check_model
from retraining.gate.people_checks import check_people, check_spec
from retraining.gate.purge_checks import Round, impossible, outcome
from retraining.gate.wording import sentence
from retraining.records import (
    Check,
    GateDecision,
    JudgedChallenger,
    PinnedRun,
    ProvenanceReport,
    ScreeningReport,
    TrainingReport,
    ValidationReport,
    Verdict,
)
from retraining.spec import PipelineSpec

__all__ = ["Round", "check_spec", "decide", "refused_behaviour", "sentence", "worst"]

_BY_WEIGHT: tuple[Verdict, ...] = ("PROMOTE", "HOLD", "REJECT")


def decide(
    pinned: PinnedRun,
    pinned_digest: Digest,
    spec: PipelineSpec,
    provenance: Sequence[ProvenanceReport],
    screening: ScreeningReport,
    training: TrainingReport | None,
    validation: ValidationReport | None,
    rounds: Sequence[Round] = (),
    *,
    people: People,
) -> GateDecision:
    """Decide about the week.

    Args:
        pinned: What the run was fixed to before it started.
        pinned_digest: Under which name it is on record.
        spec: The pinned one.
        provenance: One report per batch, in any order.
        screening: Its conclusion about the same batches.
        training: None when screening refused the week.
        validation: None when there is no challenger.
        rounds: Purges, in their order, each with the challenger that came of it. The decision is
            about the last challenger that was measured.
        people: What people had said when the run was pinned.

    Raises:
        ChainBrokenError: The reports are not about the same run, or a challenger was purged that
            nothing refused: nothing can be decided.
    """
    require_one_chain(pinned, spec, provenance, screening, training, validation)
    data = tuple(check_data(pinned, spec, provenance, screening))
    checks = _of_challenger(pinned, spec, screening, training, validation)
    earlier: list[JudgedChallenger] = []
    more: tuple[Check, ...] = ()
    for number, round_ in enumerate(rounds, start=1):
        _require_reason(pinned, spec, training, validation, round_)
        if round_.training is None or round_.validation is None:
            more = (impossible(round_),)
            if number < len(rounds):
                raise ChainBrokenError("A purge follows one that came to nothing. Start again.")
            break
        require_one_chain(pinned, spec, provenance, screening, round_.training, round_.validation)
        earlier.append(
            JudgedChallenger(
                challenger=round_.purge.challenger,
                verdict=worst(check.verdict for check in checks),
                checks=checks,
            )
        )
        training, validation = round_.training, round_.validation
        checks = _of_challenger(pinned, spec, screening, training, validation)
    if earlier:
        passed = worst(check.verdict for check in (*data, *checks)) == "PROMOTE"
        more = (outcome(spec.gate, rounds[: len(earlier)], earlier, passed=passed), *more)
    checks = (*data, *checks, *more, *check_people(people, spec, training))
    return GateDecision(
        model=pinned.model,
        week=pinned.week,
        pinned_run=pinned_digest,
        verdict=worst(check.verdict for check in checks),
        checks=checks,
        challenger=training.model if training else None,
        champion=pinned.champion,
        registry_head=pinned.registry_head,
        policy=pinned.policy,
        spec=pinned.spec,
        dry_run=pinned.dry_run,
        earlier=tuple(earlier),
    )


def _of_challenger(
    pinned: PinnedRun,
    spec: PipelineSpec,
    screening: ScreeningReport,
    training: TrainingReport | None,
    validation: ValidationReport | None,
) -> tuple[Check, ...]:
    return (
        *check_model(pinned, spec, screening, training, validation),
        *(check_behaviour(pinned, spec.gate, validation) if validation else ()),
    )


def _require_reason(
    pinned: PinnedRun,
    spec: PipelineSpec,
    training: TrainingReport | None,
    validation: ValidationReport | None,
    round_: Round,
) -> None:
    """A purge follows a refused challenger: else whoever can purge could choose the rows."""
    refused = refused_behaviour(pinned, spec.gate, validation) if validation else ()
    traced = {found.check for found in round_.purge.traced}
    if (
        spec.gate.purge == "never"
        or not traced <= {result.name for result in refused}
        or training is None
        or round_.purge.challenger != training.model
    ):
        raise ChainBrokenError(
            "Rows were purged although nothing refused the challenger that learned from them."
            " Start the week again."
        )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that counts: REJECT before HOLD before PROMOTE."""
    return max(verdicts, key=_BY_WEIGHT.index)


def require_one_chain(
    pinned: PinnedRun,
    spec: PipelineSpec,
    provenance: Sequence[ProvenanceReport],
    screening: ScreeningReport,
    training: TrainingReport | None,
    validation: ValidationReport | None,
) -> None:
    """Raise ChainBrokenError unless all reports are about this run and about one another."""
    policy = Digest.of(canonical_json(spec.policy()))
    _require(pinned.spec == Digest.of(spec.to_json()), "spec", pinned.spec)
    _require(pinned.policy == policy, "policy", pinned.policy)
    arrived = {report.batch: report for report in provenance}
    screened = {batch.batch: batch for batch in screening.batches}
    if len(arrived) != len(provenance) or len(screened) != len(screening.batches):
        raise ChainBrokenError("A batch has two reports; expected one each. Start the week again.")
    if arrived.keys() != screened.keys():
        odd = sorted(str(batch) for batch in arrived.keys() ^ screened.keys())
        raise ChainBrokenError(
            f"Provenance and screening are about different batches: {', '.join(odd)}. Expected the"
            " same in both. Start the week again."
        )
    for batch, report in arrived.items():
        if report.refusal is not None and screened[batch].accepted is not None:
            raise ChainBrokenError(
                f"Screening accepted rows of {batch}, which provenance had refused"
                f" ({report.refusal.code}). Start the week again."
            )
        _require(
            screened[batch].batch_digest in (None, report.batch_digest),
            f"rows of {batch}",
            report.batch_digest,
        )
    if validation is not None:
        challenger = training.model if training else None
        _require(validation.challenger == challenger, "challenger", challenger)
        _require(validation.champion == pinned.champion, "champion", pinned.champion)
        _require(validation.holdout == pinned.holdout, "holdout", pinned.holdout)
        measured = validation.behaviour
        _require(
            measured is None or measured.false_alarm_rate == spec.gate.false_alarm_rate,
            "false-alarm rate",
            pinned.policy,
        )


def _require(same: bool, what: str, expected: Digest | None) -> None:
    if not same:
        raise ChainBrokenError(
            f"The reports are about another {what} than the run pinned or trained:"
            f" expected {expected or 'none'}. Start the week again."
        )
