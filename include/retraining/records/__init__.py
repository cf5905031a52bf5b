"""What each step concludes, in pipeline order: start reading here, with `weekly`.

A report is timeless: the same inputs give the same report, byte for byte, so its digest can be
compared between Airflow, a laptop and an auditor (training excepted: nobody may know the seed of
its noise). Times, run ids and signers stand in the attestation that names the report.
Reports carry counts, names and digests, never row values.
"""

from retraining.records.approvals import ApprovalEntry, moment_text
from retraining.records.base import (
    BatchId,
    Day,
    Interval,
    Record,
    Refusal,
    Step,
    StoredFile,
    Verdict,
    Week,
)
from retraining.records.behaviour import (
    MAX_TRACED_ROWS,
    NULL_LEVELS,
    BehaviourReport,
    BehaviourResult,
    Disagreement,
    TracedBatch,
)
from retraining.records.feedback import (
    FeedbackEntry,
    FeedbackReport,
)
from retraining.records.gate import Check, GateDecision, JudgedChallenger
from retraining.records.incident import IncidentEntry
from retraining.records.monitoring import (
    Incident,
    MonitoredValue,
    MonitoringEntry,
    MonitoringReport,
)
from retraining.records.patterns import Pattern
from retraining.records.purge import PurgeReport, TracedRows
from retraining.records.registry import (
    RegisteredBatch,
    RegistryEntry,
    RollbackRequest,
)
from retraining.records.reviews import (
    MAX_ROWS_PER_REVIEW,
    ReviewEntry,
    ReviewSubject,
    ReviewVerb,
    SourceUser,
)
from retraining.records.sources import (
    SourceDifference,
    SourceEvidence,
    SourceInfluence,
    SourceWindow,
)
from retraining.records.weekly import (
    Block,
    DpSgdRun,
    FeedbackEffect,
    IngestReport,
    LedgerCharge,
    ModelManifest,
    PinnedRun,
    ProvenanceReport,
    ScreenedBatch,
    ScreeningReport,
    ShardReport,
    SliceResult,
    TrainingReport,
    ValidationReport,
    WindowBlock,
)

__all__ = [
    "MAX_ROWS_PER_REVIEW",
    "MAX_TRACED_ROWS",
    "NULL_LEVELS",
    "ApprovalEntry",
    "BatchId",
    "BehaviourReport",
    "BehaviourResult",
    "Block",
    "Check",
    "Day",
    "Disagreement",
    "DpSgdRun",
    "FeedbackEffect",
    "FeedbackEntry",
    "FeedbackReport",
    "GateDecision",
    "Incident",
    "IncidentEntry",
    "IngestReport",
    "Interval",
    "JudgedChallenger",
    "LedgerCharge",
    "ModelManifest",
    "MonitoredValue",
    "MonitoringEntry",
    "MonitoringReport",
    "Pattern",
    "PinnedRun",
    "ProvenanceReport",
    "PurgeReport",
    "Record",
    "Refusal",
    "RegisteredBatch",
    "RegistryEntry",
    "ReviewEntry",
    "ReviewSubject",
    "ReviewVerb",
    "RollbackRequest",
    "ScreenedBatch",
    "ScreeningReport",
    "ShardReport",
    "SliceResult",
    "SourceDifference",
    "SourceEvidence",
    "SourceInfluence",
    "SourceUser",
    "SourceWindow",
    "Step",
    "StoredFile",
    "TracedBatch",
    "TracedRows",
    "TrainingReport",
    "ValidationReport",
    "Verdict",
    "Week",
    "WindowBlock",
    "moment_text",
    "report_type",
]


def report_type(step: Step) -> type[Record]:
    """The class of the report that `step` writes."""
    types: dict[Step, type[Record]] = {
        "pin": PinnedRun,
        "ingest": IngestReport,
        "provenance": ProvenanceReport,
        "screening_shard": ShardReport,
        "screening": ScreeningReport,
        "training": TrainingReport,
        "validation": ValidationReport,
        "purge": PurgeReport,
        "gate": GateDecision,
        "feedback": FeedbackReport,
        "monitoring": MonitoringReport,
        "rollback": RollbackRequest,
    }
    return types[step]
