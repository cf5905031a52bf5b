"""Promises of the gate: every rule seen from both sides, replayable, and one good sentence."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retraining.approvals import People
from retraining.digests import Digest, canonical_json
from retraining.errors import ChainBrokenError
from retraining.gate import decide, sentence, worst
from retraining.gate.wording import MAX_CHARACTERS
from retraining.records import (
    BatchId,
    BehaviourReport,
    BehaviourResult,
    Block,
    FeedbackEffect,
    GateDecision,
    Interval,
    PinnedRun,
    ProvenanceReport,
    Refusal,
    ScreenedBatch,
    ScreeningReport,
    SliceResult,
    TrainingReport,
    ValidationReport,
)
from retraining.spec import FeedbackPolicy, parse_spec

WEEK = "2026-W07"
HOLDOUT, CHALLENGER, CHAMPION = (Digest.of(name) for name in (b"holdout", b"new", b"old"))
ROWS = Digest.of(b"rows")
BLOCK = Block(batch=BatchId(source="feed", week=WEEK), rows=ROWS)


def _spec(**gate: Any):
    digest = "sha256:" + "0" * 64
    return parse_spec(
        {
            "model": "spam_filter",
            "description": "For tests.",
            "owner": "tests@example.org",
            "label": {"column": "label", "classes": ["ham", "spam"], "positive": "spam"},
            "row_id": "row_id",
            "features": [{"kind": "number", "name": "size", "min": 0, "max": 10}],
            "sources": [
                {
                    "name": "gateway",
                    "uri": "a/{week}",
                    "trust": "trusted",
                    "signature": "none",
                    "on_refusal": "stop",
                },
                {
                    "name": "feed",
                    "uri": "b/{week}",
                    "trust": "untrusted",
                    "signature": "none",
                    "max_share_of_batch": 0.4,
                },
            ],
            "reference": {"uri": "r", "digest": digest},
            "holdout": {"uri": "h", "digest": digest},
            "training": {
                "architecture": {"kind": "linear"},
                "epsilon_per_run": 3,
                "epsilon_per_block": 8,
                "delta": 1e-5,
                "expected_batch_rows": 8,
                "epochs": 1,
                "learning_rate": 0.1,
            },
            "gate": {"limits": {"accuracy": {"min": 0.8}}} | gate,
        },
        origin="spam_filter.yaml",
    )


def _around(value: float, half: float = 0.01) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def _part(
    name: str = "all",
    n_rows: int = 1200,
    *,
    difference: Interval | None = None,
    metric: str = "accuracy",
    **challenger: Interval,
) -> SliceResult:
    return SliceResult(
        slice=name,
        n_rows=n_rows,
        challenger={"accuracy": _around(0.9)} | challenger,
        champion={"accuracy": _around(0.9)},
        difference={metric: difference or _around(0.0)},
    )


def clean(name: Any, p_value: float | None = 0.4, **said: Any) -> BehaviourResult:
    """A check of behaviour that a clean challenger gives."""
    said = {"measure": "rows", "sentence": "0 of 300 rows turn trusted rows."} | said
    return BehaviourResult(name=name, p_value=p_value, **said)


def _unchanged(spec: Any) -> People:
    return People(champion_spec=spec, version=1)


class Run:
    """The reports of one good week; a test changes one thing and decides."""

    def __init__(self, spec=None, *, parts=None, champion=CHAMPION) -> None:
        self.spec = spec or _spec()
        self.pinned: dict[str, Any] = {"champion": champion, "left_out": (), "reason": ""}
        self.batches = {
            ("gateway", WEEK): {"n_rows": 700, "n_accepted": 695, "n_quarantined": 5},
            ("feed", WEEK): {"n_rows": 300, "n_accepted": 295, "n_quarantined": 5},
        }
        self.arrived: dict[tuple[str, str], Refusal | None] = {}
        self.refusal: Refusal | None = None
        self.feedback: FeedbackEffect | None = None
        self.people: People | None = None  # nothing changed, when None
        self.training: TrainingReport | None = TrainingReport(
            blocks=(BLOCK,),
            n_rows=990,
            model=CHALLENGER,
            epsilon=2.5,
            delta=1e-5,
            epsilon_by_block={str(BLOCK.batch): 5.0},
        )
        self.validation: ValidationReport | None = ValidationReport(
            holdout=HOLDOUT,
            challenger=CHALLENGER,
            champion=champion,
            confidence=0.95,
            resamples=2000,
            slices=tuple(parts or [_part()]),
            behaviour=BehaviourReport(
                results=(clean("transplant"), clean("window")),
                false_alarm_rate=self.spec.gate.false_alarm_rate,
            ),
        )

    def pin(self) -> PinnedRun:
        digest = Digest.of(b"any")
        return PinnedRun(
            model="spam_filter",
            week=WEEK,
            weeks=(WEEK,),
            attempt=1,
            spec=Digest.of(self.spec.to_json()),
            policy=Digest.of(canonical_json(self.spec.policy())),
            code_version=digest,
            trust_list=digest,
            reference=digest,
            holdout=HOLDOUT,
            registry_head=None,
            **self.pinned,
        )

    def provenance(self) -> list[ProvenanceReport]:
        return [
            ProvenanceReport(
                batch=BatchId(source=source, week=week),
                trust="known",
                signature="none",
                batch_digest=Digest.of(f"{source}{week}".encode()),
                risk_score=0.1,
                refusal=self.arrived.get((source, week)),
            )
            for source, week in self.batches
        ]

    def screening(self) -> ScreeningReport:
        batches = tuple(
            ScreenedBatch(
                batch=BatchId(source=source, week=week),
                batch_digest=Digest.of(f"{source}{week}".encode()),
                **fields,
            )
            for (source, week), fields in self.batches.items()
        )
        return ScreeningReport(
            batches=batches,
            n_accepted=0,
            n_quarantined=0,
            feedback=self.feedback,
            refusal=self.refusal,
        )

    def decide(self) -> GateDecision:
        return decide(
            self.pin(),
            Digest.of(b"pin"),
            self.spec,
            self.provenance(),
            self.screening(),
            self.training,
            self.validation,
            people=self.people or _unchanged(self.spec),
        )


def _failed(decision: GateDecision) -> list[tuple[str, str]]:
    return [(check.name, check.verdict) for check in decision.failed()]


def _check(decision: GateDecision, name: str):
    return next(check for check in decision.checks if check.name == name)


# --- a good week ----------------------------------------------------------------------------


def test_a_good_week_is_promoted_and_every_check_says_what_it_saw():
    decision = Run().decide()
    assert decision.verdict == "PROMOTE" and decision.promotes
    assert decision.challenger == CHALLENGER and decision.champion == CHAMPION
    assert all(check.observed and check.allowed for check in decision.checks)


def test_a_decision_is_replayed_byte_for_byte():
    assert Run().decide().to_json() == Run().decide().to_json()


def test_a_dry_run_promotes_nothing():
    run = Run()
    run.pinned["dry_run"] = True
    decision = run.decide()
    assert decision.verdict == "PROMOTE" and not decision.promotes
    assert "dry run" in sentence(decision, "x")


def test_the_first_champion_is_judged_by_absolute_limits_and_that_is_noted():
    decision = Run(champion=None).decide()
    assert decision.verdict == "PROMOTE"
    assert _check(decision, "comparison").observed == "no champion"
    bad = Run(champion=None, parts=[_part(accuracy=_around(0.5))]).decide()
    assert _failed(bad) == [("accuracy", "REJECT")]


# --- the data -------------------------------------------------------------------------------


def _refuse(run: Run, source: str, week: str = WEEK, *, by: str = "provenance") -> None:
    refusal = Refusal(code="bad_signature", sentence="The manifest is not signed.")
    run.batches[source, week] = {"refusal": refusal}
    if by == "provenance":
        run.arrived[source, week] = refusal


@pytest.mark.parametrize("by", ["provenance", "screening"])
def test_a_refused_source_that_may_stop_the_week_holds_it_with_reason_and_code(by):
    run = Run()
    _refuse(run, "gateway", by=by)
    run.spec = run.spec.model_copy(
        update={
            "sources": tuple(
                s.model_copy(update={"max_share_of_batch": 1.0}) for s in run.spec.sources
            )
        }
    )
    decision = run.decide()
    assert _failed(decision) == [("source gateway", "HOLD")]
    observed = _check(decision, "source gateway").observed
    assert "bad_signature" in observed and "The manifest is not signed." in observed


def test_a_refused_source_that_is_left_out_is_named_and_holds_nothing():
    run = Run()
    _refuse(run, "feed")
    decision = run.decide()
    assert decision.verdict == "PROMOTE"
    assert _check(decision, "sources").observed == f"feed {WEEK} left out (bad_signature)"


def test_a_refused_batch_of_an_earlier_week_never_stops_this_one():
    run = Run()
    _refuse(run, "gateway", "2026-W06")
    decision = run.decide()
    assert decision.verdict == "PROMOTE"
    assert "gateway 2026-W06 left out" in _check(decision, "sources").observed


def test_sources_left_out_by_hand_are_on_record_with_the_reason():
    run = Run()
    run.pinned |= {"left_out": ("feed",), "reason": "vendor had an outage"}
    del run.batches["feed", WEEK]
    observed = _check(run.decide(), "left out by hand").observed
    assert "feed" in observed and "vendor had an outage" in observed


def test_a_refusal_of_screening_holds_the_week_in_its_own_words():
    run = Run()
    run.refusal = Refusal(code="one_class", sentence="All accepted rows are of one class.")
    run.training = run.validation = None
    decision = run.decide()
    assert _failed(decision) == [("screening", "HOLD")]
    assert "one_class" in _check(decision, "screening").observed


def test_a_stopped_week_is_explained_once():
    run = Run()
    _refuse(run, "gateway")
    run.refusal = Refusal(code="source_refused", sentence="gateway was refused.")
    run.training = run.validation = None
    assert [name for name, _ in _failed(run.decide())].count("source gateway") == 1
    assert "screening" not in dict(_failed(run.decide()))


def test_a_week_stopped_for_no_visible_reason_is_held():
    run = Run()
    run.refusal = Refusal(code="source_refused", sentence="gateway was refused.")
    run.training = run.validation = None
    assert _failed(run.decide()) == [("screening", "HOLD")]


@pytest.mark.parametrize(("n_quarantined", "verdict"), [(30, "PROMOTE"), (31, "HOLD")])
def test_quarantine_of_one_source_has_a_limit(n_quarantined, verdict):
    run = Run()
    run.batches["feed", WEEK] = {
        "n_rows": 300,
        "n_accepted": 300 - n_quarantined,
        "n_quarantined": n_quarantined,
    }
    assert _check(run.decide(), f"quarantine of feed {WEEK}").verdict == verdict


def test_quarantine_in_total_has_a_limit_of_its_own():
    spec = _spec()
    policy = spec.screening.model_copy(update={"max_quarantined_share": 0.005})
    run = Run(spec.model_copy(update={"screening": policy}))
    assert _failed(run.decide()) == [("quarantine in total", "HOLD")]


def test_rows_of_a_refused_batch_count_nowhere():
    run = Run()
    refusal = Refusal(code="too_many_quarantined", sentence="Too many.")
    run.batches["feed", WEEK] = {"n_rows": 300, "n_quarantined": 200, "refusal": refusal}
    assert run.decide().verdict == "PROMOTE"


# --- what the feedback changed --------------------------------------------------------------


def _with_feedback(
    *, change: Interval | None = None, n_used: int = 60, n_feedback: int = 60
) -> Run:
    """A week with a third source, to which users' feedback is handed over."""
    spec = _spec()
    source = spec.sources[1].model_copy(update={"name": "users", "max_share_of_batch": 0.3})
    policy = FeedbackPolicy(uri="feedback/{week}", source="users", max_loss=0.02)
    run = Run(spec.model_copy(update={"sources": (*spec.sources, source), "feedback": policy}))
    run.batches["users", WEEK] = {"n_rows": 60, "n_accepted": n_used}
    if change is not None:
        run.feedback = FeedbackEffect(
            n_feedback=n_feedback,
            n_reference=400,
            with_feedback=_around(0.9 + change.value),
            without_feedback=_around(0.9),
            difference=change,
            left_out=n_used == 0,
        )
    return run


def _left_out(run: Run, code: str, *, by: str = "screening") -> Run:
    refusal = Refusal(code=code, sentence="Because.")
    run.batches["users", WEEK] = {"n_rows": 60, "refusal": refusal}
    if by == "provenance":
        run.arrived["users", WEEK] = refusal
    return run


_HARM = Interval(value=-0.05, low=-0.08, high=-0.02)


def test_a_pipeline_without_feedback_has_no_check_on_it():
    assert "feedback" not in [check.name for check in Run().decide().checks]


def test_the_decision_says_what_the_feedback_changed():
    decision = _with_feedback(change=Interval(value=0.0125, low=-0.005, high=0.03)).decide()
    assert decision.verdict == "PROMOTE"
    assert _check(decision, "feedback").observed == (
        "60 rows; accuracy of a plain model on 400 reference rows 0.9125 [0.9025, 0.9225] with"
        " them, 0.9000 [0.8900, 0.9100] without, difference +0.0125 [-0.0050, +0.0300]: kept"
    )


def test_harmful_feedback_is_left_out_and_the_rest_is_promoted():
    decision = _left_out(_with_feedback(change=_HARM, n_used=0), "feedback_harms").decide()
    assert decision.verdict == "PROMOTE"
    assert _check(decision, "feedback").observed.endswith("[-0.0800, -0.0200]: left out")
    assert f"users {WEEK} left out (feedback_harms)" in _check(decision, "sources").observed


@pytest.mark.parametrize("by", ["provenance", "screening"])
def test_a_week_without_feedback_is_no_fault(by):
    decision = _left_out(_with_feedback(), "missing", by=by).decide()
    assert decision.verdict == "PROMOTE"
    assert _check(decision, "feedback").observed == "no feedback batch this week"
    assert _check(decision, "sources").observed == "none left out"


def test_any_other_source_that_is_missing_is_named_as_left_out():
    run = _with_feedback(change=Interval(value=0, low=0, high=0))
    run.batches["feed", WEEK] = {"refusal": Refusal(code="missing", sentence="Nothing there.")}
    assert _check(run.decide(), "sources").observed == f"feed {WEEK} left out (missing)"


def test_feedback_that_was_refused_or_left_out_by_hand_holds_nothing():
    refused = _left_out(_with_feedback(), "bad_signature").decide()
    assert refused.verdict == "PROMOTE"
    assert _check(refused, "feedback").observed == f"users {WEEK} not used (bad_signature)"
    run = _with_feedback()
    del run.batches["users", WEEK]
    run.pinned |= {"left_out": ("users",), "reason": "election week"}
    assert _check(run.decide(), "feedback").observed == "left out by hand"


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (_HARM, "HOLD"),
        (Interval(value=-0.05, low=-0.11, high=0.0), "PROMOTE"),  # not sure
        (Interval(value=-0.02, low=-0.03, high=-0.01), "PROMOTE"),  # sure, and not too much
    ],
)
def test_feedback_that_surely_harms_and_is_used_all_the_same_holds_the_week(change, verdict):
    """Whoever makes screening forget to leave it out does not get it promoted."""
    decision = _with_feedback(change=change).decide()
    assert _check(decision, "feedback").verdict == verdict
    assert decision.verdict == verdict


@pytest.mark.parametrize("n_feedback", [None, 59])
def test_feedback_whose_effect_was_not_measured_holds_the_week(n_feedback):
    change = None if n_feedback is None else Interval(value=0, low=0, high=0)
    decision = _with_feedback(change=change, n_feedback=n_feedback or 0).decide()
    assert _failed(decision) == [("feedback", "HOLD")]
    assert "60 rows were accepted whose effect is not on record" in sentence(decision, "x")


# --- how much is left, and from whom --------------------------------------------------------


@pytest.mark.parametrize(("n_accepted", "verdict"), [(100, "PROMOTE"), (99, "HOLD")])
def test_a_run_needs_a_minimum_of_rows(n_accepted, verdict):
    run = Run()
    del run.batches["feed", WEEK]
    run.batches["gateway", WEEK] = {"n_rows": n_accepted, "n_accepted": n_accepted}
    assert _check(run.decide(), "accepted rows").verdict == verdict


@pytest.mark.parametrize(("n_feed", "verdict"), [(400, "PROMOTE"), (401, "HOLD")])
def test_no_source_exceeds_its_share_of_the_accepted_rows(n_feed, verdict):
    run = Run()
    run.batches["gateway", WEEK] = {"n_rows": 600, "n_accepted": 600}
    run.batches["feed", WEEK] = {"n_rows": n_feed, "n_accepted": n_feed}
    assert _check(run.decide(), "share of feed").verdict == verdict


def test_leaving_out_an_honest_source_cannot_let_another_take_over():
    run = Run()
    run.pinned |= {"left_out": ("gateway",)}
    del run.batches["gateway", WEEK]
    assert _failed(run.decide()) == [("share of feed", "HOLD")]


# --- training and privacy -------------------------------------------------------------------


def _training(run: Run, **changes: Any) -> None:
    assert run.training is not None
    run.training = run.training.model_copy(update=changes)


@pytest.mark.parametrize(
    ("epsilon", "verdict"), [(3.0, "PROMOTE"), (3.001, "REJECT"), (None, "REJECT")]
)
def test_a_run_stays_inside_its_privacy_budget(epsilon, verdict):
    run = Run()
    _training(run, epsilon=epsilon)
    assert _check(run.decide(), "privacy per run").verdict == verdict


@pytest.mark.parametrize(("epsilon", "verdict"), [(8.0, "PROMOTE"), (8.001, "REJECT")])
def test_no_weekly_batch_spends_more_than_its_lifetime_budget(epsilon, verdict):
    run = Run()
    _training(run, epsilon_by_block={str(BLOCK.batch): epsilon, "gateway 2026-W06": 1.0})
    assert _check(run.decide(), "privacy per weekly batch").verdict == verdict


def test_a_batch_without_privacy_account_is_no_batch_that_cost_nothing():
    run = Run()
    unaccounted = Block(batch=BatchId(source="gateway", week="2026-W06"), rows=ROWS)
    _training(run, blocks=(BLOCK, unaccounted))
    assert _failed(run.decide()) == [("privacy per weekly batch", "REJECT")]


def test_an_epsilon_for_a_larger_delta_is_none():
    run = Run()
    _training(run, delta=1e-3)
    assert {"privacy per run", "privacy per weekly batch"} == {n for n, _ in _failed(run.decide())}


def test_a_refusal_of_training_holds_the_week():
    run = Run()
    refusal = Refusal(code="budget_spent", sentence="The budget is spent.")
    run.training, run.validation = TrainingReport(refusal=refusal), None
    assert _failed(run.decide()) == [("training", "HOLD")]


def test_missing_reports_hold_the_week():
    run = Run()
    run.validation = None
    assert _failed(run.decide()) == [("validation", "HOLD")]
    run.training = None
    assert _failed(run.decide()) == [("training", "HOLD")]


# --- the comparison -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.01, -0.01, 0.03, "PROMOTE"),
        (-0.019, -0.03, -0.005, "PROMOTE"),  # surely worse, but inside the margin
        (-0.03, -0.049, 0.001, "PROMOTE"),  # beyond the margin, but not surely
        (-0.021, -0.03, -0.001, "REJECT"),
        (-0.01, -0.051, 0.03, "HOLD"),  # harm cannot be excluded
        (-0.06, -0.09, -0.03, "REJECT"),
    ],
)
def test_the_comparison_with_the_champion(value, low, high, verdict):
    part = _part(difference=Interval(value=value, low=low, high=high))
    assert _check(Run(parts=[part]).decide(), "accuracy against the champion").verdict == verdict


@pytest.mark.parametrize(("sign", "verdict"), [(1, "REJECT"), (-1, "PROMOTE")])
def test_calibration_error_counts_the_other_way_round(sign, verdict):
    found = Interval(
        value=sign * 0.04, low=min(sign * 0.03, sign * 0.05), high=max(sign * 0.03, sign * 0.05)
    )
    part = _part(difference=found, metric="calibration_error")
    run = Run(_spec(compared=["calibration_error"]), parts=[part])
    assert _check(run.decide(), "calibration_error against the champion").verdict == verdict


SLICED = {"slices": [{"name": "large", "column": "size", "min": 5}]}


def test_a_slice_is_compared_like_the_whole():
    worse = Interval(value=-0.2, low=-0.3, high=-0.1)
    run = Run(_spec(**SLICED), parts=[_part(), _part("large", 200, difference=worse)])
    assert _failed(run.decide()) == [("accuracy against the champion on large", "REJECT")]


@pytest.mark.parametrize("parts", [[_part(), _part("large", 49)], [_part()]])
def test_a_slice_with_too_few_rows_is_held_never_passed(parts):
    decision = Run(_spec(**SLICED), parts=parts).decide()
    assert _failed(decision) == [("comparison on large", "HOLD")]
    assert "insufficient rows" in _check(decision, "comparison on large").observed


def test_a_metric_that_was_not_measured_is_held_never_passed():
    part = _part().model_copy(update={"difference": {}})
    assert _failed(Run(parts=[part]).decide()) == [("accuracy against the champion", "HOLD")]


def test_a_small_holdout_is_held():
    assert _failed(Run(parts=[_part(n_rows=199)]).decide()) == [("holdout rows", "HOLD")]


@pytest.mark.parametrize(
    ("limit", "low", "high", "verdict"),
    [
        ({"min": 0.8}, 0.80, 0.85, "PROMOTE"),
        ({"min": 0.8}, 0.79, 0.85, "HOLD"),
        ({"min": 0.8}, 0.70, 0.79, "REJECT"),
        ({"max": 0.1}, 0.05, 0.10, "PROMOTE"),
        ({"max": 0.1}, 0.05, 0.11, "HOLD"),
        ({"max": 0.1}, 0.11, 0.20, "REJECT"),
    ],
)
def test_absolute_limits_are_about_the_whole_interval(limit, low, high, verdict):
    measured = Interval(value=(low + high) / 2, low=low, high=high)
    run = Run(_spec(limits={"calibration_error": limit}), parts=[_part(calibration_error=measured)])
    assert _check(run.decide(), "calibration_error").verdict == verdict


def test_a_limit_on_a_metric_that_was_not_measured_is_held():
    assert _failed(Run(_spec(limits={"auc": {"min": 0.9}})).decide()) == [("auc", "HOLD")]


# --- one chain ------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["holdout", "challenger", "champion"])
def test_a_validation_of_something_else_decides_nothing(field):
    run = Run()
    assert run.validation is not None
    run.validation = run.validation.model_copy(update={field: Digest.of(b"foreign")})
    with pytest.raises(ChainBrokenError, match=field):
        run.decide()


def test_a_validation_without_training_decides_nothing():
    run = Run()
    run.training = None
    with pytest.raises(ChainBrokenError, match="challenger"):
        run.decide()


def test_another_spec_than_the_pinned_one_decides_nothing():
    run = Run()
    pinned = run.pin()
    for loose in (_spec(margin=0.5), _spec(limits={"accuracy": {"min": 0.1}})):
        with pytest.raises(ChainBrokenError, match="spec"):
            decide(
                pinned,
                Digest.of(b"pin"),
                loose,
                run.provenance(),
                run.screening(),
                run.training,
                run.validation,
                people=_unchanged(run.spec),
            )


def test_a_policy_that_was_not_on_record_decides_nothing():
    run = Run()
    pinned = run.pin().model_copy(update={"policy": Digest.of(b"loose")})
    with pytest.raises(ChainBrokenError, match="policy"):
        reports = run.provenance(), run.screening(), None, None
        decide(pinned, Digest.of(b"pin"), run.spec, *reports, people=_unchanged(run.spec))


@pytest.mark.parametrize("side", ["provenance", "screening"])
def test_a_batch_that_one_step_is_silent_about_decides_nothing(side):
    run = Run()
    provenance, screening = run.provenance(), run.screening()
    if side == "provenance":
        provenance = provenance[:1]
    else:
        screening = screening.model_copy(update={"batches": screening.batches[:1]})
    with pytest.raises(ChainBrokenError, match="different batches: feed"):
        decide(
            run.pin(),
            Digest.of(b"pin"),
            run.spec,
            provenance,
            screening,
            run.training,
            run.validation,
            people=_unchanged(run.spec),
        )


def test_accepted_rows_of_a_batch_that_provenance_refused_decide_nothing():
    run = Run()
    run.arrived["feed", WEEK] = Refusal(code="bad_signature", sentence="No.")
    run.batches["feed", WEEK] |= {"accepted": ROWS}
    with pytest.raises(ChainBrokenError, match="bad_signature"):
        run.decide()


def test_screening_of_other_bytes_than_provenance_verified_decides_nothing():
    run = Run()
    screening = run.screening()
    swapped = screening.batches[0].model_copy(update={"batch_digest": Digest.of(b"swapped")})
    screening = screening.model_copy(update={"batches": (swapped, *screening.batches[1:])})
    with pytest.raises(ChainBrokenError, match="rows of gateway"):
        decide(
            run.pin(),
            Digest.of(b"p"),
            run.spec,
            run.provenance(),
            screening,
            run.training,
            run.validation,
            people=_unchanged(run.spec),
        )


# --- properties -----------------------------------------------------------------------------

_WEIGHT = {"PROMOTE": 0, "HOLD": 1, "REJECT": 2}
_numbers = st.floats(-0.2, 0.2, allow_nan=False).map(lambda x: round(x, 4))


@st.composite
def _intervals(draw):
    low, value, high = sorted(draw(st.tuples(_numbers, _numbers, _numbers)))
    return Interval(value=value, low=low, high=high)


@given(_intervals(), st.floats(0, 0.1))
@settings(max_examples=150, deadline=None)
def test_a_better_challenger_never_gets_a_worse_verdict(found, better):
    shifted = Interval(value=found.value + better, low=found.low + better, high=found.high + better)
    before, after = (Run(parts=[_part(difference=i)]).decide().verdict for i in (found, shifted))
    assert _WEIGHT[after] <= _WEIGHT[before]


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_more_quarantine_never_gets_a_better_verdict(first, second):
    def verdict(n):
        run = Run()
        run.batches["feed", WEEK] = {"n_rows": 300, "n_accepted": 300 - n, "n_quarantined": n}
        return _WEIGHT[_check(run.decide(), f"quarantine of feed {WEEK}").verdict]

    fewer, more = sorted((first, second))
    assert verdict(fewer) <= verdict(more)


@given(st.lists(st.sampled_from(["PROMOTE", "HOLD", "REJECT"]), min_size=1))
def test_the_verdict_is_the_worst_of_the_checks(verdicts):
    assert _WEIGHT[worst(verdicts)] == max(_WEIGHT[v] for v in verdicts)


# --- the sentence ---------------------------------------------------------------------------


def test_the_sentence_says_verdict_model_week_reason_limit_next_step_and_address():
    run = Run(parts=[_part(difference=Interval(value=-0.08, low=-0.1, high=-0.06))])
    said = sentence(run.decide(), "https://airflow.example/report")
    for part in (
        "REJECT: spam_filter 2026-W07",
        "accuracy against the champion: difference -0.0800 [-0.1000, -0.0600]",
        "allowed: no sure loss above 0.02",
        "next: keep the champion",
        "the champion keeps serving",
    ):
        assert part in said
    assert said.endswith("full report: https://airflow.example/report")
    assert "\n" not in said


def test_the_sentence_of_a_first_week_says_that_nothing_serves_yet():
    run = Run(champion=None, parts=[_part(accuracy=_around(0.5))])
    assert "no model serves" in sentence(run.decide(), "x")


def test_reject_stands_before_hold_in_the_sentence():
    run = Run(parts=[_part(n_rows=10, difference=Interval(value=-0.2, low=-0.3, high=-0.1))])
    said = sentence(run.decide(), "x")
    assert said.index("against the champion") < said.index("holdout rows")


def test_a_long_refusal_and_a_long_address_fit_into_the_bound():
    run = Run()
    long = Refusal(code="bad", sentence="word\n" * 2000)
    for source in ("gateway", "feed"):
        run.batches[source, WEEK] = {"refusal": long}
    run.refusal = long
    run.training = run.validation = None
    said = sentence(run.decide(), "https://airflow.example/" + "a" * 5000)
    assert len(said) <= MAX_CHARACTERS and "\n" not in said
    assert "next: " in said and "full report: https://airflow.example/" in said


def test_the_sentence_of_a_week_that_may_be_approved_says_how_however_long_the_rest_is():
    run = Run(parts=[_part(n_rows=10)])
    command = f"retraining approve {Digest.of(b'decision')} --key KEY --why WHY"
    for address in ("x", "https://airflow.example/" + "a" * 5000):
        said = sentence(run.decide(), address, approve=command)
        assert f"; or approve it: {command}; full report: " in said
        assert len(said) <= MAX_CHARACTERS


def test_a_promoted_week_has_a_sentence_too():
    assert sentence(Run().decide(), "x").startswith("PROMOTE: spam_filter 2026-W07 passed all")


# --- people ---------------------------------------------------------------------------------


def _asking(*ask: str, reviewers: int = 1, **gate: Any):
    spec = _spec(**gate)
    policy = spec.approval.model_copy(update={"ask": ask, "reviewers": reviewers})
    return spec.model_copy(update={"approval": policy})


def _people(champion: Any, **said: Any) -> People:
    return People(champion_spec=champion, version=3, **said)


def test_a_first_pipeline_file_is_no_change():
    run = Run(champion=None)
    run.people = People(champion_spec=None, version=0)
    assert "spec" not in [check.name for check in run.decide().checks]


@pytest.mark.parametrize(
    ("ask", "signed_by", "verdict"),
    [
        (("on_changed_spec",), (), "HOLD"),
        (("on_changed_spec",), ("olga",), "PROMOTE"),
        ((), (), "PROMOTE"),
        (("on_hold", "on_purge"), (), "PROMOTE"),
    ],
)
def test_a_changed_file_is_held_until_signed_where_the_champions_file_says_so(
    ask, signed_by, verdict
):
    run = Run(_asking(margin=0.03))  # the new file asks nobody
    run.people = _people(_asking(*ask), signed_by=signed_by, owners=("olga",))
    check = _check(run.decide(), "spec")
    assert check.verdict == verdict
    assert "gate.margin" in check.observed


def test_the_next_step_without_any_owner_says_how_to_add_one():
    run = Run(_spec(margin=0.03))
    run.people = _people(_spec())
    said = sentence(run.decide(), "x")
    assert "no key may sign it: `retraining keys provider NAME`" in said
    assert "--role owner" in said


@pytest.mark.parametrize("reviewers", [1, 2])
def test_always_holds_a_week_that_passed_everything_else(reviewers):
    run = Run(_asking("always", reviewers=reviewers))
    decision = run.decide()
    assert _failed(decision) == [("approval", "HOLD")]
    assert f"by {reviewers} reviewer" in _check(decision, "approval").allowed


def test_always_asks_nobody_about_a_week_without_a_challenger():
    run = Run(_asking("always"))
    run.training = run.validation = None
    run.refusal = Refusal(code="poison", sentence="No.")
    assert "approval" not in [check.name for check in run.decide().checks]


def test_always_cannot_be_switched_off_by_the_file_that_it_is_about():
    run = Run(_asking())
    run.people = _people(_asking("always"))
    assert _failed(run.decide()) == [("approval", "HOLD")]
    run.people = _people(_asking("always"), signed_by=("olga",))
    assert run.decide().verdict == "PROMOTE"
