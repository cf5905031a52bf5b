"""The champion in production: one day of it, measured."""

from typing import Literal

from pydantic import Field

from retraining.digests import Digest
from retraining.records.base import Day, Interval, Record, StoredFile


class MonitoredValue(Record):
    """One measured value against what is acceptable of it.

    Attributes:
        name: A metric, `prediction_drift`, `feature_drift:<column>`, `missing:<what>`.
        measured: With its interval; None when there was too little to measure.
        n_rows: Rows behind it.
        min, max: What is acceptable.
        basis: Where that comes from: the pipeline file, or the holdout at promotion.
        state: `ok`; `breached` when the whole interval lies outside; `insufficient`.
    """

    name: str
    measured: Interval | None
    n_rows: int = Field(ge=0)
    min: float | None = None
    max: float | None = None
    basis: Literal["spec", "promotion"]
    state: Literal["ok", "breached", "insufficient"]


class Incident(Record):
    """Something that is not acceptable, from the first day on which it was seen.

    Attributes:
        name: Of the monitored value.
        opened: Its first day; with the name, what one message is sent for.
    """

    name: str
    opened: Day
    observed: str
    allowed: str
    next_step: str


class MonitoringReport(Record):
    """A day of the champion: how good its answers were, and how far its inputs moved.

    Attributes:
        previous: Payload digest of the monitoring chain's newest entry before this day.
        champion, version: Of the model that serves.
        predictions, labels: Files of the day, as they were read.
        n_predictions: Answers of the day, of whichever version.
        n_labelled: Answers, of this day or before, whose label arrived on this day.
        set_aside: Rows that count for nothing, by reason.
        baseline: Digests of the rows that drift was measured against.
        incidents: Open after this day, oldest first.
        closed: Names of incidents that ended on this day.
    """

    model: str
    day: Day
    spec: Digest
    registry_head: Digest
    previous: Digest | None
    champion: Digest
    version: int = Field(ge=1)
    predictions: tuple[StoredFile, ...]
    labels: tuple[StoredFile, ...]
    n_predictions: int = Field(ge=0)
    n_labelled: int = Field(ge=0)
    set_aside: dict[str, int] = Field(default_factory=dict)
    baseline: tuple[Digest, ...] = ()
    values: tuple[MonitoredValue, ...] = ()
    incidents: tuple[Incident, ...] = ()
    closed: tuple[str, ...] = ()
    lines: Digest | None = None


class MonitoringEntry(Record):
    """One day in the append-only chain of a model's monitoring.

    Attributes:
        attestation: Of the monitoring step.
        incidents: Open after this day.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    day: Day
    attestation: Digest
    incidents: tuple[Incident, ...]
    trust_list: Digest
    trust_version: int
