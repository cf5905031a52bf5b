"""What all rows of one source show together: in the week, and over the whole window."""

from pydantic import Field

from retraining.records.base import Interval, Record


class SourceDifference(Record):
    """How well a classifier tells a source's new rows from trusted ones, labels included.

    Honest news differs too, so this alone condemns nobody.

    Attributes:
        own_history: Whether the trusted rows are accepted ones of the same source.
        n_new, n_trusted: Rows of both that it was asked about.
        auc: Area under its ROC curve: 0.5 when nothing tells them apart, 1 when everything does.
        told_by: Columns that tell them apart best, where anything surely does.
    """

    own_history: bool
    n_new: int = Field(ge=0)
    n_trusted: int = Field(ge=0)
    auc: Interval
    told_by: tuple[str, ...] = ()


class SourceInfluence(Record):
    """What plain models lose on reference rows by learning a source's new rows too.

    Attributes:
        n_rows: New rows of the source that they learned from, or did not.
        n_reference: Reference rows that both were asked about.
        log_loss: Mean loss with the source minus without it, in nats; above 0 the source harms.
        beyond_others: How much more than the mean of the week's other sources; None without any.
        accuracy: As `log_loss`, of the share of right answers; below 0 the source harms.
        max_log_loss: The largest harm that is allowed.
    """

    n_rows: int = Field(ge=0)
    n_reference: int = Field(ge=0)
    log_loss: Interval
    beyond_others: Interval | None = None
    accuracy: Interval
    max_log_loss: float


class SourceWindow(Record):
    """How much a source teaches that all others contradict, accepted weeks included.

    Attributes:
        n_rows: Rows of the source that were asked about.
        n_taught: Those whose label models believe that learned from the source's other rows, and
            models of all other sources and the reference set contradict.
        expected_taught: What the window's other sources let expect, among rows of the same labels;
            0 where there are none.
        n_sources: Sources that the window has.
        p_value: Chance that an honest source has as many, all sources considered; 1 with one
            source, for which it cannot be told.
        max_p_value: Up to it a source is condemned.
    """

    n_rows: int = Field(ge=0)
    n_taught: int = Field(ge=0)
    expected_taught: float
    n_sources: int = Field(ge=1)
    p_value: float
    max_p_value: float


class SourceEvidence(Record):
    """Everything measured about one source; what could not be measured is None.

    Attributes:
        condemned: Why its new rows are quarantined whole: `source_harmful`, `source_accumulated`.
            Nothing when they are not.
        sentences: What that means, one for each; or why something could not be measured.
    """

    difference: SourceDifference | None = None
    influence: SourceInfluence | None = None
    window: SourceWindow | None = None
    condemned: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
