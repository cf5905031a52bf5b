"""What the weekly steps do, allow and tell: the policy."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from retraining.spec.base import Column, Fraction, Frozen, Name


class ScreeningPolicy(Frozen):
    """How rows are judged, and how much suspicion a batch may carry."""

    false_discovery_rate: float = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="Share of honest rows that is expected among the rows held for their evidence.",
    )
    max_rounds: int = Field(
        default=3, ge=1, le=10, description="Of looking for patterns and purging them."
    )
    max_fitted_rows: int = Field(
        default=20_000,
        ge=1000,
        description="New rows that surrogates learn from: bounds time and memory.",
    )
    max_history_rows: int = Field(
        default=10_000, ge=1000, description="Accepted rows to judge against: the same."
    )
    max_quarantined_share_per_source: Fraction = Field(
        default=0.10, description="Above it a source is refused for the week."
    )
    max_poison_rows_per_source: int = Field(
        default=250,
        ge=1,
        description="Above it too: a few hundred rows can be enough, however large the batch.",
    )
    max_quarantined_share: Fraction = Field(
        default=0.10, description="Above it the whole week is refused."
    )
    min_rows: int = Field(default=100, ge=1, description="Accepted new rows that a run needs.")
    shards: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Tasks that judge the rows of a week side by side; the record is the same.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_old_settings(cls, values: Any) -> Any:
        # Pinned files of releases before 0.3 have it, and must stay readable for the verifier.
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if name != "trusted_flag_rate"}
        return values


class LinearArchitecture(Frozen):
    """Softmax regression."""

    kind: Literal["linear"]


class MlpArchitecture(Frozen):
    """Dense layers with one activation, then softmax."""

    kind: Literal["mlp"]
    hidden_units: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        min_length=1, max_length=4
    )
    activation: Literal["tanh", "relu"] = "tanh"


Architecture = Annotated[LinearArchitecture | MlpArchitecture, Field(discriminator="kind")]


class TrainingPolicy(Frozen):
    """Differentially private training of the challenger: what it may spend, and how it learns.

    The claim: (epsilon, delta)-DP of the trained weights for adding or removing one accepted
    row, with Poisson sampling. Screening and the gate look at the rows too; they stand outside.
    """

    architecture: Architecture
    epsilon_per_run: float = Field(gt=0, le=100)
    epsilon_per_block: float = Field(
        gt=0, le=1000, description="All runs together, on the rows of any one weekly batch."
    )
    delta: float = Field(gt=0, lt=0.01, description="Keep it below 1 / rows.")
    window_weeks: int = Field(default=8, ge=1, le=520)
    l2_clip_norm: float = Field(default=1.0, gt=0, le=10_000)
    expected_batch_rows: int = Field(ge=1)
    epochs: float = Field(gt=0, le=10_000)
    learning_rate: float = Field(gt=0, le=100)
    optimizer: Literal["sgd", "adam"] = "adam"
    limit_seconds: int = Field(default=3600, ge=10)
    limit_memory_mib: int = Field(
        default=8192, ge=2048, description="Address space; TensorFlow alone takes 1,700."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.epsilon_per_block < self.epsilon_per_run:
            raise ValueError(
                f"epsilon_per_block ({self.epsilon_per_block:g}) must be at least"
                f" epsilon_per_run ({self.epsilon_per_run:g}), or no run can ever start"
            )
        return self


Metric = Literal[
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "calibration_error"
]


class Slice(Frozen):
    """A named part of the holdout, chosen by one column: a range or a list of values."""

    name: Name
    column: Column
    min: float | None = None
    max: float | None = None
    one_of: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        ranged = self.min is not None or self.max is not None
        if ranged == (self.one_of is not None):
            raise ValueError("a slice has either one_of, or min and/or max")
        return self


class Limit(Frozen):
    """An absolute limit on a metric of the challenger."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a limit has min, max or both")
        return self


# The checks of what a model learned, in the order in which they are made.
BehaviourName = Literal[
    "transplant",
    "window",
    "regions",
    "sources",
    "canaries",
    "memorisation",
]


class GatePolicy(Frozen):
    """What the gate allows. Its digest is on record before training starts."""

    compared: tuple[Metric, ...] = Field(default=("accuracy",), min_length=1)
    margin: Fraction = Field(
        default=0.02, description="REJECT: surely worse than the champion, by more than this."
    )
    harm: Fraction = Field(
        default=0.05, description="HOLD: a loss larger than this cannot be excluded."
    )
    limits: Mapping[Metric, Limit] = Field(min_length=1)
    min_holdout_rows: int = Field(default=200, ge=1)
    min_slice_rows: int = Field(default=50, ge=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    bootstrap_resamples: int = Field(default=2000, ge=200, le=100_000)
    slices: tuple[Slice, ...] = ()
    false_alarm_rate: float = Field(
        default=0.02,
        gt=0,
        le=0.5,
        description="Share of clean challengers that all checks of behaviour together may refuse.",
    )
    require_behaviour: tuple[BehaviourName, ...] = Field(
        default=(),
        description="HOLD when one of these could not be measured; not asked of a first champion.",
    )
    purge: Literal["never", "offer", "promote"] = Field(
        default="offer",
        description="When a check of behaviour refuses: take out what taught the challenger and"
        " train again; a second challenger that passes is offered, or promoted at once.",
    )
    purge_rounds: int = Field(
        default=1, ge=1, le=3, description="Of that; each spends privacy like any training."
    )

    @property
    def most_purges(self) -> int:
        """How often a run may take rows out and train again; 0 where the file wants none."""
        return self.purge_rounds if self.purge != "never" else 0


class NotifierSpec(Frozen):
    """An Airflow notifier: its import path and its arguments."""

    notifier: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    arguments: Mapping[str, Any] = Field(default_factory=dict)


class NotificationPolicy(Frozen):
    """Who hears of a red gate, of a task that broke, and of an incident of the champion."""

    on_refused_gate: tuple[NotifierSpec, ...] = ()
    on_failed_task: tuple[NotifierSpec, ...] = ()
    on_incident: tuple[NotifierSpec, ...] = ()
