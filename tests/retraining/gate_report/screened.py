"""What screening saw in the poisoned week that the pages are about."""

from typing import Any

from retraining.digests import Digest
from retraining.records import (
    BatchId,
    FeedbackEffect,
    Interval,
    Refusal,
    ScreenedBatch,
    ScreeningReport,
    SourceDifference,
    SourceEvidence,
    SourceInfluence,
    SourceWindow,
    WindowBlock,
)

WEEK = "2026-W07"
DRIPPED = "Of its 1,600 rows 37 teach {}, which all others contradict."


def screening_of(feed: str, odd: str) -> ScreeningReport:
    return ScreeningReport(
        batches=(
            ScreenedBatch(
                batch=BatchId(source="gateway", week=WEEK),
                n_rows=700,
                n_accepted=695,
                n_quarantined=5,
                quarantined={"consensus": 3, "gap": 2},
                poison_share=Interval(value=0.002, low=0.0, high=0.012),
                accepted=Digest.of(b"gateway"),
                source_evidence=_evidence(harm=0.001),
            ),
            ScreenedBatch(
                batch=BatchId(source=feed, week=WEEK),
                n_rows=300,
                n_accepted=259,
                n_quarantined=41,
                quarantined={"pattern_1": 41},
                poison_share=Interval(value=0.13, low=0.09, high=0.18),
                accepted=Digest.of(b"feed"),
            ),
            ScreenedBatch(
                batch=BatchId(source=f"dripping_{feed}", week=WEEK),
                n_rows=200,
                n_quarantined=200,
                quarantined={"source_accumulated": 200},
                source_evidence=_evidence(
                    harm=0.012,
                    told_by=("size", odd),
                    window=SourceWindow(
                        n_rows=1600,
                        n_taught=37,
                        expected_taught=4.25,
                        n_sources=3,
                        p_value=0.00001,
                        max_p_value=0.001,
                    ),
                    condemned=("source_accumulated",),
                    sentences=(DRIPPED.format(odd),),
                ),
                refusal=Refusal(
                    code="source",
                    sentence=f"It is quarantined whole. {DRIPPED.format(odd)}",
                ),
            ),
            ScreenedBatch(
                batch=BatchId(source="late", week=WEEK),
                refusal=Refusal(code="missing", sentence=f"No files of {odd} were found."),
            ),
        ),
        n_accepted=954,
        n_quarantined=46,
        sentences=(f"size = 7 turns 58 of 60 trusted rows into {odd}.",),
        feedback=FeedbackEffect(
            n_feedback=80,
            n_reference=400,
            with_feedback=Interval(value=0.91, low=0.88, high=0.94),
            without_feedback=Interval(value=0.92, low=0.89, high=0.95),
            difference=Interval(value=-0.01, low=-0.03, high=0.01),
            left_out=False,
        ),
        window=(
            WindowBlock(
                batch=BatchId(source=feed, week="2026-W06"),
                before=Digest.of(b"before"),
                rows=Digest.of(b"after"),
                n_rows=290,
                n_purged=12,
                learned_by=(4,),
            ),
        ),
    )


def _evidence(*, harm: float, told_by: tuple[str, ...] = (), **more: Any) -> SourceEvidence:
    """What screening knows of a source that adds `harm` nats to the loss of plain models."""
    return SourceEvidence(
        difference=SourceDifference(
            own_history=not told_by,
            n_new=300,
            n_trusted=400,
            auc=Interval(value=0.53, low=0.48, high=0.58),
            told_by=told_by,
        ),
        influence=SourceInfluence(
            n_rows=300,
            n_reference=400,
            log_loss=Interval(value=harm, low=harm - 0.003, high=harm + 0.003),
            accuracy=Interval(value=-harm, low=-harm - 0.01, high=0.01 - harm),
            max_log_loss=0.02,
        ),
        **more,
    )
