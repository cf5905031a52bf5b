"""What a pipeline file may say: `pipelines/<model>.yaml`, the only thing that most users write.

Frozen pydantic models with units in the names. Everything that a step reads stands here and
nothing else does; a misspelt field is refused, with the file, the field, what was found and
what is allowed.
"""

from retraining.spec.approval import ApprovalPolicy, AskWhen
from retraining.spec.loading import (
    find_specs,
    load_spec,
    parse_spec,
)
from retraining.spec.pipeline import (
    PipelineSpec,
)
from retraining.spec.policies import (
    Architecture,
    BehaviourName,
    GatePolicy,
    Limit,
    LinearArchitecture,
    Metric,
    MlpArchitecture,
    NotificationPolicy,
    NotifierSpec,
    ScreeningPolicy,
    Slice,
    TrainingPolicy,
)
from retraining.spec.production import (
    DailyFiles,
    FeedbackFormat,
    FeedbackPolicy,
    MonitoredMetric,
    MonitoringPolicy,
    TrafficSpec,
)
from retraining.spec.rows import (
    CategoryFeature,
    Feature,
    ImageFeature,
    LabelSpec,
    NumberFeature,
    Table,
)
from retraining.spec.sources import (
    CsvDialect,
    CsvFormat,
    FileFormat,
    Format,
    PinnedData,
    SourceSpec,
)

__all__ = [
    "ApprovalPolicy",
    "Architecture",
    "AskWhen",
    "BehaviourName",
    "CategoryFeature",
    "CsvDialect",
    "CsvFormat",
    "DailyFiles",
    "Feature",
    "FeedbackFormat",
    "FeedbackPolicy",
    "FileFormat",
    "Format",
    "GatePolicy",
    "ImageFeature",
    "LabelSpec",
    "Limit",
    "LinearArchitecture",
    "Metric",
    "MlpArchitecture",
    "MonitoredMetric",
    "MonitoringPolicy",
    "NotificationPolicy",
    "NotifierSpec",
    "NumberFeature",
    "PinnedData",
    "PipelineSpec",
    "ScreeningPolicy",
    "Slice",
    "SourceSpec",
    "Table",
    "TrafficSpec",
    "TrainingPolicy",
    "find_specs",
    "load_spec",
    "parse_spec",
]
