"""The champion in production: one day of it, measured."""

from typing import Literal

from pydantic import Field

from retraining.digests import Digest
from retraining.records.base import Day, Interval, Record, StoredFile


class MonitoredValue(Record):
    """One measured value against what is acceptable of it.

    Attributes:
        name: A metric, `prediction_drift`, `feature_drift:<column>`, `unlike_champion`,
            `other_versions`, `faulty:<role>`, or `missing:<role>`; the roles are predictions and
            labels.
        measured: With its interval; None when there was too little to measure.
        n_rows: Rows behind it.
        min, max: What is acceptable of it.
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
        observed: On the newest day on which it could be measured.
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
        promotion: Attestation of the gate's decision that promoted it: what ranges are learned
            from, and what names the rows that drift is measured against.
        predictions, labels: Files of the day, as they were read.
        earlier_predictions: Files of the days before that this day's labels may be about.
        n_predictions: Answers of the day, of whichever version.
        n_unlabelled: Of these, answers whose label has not arrived yet.
        n_labelled: Answers of the serving version, of this day or before, whose label arrived on
            this day.
        last_labelled: The newest day on which labels arrived that could be used; None before.
        set_aside: Lines that count for nothing, and files that were refused, by reason.
        baseline: Digests of the rows that drift was measured against.
        incidents: Open after this day, oldest first.
        closed: Names of incidents that ended on this day.
        lines: Parquet of the lines that were set aside: role, file, line, row id, reason.
    """

    model: str
    day: Day
    spec: Digest
    registry_head: Digest
    previous: Digest | None
    champion: Digest
    version: int = Field(ge=1)
    promotion: Digest
    predictions: tuple[StoredFile, ...]
    labels: tuple[StoredFile, ...]
    earlier_predictions: tuple[StoredFile, ...] = ()
    n_predictions: int = Field(ge=0)
    n_unlabelled: int = Field(ge=0)
    n_labelled: int = Field(ge=0)
    last_labelled: Day | None = None
    set_aside: dict[str, int] = Field(default_factory=dict)
    baseline: tuple[Digest, ...] = ()
    values: tuple[MonitoredValue, ...] = ()
    incidents: tuple[Incident, ...] = ()
    closed: tuple[str, ...] = ()
    lines: Digest | None = None


class MonitoringEntry(Record):
    """One day in the append-only chain of a model's monitoring.

    Attributes:
        reason: Why it was measured: `scheduled`, or what somebody said.
        version: Of the model that served then.
        last_labelled: The newest day on which labels arrived that could be used; None before.
        attestation: Of the monitoring step.
        incidents: Open after this day.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    day: Day
    reason: str
    version: int = Field(ge=1)
    last_labelled: Day | None
    attestation: Digest
    incidents: tuple[Incident, ...]
    trust_list: Digest
    trust_version: int
