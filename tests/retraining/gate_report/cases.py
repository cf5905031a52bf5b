"""Pages about a poisoned week, with everything on them that a page can have."""

from typing import Any

from retraining.approvals import People
from retraining.digests import Digest, canonical_json
from retraining.evidence import Attestation, TrustedKey, TrustList
from retraining.gate_report import Page, build_page
from retraining.gate_report.reading import SignedRecords
from retraining.recording import StepResult
from retraining.records import (
    BatchId,
    BehaviourReport,
    BehaviourResult,
    Check,
    Disagreement,
    GateDecision,
    Interval,
    JudgedChallenger,
    Pattern,
    PinnedRun,
    ProvenanceReport,
    PurgeReport,
    Record,
    SliceResult,
    TracedBatch,
    TracedRows,
    TrainingReport,
    ValidationReport,
    WindowBlock,
)
from tests.retraining.gate_report.screened import WEEK, screening_of
from tests.retraining.test_gate import CHALLENGER, CHAMPION, HOLDOUT, Run

FIRST_CHALLENGER = Digest.of(b"the first challenger")
KEY = "ab" * 32  # stands for a public key


def poisoned_page(*, feed: str = "purchased_feed", odd: str = "sale") -> Page:
    """A week that the gate rejects.

    Args:
        feed: Name of the source that is to blame.
        odd: A word that a stranger chose; it stands in sentences and names of classes.
    """
    signed = _signed(feed, odd)
    pinned = signed.pinned
    return build_page(
        GateDecision(
            model=pinned.model,
            week=pinned.week,
            pinned_run=signed.results["pin"].attestation.digest,
            verdict="REJECT",
            checks=_checks(feed, odd),
            challenger=CHALLENGER,
            champion=pinned.champion,
            registry_head=pinned.registry_head,
            policy=pinned.policy,
            spec=pinned.spec,
            earlier=(
                JudgedChallenger(
                    challenger=FIRST_CHALLENGER, verdict="REJECT", checks=_checks(feed, odd)[:3]
                ),
            ),
        ),
        signed,
    )


def _checks(feed: str, odd: str) -> tuple[Check, ...]:
    return (
        Check(name="training", verdict="PROMOTE", observed="a challenger", allowed="one"),
        Check(
            name=f"comparison on {odd}",
            verdict="HOLD",
            observed="insufficient rows: 12",
            allowed="at least 50",
            next_step=f"pin a holdout with more rows of {odd}",
        ),
        Check(
            name="behaviour: transplant",
            verdict="REJECT",
            observed=f"p = 0.0004. Values of 41 rows of {feed} turn trusted rows into {odd}.",
            allowed="p above 0.01",
            next_step=f"start the week again without {feed}, or review the named rows",
        ),
        Check(
            name="behaviour: window", verdict="PROMOTE", observed="p = 0.44", allowed="p above 0.02"
        ),
    )


def _signed(feed: str, odd: str) -> SignedRecords:
    spec = Run().spec
    trust = TrustList(
        digest=Digest.of(b"trust"),
        version=3,
        keys={
            name: TrustedKey(
                key={"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": KEY}},
                roles=(name,),
            )
            for name in ("pipeline", "promoter")
        },
    )
    pinned = PinnedRun(
        model="spam_filter",
        week=WEEK,
        weeks=(WEEK,),
        attempt=2,
        spec=Digest.of(spec.to_json()),
        policy=Digest.of(canonical_json(spec.policy())),
        code_version=Digest.of(b"code"),
        trust_list=trust.digest,
        reference=Digest.of(b"reference"),
        holdout=HOLDOUT,
        registry_head=Digest.of(b"head"),
        champion=CHAMPION,
        left_out=("partner",),
        reason=f"asked by {odd}",
    )
    screening = screening_of(feed, odd)
    provenance = tuple(
        ProvenanceReport(
            batch=batch.batch,
            trust="trusted" if batch.batch.source == "gateway" else "untrusted",
            signature="verified",
            key_id=batch.batch.source,
            risk_score=0.2,
            risk_reasons=(f"0.1 trust tier of {batch.batch.source}",),
        )
        for batch in screening.batches
    )
    training, validation = _training(), _validation(feed, odd)
    reports: dict[str, Record] = {
        "pin": pinned,
        **{f"provenance/{r.batch.source}/{r.batch.week}": r for r in provenance},
        "screening": screening,
        "training": training,
        "validation": validation,
    }
    return SignedRecords(
        trust=trust,
        people=People(champion_spec=spec, version=1),
        spec=spec,
        pinned=pinned,
        provenance=provenance,
        screening=screening,
        training=training,
        validation=validation,
        purges=(_purge(feed),),
        results={name: _result(name, report) for name, report in reports.items()},
    )


def _result(name: str, report: Record) -> StepResult[Record]:
    step: Any = name.partition("/")[0]
    attestation = Attestation(
        digest=Digest.of(name.encode()),
        key_id="promoter" if step == "validation" else "pipeline",
        step=step,
        model="spam_filter",
        week=WEEK,
        request=None,
        report=report.identity,
        inputs={},
        artefacts={},
    )
    return StepResult(attestation, report)


def _training() -> TrainingReport:
    return TrainingReport(
        n_rows=954,
        model=CHALLENGER,
        epsilon=2.9,
        delta=1e-5,
        epsilon_by_block={f"gateway {WEEK}": 2.9, "gateway 2026-W06": 5.1},
    )


def _purge(feed: str) -> PurgeReport:
    batch = BatchId(source=feed, week=WEEK)
    return PurgeReport(
        challenger=FIRST_CHALLENGER,
        traced=(
            TracedRows(
                check="transplant",
                pattern=Pattern(columns=("size",), values=(7.0,), tolerances=(0.1,), label="ham"),
                by_batch=(TracedBatch(batch=batch, n_rows=41),),
                n_users=3,
                precision=Interval(value=0.93, low=0.88, high=0.97),
            ),
        ),
        sources=(feed,),
        blocks=(
            WindowBlock(
                batch=batch, before=Digest.of(b"feed"), rows=None, n_rows=300, n_purged=300
            ),
        ),
        n_purged=300,
        purged_rows=Digest.of(b"purged"),
    )


def _validation(feed: str, odd: str) -> ValidationReport:
    return ValidationReport(
        holdout=HOLDOUT,
        challenger=CHALLENGER,
        champion=CHAMPION,
        confidence=0.95,
        resamples=2000,
        slices=(
            _slice("all", 1200, -0.004),
            _slice(f"only {odd}", 90, -0.11),
        ),
        calibration_bins=((0.58, 0.5, 40), (0.75, 0.71, 160), (0.97, 0.985, 1000)),
        behaviour=_behaviour(feed, odd),
    )


def _slice(name: str, n_rows: int, by: float) -> SliceResult:
    def around(value: float) -> Interval:
        return Interval(value=value, low=round(value - 0.012, 6), high=round(value + 0.012, 6))

    metrics = {"accuracy": 0.94, "calibration_error": 0.03, "recall": 0.9}
    return SliceResult(
        slice=name,
        n_rows=n_rows,
        challenger={metric: around(value) for metric, value in metrics.items()},
        champion={metric: around(value - by) for metric, value in metrics.items()},
        difference={metric: around(by) for metric in metrics},
    )


def _behaviour(feed: str, odd: str) -> BehaviourReport:
    transplant = BehaviourResult(
        name="transplant",
        measure="share of trusted rows that one row's values turn",
        statistic=0.93,
        p_value=0.0004,
        null="trusted donors, 300 of them",
        n_null=300,
        null_quantiles=(0.0, 0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.11, 0.16),
        sentence=f"Values of 41 rows turn 56 of 60 trusted rows of other classes into {odd}.",
        pattern=Pattern(columns=("size",), values=(7.0,), tolerances=(0.1,), label="ham"),
        from_class="spam",
        to_class="ham",
        by_source={
            feed: Interval(value=0.137, low=0.1, high=0.18),
            "gateway": Interval(value=0.0, low=0.0, high=0.004),
        },
        traced=(TracedBatch(batch=BatchId(source=feed, week=WEEK), n_rows=41),),
        n_traced=41,
        row_ids=("private-row-17",),
    )
    window = BehaviourResult(
        name="window",
        measure="share of judging rows that change class",
        statistic=0.021,
        p_value=0.44,
        null="surrogates of bootstrapped weeks",
        n_null=60,
        null_quantiles=(0.004, 0.008, 0.014, 0.02, 0.027, 0.031, 0.034, 0.039, 0.041),
        sentence="The window changes 13 of 611 rows, as clean windows do.",
    )
    missing = BehaviourResult(
        name="canaries",
        measure="share of canaries obeyed",
        insufficient="no reviewer has confirmed any poison yet.",
        sentence="Not measured.",
    )
    return BehaviourReport(
        results=(transplant, window, missing),
        false_alarm_rate=0.02,
        power={
            f"{check}: a learned trigger in {share} of the rows": seen
            for check, share, seen in (
                ("transplant", "1.0%", 0.8),
                ("transplant", "5.0%", 1.0),
                ("window", "5.0%", 0.5),
            )
        },
        disagreements=(
            Disagreement(champion="spam", challenger=odd, n_rows=9),
            Disagreement(champion=odd, challenger="spam", n_rows=4),
        ),
        n_judging=611,
    )


__all__ = ["FIRST_CHALLENGER", "KEY", "poisoned_page"]
