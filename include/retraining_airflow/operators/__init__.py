"""One small operator per step: they translate between Airflow and `retraining.steps`.

`__init__` stores arguments, because it runs at every parse; `run_step` makes one call. The base
class turns what comes back into a colour: green when the step concluded (refusals included),
skipped when there was nothing to do, red at once when trying again cannot help, red after its
retries when something broke.
"""

from retraining_airflow.operators.approval import ApproveOperator
from retraining_airflow.operators.base import SCHEDULER, RetrainingOperator, champion_asset
from retraining_airflow.operators.feedback import CloseFeedbackOperator
from retraining_airflow.operators.incident import (
    IncidentOperator,
    RestoreAfterIncidentOperator,
    TraceIncidentOperator,
)
from retraining_airflow.operators.monitoring import AlertOperator, MonitorOperator
from retraining_airflow.operators.rollback import RequestRollbackOperator, RestoreOperator
from retraining_airflow.operators.weekly import (
    GateOperator,
    IngestOperator,
    PinOperator,
    PromoteOperator,
    ProvenanceOperator,
    PurgeOperator,
    ScreenOperator,
    ScreenShardOperator,
    TrainOperator,
    ValidateOperator,
)

__all__ = [
    "SCHEDULER",
    "AlertOperator",
    "ApproveOperator",
    "CloseFeedbackOperator",
    "GateOperator",
    "IncidentOperator",
    "IngestOperator",
    "MonitorOperator",
    "PinOperator",
    "PromoteOperator",
    "ProvenanceOperator",
    "PurgeOperator",
    "RequestRollbackOperator",
    "RestoreAfterIncidentOperator",
    "RestoreOperator",
    "RetrainingOperator",
    "ScreenOperator",
    "ScreenShardOperator",
    "TraceIncidentOperator",
    "TrainOperator",
    "ValidateOperator",
    "champion_asset",
]
