"""The whole file: one model's pipeline."""

from typing import Any, Self

from pydantic import Field, model_validator

from retraining.digests import canonical_json
from retraining.errors import SpecError
from retraining.spec.approval import ApprovalPolicy
from retraining.spec.base import Column, Frozen, Name
from retraining.spec.policies import (
    GatePolicy,
    NotificationPolicy,
    ScreeningPolicy,
    TrainingPolicy,
)
from retraining.spec.production import FeedbackPolicy, MonitoringPolicy, TrafficSpec
from retraining.spec.rows import Feature, LabelSpec, Table
from retraining.spec.sources import PinnedData, SourceSpec


class PipelineSpec(Frozen):
    """One model's pipeline, as its owner wrote it."""

    model: Name
    description: str = Field(min_length=1)
    owner: str = Field(min_length=1)
    schedule: str | None = Field(default=None, description="Cron; null: started by hand only.")
    schema_version: int = Field(default=1, ge=1)
    label: LabelSpec
    row_id: Column
    event_time: Column | None = None
    user: Column | None = Field(
        default=None,
        description="Who stands behind a row; sources that know nobody may lack it. Screening"
        " condemns users of whose rows too many are odd.",
    )
    features: tuple[Feature, ...] = Field(min_length=1)
    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    reference: PinnedData
    holdout: PinnedData
    screening: ScreeningPolicy = ScreeningPolicy()
    training: TrainingPolicy
    gate: GatePolicy
    approval: ApprovalPolicy = ApprovalPolicy()
    notifications: NotificationPolicy = NotificationPolicy()
    traffic: TrafficSpec | None = None
    feedback: FeedbackPolicy | None = None
    monitoring: MonitoringPolicy | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        columns = [f.name for f in self.features] + [self.label.column, self.row_id]
        columns += [name for name in (self.event_time, self.user) if name]
        if repeated := sorted({c for c in columns if columns.count(c) > 1}):
            raise ValueError(f"a column may have one role only, found more for {repeated}")
        names = [source.name for source in self.sources]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"source names must differ, found twice: {repeated}")
        if self.label.positive is None:
            needy = {"precision", "recall", "f1", "auc"} & {*self.gate.compared, *self.gate.limits}
            if needy:
                raise ValueError(
                    f"gate: {sorted(needy)} need label.positive; with more than two classes use"
                    " accuracy or balanced_accuracy"
                )
        if any(f.kind == "image" for f in self.features) and any(
            source.format != "parquet" for source in self.sources
        ):
            raise ValueError("image features need format: parquet for every source")
        self._check_slices(set(columns))
        self._check_production(set(columns))
        if self.schedule is not None and len(self.schedule.split()) != 5:
            raise ValueError(f"schedule: expected five cron fields, found {self.schedule!r}")
        return self

    def _check_production(self, columns: set[str]) -> None:
        if (self.feedback or self.monitoring) and self.traffic is None:
            raise ValueError("feedback and monitoring read the traffic; say where it is: traffic")
        if self.traffic is not None:
            own = {self.traffic.predicted_column, self.traffic.version_column}
            if len(own) != 2 or own & columns:
                raise ValueError(
                    "traffic: predicted_column and version_column must differ from each other and"
                    f" from the columns of a row, found {sorted(own)}"
                )
        if self.feedback is not None:
            self._check_feedback(self.feedback)
        if self.monitoring is not None and self.label.positive is None:
            needy = {"precision", "recall", "f1"} & set(self.monitoring.measured)
            if needy:
                raise ValueError(f"monitoring: {sorted(needy)} need label.positive")

    def _check_feedback(self, feedback: FeedbackPolicy) -> None:
        source = next((s for s in self.sources if s.name == feedback.source), None)
        if source is None or source.trust != "untrusted" or source.key_id is None:
            raise ValueError(
                f"feedback.source: {feedback.source} must be one of the sources, with"
                " trust: untrusted and a key_id, which signs the closed batches"
            )
        if source.format != "parquet":
            raise ValueError(
                f"feedback.source: batches are handed over as Parquet; give"
                f" {feedback.source} format: parquet"
            )
        if not feedback.min_items <= feedback.max_items <= source.max_rows:
            raise ValueError(
                f"feedback.max_items: expected at least min_items ({feedback.min_items})"
                f" and at most the max_rows of {source.name} ({source.max_rows}), else its"
                f" batches are refused; found {feedback.max_items}"
            )
        if source.on_refusal != "leave_out":
            raise ValueError(
                "feedback.source: a week without feedback, or with harmful feedback, goes on;"
                f" give {feedback.source} on_refusal: leave_out"
            )

    def _check_slices(self, known: set[str]) -> None:
        numbers = {feature.name for feature in self.features if feature.kind == "number"}
        names = ["all", *(part.name for part in self.gate.slices)]
        for part in self.gate.slices:
            if part.column not in known:
                raise ValueError(f"gate.slices: {part.name} names no column of this pipeline")
            if part.one_of is None and part.column not in numbers:
                raise ValueError(f"gate.slices: {part.name}: min and max need a number column")
            if names.count(part.name) > 1:
                raise ValueError(f"gate.slices: {part.name} is taken; names must differ")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a batch has to have, in a fixed order."""
        return self.table.columns

    @property
    def table(self) -> Table:
        """What a delivered row has to be."""
        return Table(
            row_id=self.row_id,
            event_time=self.event_time,
            texts=(self.user,) if self.user else (),
            optional=(self.user,) if self.user else (),
            features=self.features,
            label=self.label,
        )

    def source(self, name: str) -> SourceSpec:
        """The source of that name; raises SpecError when there is none."""
        for source in self.sources:
            if source.name == name:
                return source
        raise SpecError(
            f"{self.model} has no source {name!r}; it has {[s.name for s in self.sources]}."
        )

    def policy(self) -> dict[str, Any]:
        """Everything that decides a verdict; its digest is on record before training starts."""
        decisive = {"screening", "training", "gate", "approval", "feedback"}
        return self.model_dump(mode="json", include=decisive)

    def to_json(self) -> bytes:
        """The resolved spec, as canonical JSON: what a run pins and every later task reads."""
        return canonical_json(self.model_dump(mode="json"))
