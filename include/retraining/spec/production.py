"""What happens around the serving model: traffic, users' feedback, monitoring."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from retraining.spec.base import Column, Cron, Fraction, Frozen, Name
from retraining.spec.policies import Limit
from retraining.spec.sources import CsvFormat, FileFormat, csv_shorthand

FeedbackFormat = Annotated[
    Literal["json_lines", "parquet"] | CsvFormat,
    BeforeValidator(
        csv_shorthand,
        json_schema_input_type=Literal["json_lines", "parquet", "csv"] | CsvFormat,
    ),
]


class DailyFiles(Frozen):
    """Files of our own services, one folder or file per day (UTC)."""

    uri: str = Field(pattern=r"\{day\}", description="Path or s3://, with {day} in it: 2026-02-14.")
    format: FileFormat = "parquet"
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    max_rows: int = Field(default=1_000_000, ge=1)


class TrafficSpec(Frozen):
    """What the serving model was asked, and the truth that became known later.

    `predictions` has the row id, the event time where there is one, every feature, and two more
    columns; `labels` has the row id and the label, under the names of the pipeline.
    """

    predictions: DailyFiles
    labels: DailyFiles
    predicted_column: Column = Field(default="predicted", description="Class that was answered.")
    version_column: Column = Field(default="version", description="Version that answered.")
    label_wait_days: int = Field(
        default=14, ge=0, le=366, description="How old a prediction may be that a label is about."
    )


class FeedbackPolicy(Frozen):
    """What users say about items, and how far a week of it may move the model.

    A line has `item` (a row id of the traffic), `user`, `label` and `time`; optional signals are
    `account_age_days` (a number) and `verified` (true or false). Trust is rooted in audited items:
    those whose label the traffic's `labels` hold. Counting accounts alone never stops somebody who
    can open many, so accounts without a record only add to the votes of those who have one.
    """

    schedule: Cron | None = Field(default=None, description="Cron; null: started by hand only.")
    uri: str = Field(pattern=r"\{week\}", description="Folder or file per week, with {week} in it.")
    format: FeedbackFormat = "json_lines"
    source: Name = Field(description="The source, untrusted, that a closed batch is handed to.")
    max_bytes: int = Field(default=250_000_000, ge=1, description="Of the files of one week.")
    max_lines: int = Field(default=1_000_000, ge=1, description="Of the files of one week.")
    min_weeks_between_batches: int = Field(default=1, ge=1, le=52)
    min_items: int = Field(
        default=20, ge=1, description="Fewer decided items: no batch, they wait."
    )
    wait_weeks: int = Field(
        default=4, ge=1, le=52, description="How many weeks a line waits for more support."
    )
    max_votes_per_user: int = Field(
        default=200, ge=1, description="Per batch, the first ones by time; the rest is set aside."
    )
    min_account_age_days: int = Field(default=7, ge=0)
    min_audited_votes: int = Field(
        default=3, ge=1, description="Votes on audited items before a user's record counts."
    )
    min_agreement: Fraction = Field(
        default=0.7, description="With audited items; below it a user's votes are set aside."
    )
    newcomer_weight: Fraction = Field(
        default=0.25, description="Of a vote whose user has no record; one with a record counts 1."
    )
    max_newcomer_share: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Of a label's support that users without a record may give; 0: none.",
    )
    unverified_weight: Fraction = Field(
        default=0.5, description="Factor on votes of accounts that are known not to be verified."
    )
    min_support: float = Field(
        default=2.0, gt=0, description="Summed weight that the label of an item needs."
    )
    min_majority: float = Field(
        default=0.75, gt=0.5, le=1, description="Of the weight of all labels of the item."
    )
    confident: float = Field(
        default=0.95, gt=0.5, le=1, description="Champion's probability above which items are held."
    )
    max_changes_per_class: int = Field(
        default=25, ge=0, description="Items a week that contradict the champion, per new class."
    )
    max_items: int = Field(
        default=200,
        ge=1,
        description="Of one batch: contradictions first, then the best supported.",
    )
    max_loss: Fraction = Field(
        default=0.02,
        description="Accuracy that a surrogate may lose by the feedback; above, it is left out.",
    )


# What labels and answers alone can tell; the traffic holds no probabilities.
MonitoredMetric = Literal["accuracy", "balanced_accuracy", "precision", "recall", "f1"]


class MonitoringPolicy(Frozen):
    """What is acceptable of the champion in production, day by day.

    A value is breached only when its whole interval lies outside its range.
    """

    schedule: Cron | None = Field(default="0 2 * * *", description="Cron; null: by hand only.")
    metrics: tuple[MonitoredMetric, ...] = Field(default=("accuracy",), min_length=1)
    ranges: Mapping[MonitoredMetric, Limit] = Field(
        default_factory=dict,
        description="Acceptable ranges; a metric without one is held against its promotion.",
    )
    tolerance: Fraction = Field(
        default=0.05, description="What a metric may lose against the holdout at promotion."
    )
    min_labelled_rows: int = Field(
        default=50, ge=1, description="Labels a day without which no metric is judged."
    )
    min_predictions: int = Field(
        default=100, ge=1, description="Answers a day without which no drift is judged."
    )
    max_prediction_drift: Fraction = Field(
        default=0.15, description="Total variation distance of the predicted classes."
    )
    max_feature_drift: Fraction = Field(
        default=0.25,
        description="Kolmogorov-Smirnov (numbers) or total variation (others) distance.",
    )
    max_unlike_champion: Fraction = Field(
        default=0.02,
        description="Share of answers that the champion, asked again, does not give.",
    )
    max_other_versions: Fraction = Field(
        default=0.1, description="Share of a day's answers that another version gave."
    )
    max_faulty_rows: Fraction = Field(
        default=0.05, description="Share of a day's rows that are not what this file declares."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1)

    @property
    def measured(self) -> tuple[MonitoredMetric, ...]:
        """Every metric that is named, once, in one order."""
        return tuple(dict.fromkeys((*self.metrics, *self.ranges)))
