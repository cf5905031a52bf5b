"""What the checks of the model's behaviour found: what did the challenger learn?

Each check gives one number, `statistic`, larger for odder models, and says how often a clean
challenger shows as much (`p_value`). What follows from it is the gate's business.
"""

from typing import Self

from pydantic import Field, model_validator

from retraining.records.base import BatchId, Interval, Record
from retraining.records.patterns import Pattern
from retraining.spec import BehaviourName

# Where `null_quantiles` lie: level 0 is the smallest value of the null, level 1 the largest.
NULL_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
MAX_TRACED_ROWS = 500  # named per result; `n_traced` counts all


class TracedBatch(Record):
    """Rows of one batch that carry what a check found."""

    batch: BatchId
    n_rows: int = Field(ge=1)


class BehaviourResult(Record):
    """What one check saw of the challenger, against what clean challengers show.

    Attributes:
        measure: What `statistic` is, for the axis of a chart: `share of trusted rows turned`.
        statistic: Larger is odder; 0 where nothing was measured.
        p_value: Share of clean challengers that show as much or more; None where nothing was
            measured, or where the check compares with no null. Corrected inside the check for all
            that it looked at, never for the other checks: that is the gate's.
        null: What the null is made of, in a few words; empty without one.
        n_null: Values in it.
        null_quantiles: At `NULL_LEVELS`, in the unit of `statistic`; empty without a null.
        insufficient: Why nothing was measured; empty when it was.
        sentence: For the on-call: what was found, without row values.
        pattern: Values that turn the challenger, or the region where it differs.
        from_class, to_class: What rows with the pattern were for the champion (or their label),
            and what they are for the challenger; empty where that has no meaning.
        by_source: The same measure per source with its interval, where the check has one.
        traced: Batches of the rows that taught it, most rows first.
        n_traced: All of these rows.
        row_ids: Ids of the first `MAX_TRACED_ROWS` of them.
    """

    name: BehaviourName
    measure: str
    statistic: float = 0.0
    p_value: float | None = Field(default=None, ge=0, le=1)
    null: str = ""
    n_null: int = Field(default=0, ge=0)
    null_quantiles: tuple[float, ...] = ()
    insufficient: str = ""
    sentence: str
    pattern: Pattern | None = None
    from_class: str = ""
    to_class: str = ""
    by_source: dict[str, Interval] = Field(default_factory=dict)
    traced: tuple[TracedBatch, ...] = ()
    n_traced: int = Field(default=0, ge=0)
    row_ids: tuple[str, ...] = Field(default=(), max_length=MAX_TRACED_ROWS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.insufficient and self.p_value is not None:
            raise ValueError("what was not measured has no p-value")
        if self.null_quantiles and len(self.null_quantiles) != len(NULL_LEVELS):
            raise ValueError("a null has one quantile per level")
        if self.n_traced < len(self.row_ids) or (
            self.n_traced != sum(part.n_rows for part in self.traced)
        ):
            raise ValueError("the traced rows are those of the traced batches")
        return self


class Disagreement(Record):
    """Holdout rows that the champion gives one class, and the challenger another."""

    champion: str
    challenger: str
    n_rows: int = Field(ge=1)


class BehaviourReport(Record):
    """All checks of one challenger.

    Attributes:
        results: One per check, in a fixed order; a check that could not be made says why.
        false_alarm_rate: Of all checks together, that the p-values are judged at
            (`gate.false_alarm_rate` of the pipeline file).
        power: Which share of planted attacks would have been refused on this very data, by
            `check: attack`; empty where nothing could be planted.
        disagreements: On the judging half of the holdout, most rows first.
        n_judging: Rows of that half.
    """

    results: tuple[BehaviourResult, ...]
    false_alarm_rate: float = Field(gt=0, lt=1)
    power: dict[str, float] = Field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    n_judging: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({result.name for result in self.results}) != len(self.results):
            raise ValueError("each check stands once")
        return self
