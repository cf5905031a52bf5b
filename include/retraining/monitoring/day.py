"""One day of the champion: every value of it, judged, and the incidents that follow."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.errors import BatchRefusedError
from retraining.intervals import wilson
from retraining.models import Model
from retraining.monitoring import incidents
from retraining.monitoring.drift import class_drift, feature_drift, thinned
from retraining.monitoring.joining import Joined, join, positions
from retraining.monitoring.judging import Judged, State, judge_metric, judge_missing, judge_share
from retraining.monitoring.metrics import Confusion, Measured, measure
from retraining.monitoring.set_aside import Delivered, SetAside, set_aside
from retraining.records import Incident, Interval, MonitoredValue, MonitoringEntry
from retraining.spec import Feature, ImageFeature, MonitoringPolicy, PipelineSpec, TrafficSpec

_LOOK_AT_EXPORT = (
    "Look at the service that writes these files; until it is mended nobody knows how the champion"
    " does. Correct the files and measure the next day."
)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The model that serves, and what is known of it.

    Attributes:
        known_versions: Versions that the registry names.
        learned_from: Rows that it was trained on: what drift is measured against.
        promoted: Its metrics on the holdout when it was promoted.
    """

    version: int
    known_versions: Collection[int]
    model: Model
    learned_from: pd.DataFrame
    promoted: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True)
class MeasuredDay:
    """What a day came to; fields as in `MonitoringReport`.

    Attributes:
        lines: What was set aside, line by line: `LINE_COLUMNS`.
        last_labelled: The newest day on which labels arrived that could be used.
    """

    values: tuple[MonitoredValue, ...]
    incidents: tuple[Incident, ...]
    closed: tuple[str, ...]
    n_predictions: int
    n_unlabelled: int
    n_labelled: int
    set_aside: dict[str, int]
    lines: pd.DataFrame
    last_labelled: str | None


def measure_day(
    day: str,
    *,
    spec: PipelineSpec,
    traffic: TrafficSpec,
    policy: MonitoringPolicy,
    predictions: Delivered,
    earlier: pd.DataFrame,
    labels: Delivered,
    serving: Serving,
    previous: MonitoringEntry | None,
    first_day: str,
) -> MeasuredDay:
    """Measure a day, judge every value, and carry the incidents on.

    Args:
        predictions: Of the day, with features.
        earlier: Row id, answer and version of the answers before, that labels may be about.
        labels: That became known on the day.
        previous: The newest monitored day before this one.
        first_day: The first day that was ever monitored.
    """
    measured = _Day(day, spec, traffic, policy, predictions, earlier, labels, serving)
    joined = measured.joined
    any_labelled = bool(len(joined.labels) or joined.of_other_version)
    last_labelled = previous.last_labelled if previous else None
    if any_labelled:
        last_labelled = day
    served_before = previous is not None and previous.version == serving.version
    judged = [
        *measured.metrics(),
        *measured.drift(),
        measured.unlike_champion(),
        measured.other_versions(served_before=served_before),
        *measured.faulty(),
        measured.missing_predictions(),
        measured.missing_labels(since=last_labelled or first_day),
    ]
    aside = measured.set_aside()
    still_open, closed = incidents.after(previous.incidents if previous else (), judged, day=day)
    return MeasuredDay(
        values=tuple(item.value for item in judged),
        incidents=still_open,
        closed=closed,
        n_predictions=len(predictions.frame),
        n_unlabelled=measured.n_unlabelled,
        n_labelled=len(joined.labels),
        set_aside=aside.counts,
        lines=aside.lines,
        last_labelled=last_labelled,
    )


@dataclass(frozen=True)
class _Day:
    """The parts of a day, and what each value is measured from."""

    day: str
    spec: PipelineSpec
    traffic: TrafficSpec
    policy: MonitoringPolicy
    predictions: Delivered
    earlier: pd.DataFrame
    labels: Delivered
    serving: Serving

    @cached_property
    def joined(self) -> Joined:
        own = self.predictions.frame
        answers = pd.concat([self.earlier, own[list(self.earlier.columns)]], ignore_index=True)
        # A row that was asked about again: labels are about the newest answer.
        answers = answers[~answers[self.spec.row_id].duplicated(keep="last")]
        return join(
            self.labels.frame,
            answers,
            spec=self.spec,
            traffic=self.traffic,
            version=self.serving.version,
        )

    @property
    def n_unlabelled(self) -> int:
        known = pd.Index(self.labels.frame[self.spec.row_id])
        return int(
            (known.get_indexer(pd.Index(self.predictions.frame[self.spec.row_id])) < 0).sum()
        )

    @cached_property
    def known(self) -> pd.DataFrame:
        """Answers of the day by versions that the registry names."""
        frame = self.predictions.frame
        return frame[frame[self.traffic.version_column].isin(list(self.serving.known_versions))]

    @cached_property
    def ours(self) -> pd.DataFrame:
        """Answers of the day by the serving version."""
        return self.known[self.known[self.traffic.version_column] == self.serving.version]

    @cached_property
    def learned_from(self) -> pd.DataFrame:
        return thinned(self.serving.learned_from)

    # --- values -----------------------------------------------------------------------------

    def metrics(self) -> list[Judged]:
        classes, positive = self.spec.label.classes, self.spec.label.positive
        confusion = Confusion.of(
            self.joined.labels,
            self.joined.answers,
            n_classes=len(classes),
            positive=None if positive is None else classes.index(positive),
        )
        policy = self.policy
        found = measure(
            confusion,
            policy.measured,
            min_rows=policy.min_labelled_rows,
            confidence=policy.confidence,
        )
        promoted = self.serving.promoted
        return [
            judge_metric(name, found[name], policy=policy, promoted=promoted)
            for name in policy.measured
        ]

    def drift(self) -> list[Judged]:
        predicted = judge_share(
            "prediction_drift",
            self._prediction_drift(),
            max_share=self.policy.max_prediction_drift,
            next_step="Compare the answers with the labels, and the features' drift beside it: a"
            " source may have changed, or somebody may be trying the champion out.",
        )
        features = [
            judge_share(
                f"feature_drift:{feature.name}",
                self._feature_drift(feature),
                max_share=self.policy.max_feature_drift,
                next_step="Find out what changed where this column is made. If the change is meant,"
                " retrain on batches that have it.",
            )
            for feature in self.spec.features
        ]
        return [predicted, *features]

    def _prediction_drift(self) -> Measured:
        """Answers of the day against the champion's own answers on what it learned from."""
        n_rows = len(self.ours)
        own = self._answers_on(self.learned_from)
        if n_rows < self.policy.min_predictions or own is None or not len(own):
            return Measured(None, n_rows)
        classes = self.spec.label.classes
        now, then = (
            positions(pd.Series(answers), classes)
            for answers in (self.ours[self.traffic.predicted_column], own)
        )
        found = class_drift(now, then, len(classes), confidence=self.policy.confidence)
        return Measured(found, n_rows)

    def _feature_drift(self, feature: Feature) -> Measured:
        rows = thinned(self.known)
        before = self.learned_from
        if len(rows) < self.policy.min_predictions or not len(before) or not self._shared(feature):
            return Measured(None, len(rows))
        confidence = self.policy.confidence
        column = rows[feature.name], before[feature.name]
        return Measured(feature_drift(feature, *column, confidence=confidence), len(rows))

    def _shared(self, feature: Feature) -> bool:
        """Whether the champion learned from the same kind of column."""
        known = {item.name: item for item in self.serving.model.preprocessing.features}
        then = known.get(feature.name)
        if then is None or then.kind != feature.kind:
            return False
        return not isinstance(feature, ImageFeature) or then.n_columns == feature.n_bytes

    def unlike_champion(self) -> Judged:
        """Answers that the champion, asked again, does not give."""
        n_rows, measured = len(self.ours), Measured(None, len(self.ours))
        again = self._answers_on(self.ours)
        if again is not None and n_rows >= self.policy.min_predictions:
            unlike = int((again != self.ours[self.traffic.predicted_column].to_numpy()).sum())
            measured = self._share(unlike, n_rows)
        return judge_share(
            "unlike_champion",
            measured,
            max_share=self.policy.max_unlike_champion,
            next_step="What serves is not the registry's champion, or it is fed other features than"
            " it logs. Compare the deployed files with `retraining champions`.",
        )

    def other_versions(self, *, served_before: bool) -> Judged:
        n_rows, n_other = len(self.predictions.frame), len(self.predictions.frame) - len(self.ours)
        # On the day of a promotion the version before answers, too.
        enough = served_before and n_rows >= self.policy.min_predictions
        return judge_share(
            "other_versions",
            self._share(n_other, n_rows) if enough else Measured(None, n_rows),
            max_share=self.policy.max_other_versions,
            next_step=f"Deploy version {self.serving.version}, which the registry names, or roll"
            " back to the one that shall serve.",
        )

    def faulty(self) -> list[Judged]:
        return [
            judge_share(
                f"faulty:{role}",
                self._share(delivered.n_faulty, delivered.n_faulty + len(delivered.frame)),
                max_share=self.policy.max_faulty_rows,
                next_step=_LOOK_AT_EXPORT,
            )
            for role, delivered in (("predictions", self.predictions), ("labels", self.labels))
        ]

    def missing_predictions(self) -> Judged:
        n_rows, refused = len(self.predictions.frame), self.predictions.refused
        return judge_missing(
            "missing:predictions",
            n_rows,
            refused,
            state="breached" if refused or not n_rows else "ok",
            observed="no predictions of the day" if not n_rows else f"{n_rows} rows",
            next_step=_LOOK_AT_EXPORT,
        )

    def missing_labels(self, *, since: str) -> Judged:
        """Labels come late, so a day without is nothing; no labels at all would blind us."""
        n_rows = len(self.joined.labels) + len(self.joined.of_other_version)
        waited = (date.fromisoformat(self.day) - date.fromisoformat(since)).days
        broken = [refusal for refusal in self.labels.refused if refusal.code != "missing"]
        state: State = "ok" if n_rows else "insufficient"
        if broken or (not n_rows and waited > self.traffic.label_wait_days):
            state = "breached"
        return judge_missing(
            "missing:labels",
            n_rows,
            broken,
            state=state,
            observed=f"no label that fits an answer since {since}",
            next_step=_LOOK_AT_EXPORT,
        )

    def _share(self, k: int, n: int) -> Measured:
        return Measured(wilson(k / n, n, confidence=self.policy.confidence) if n else None, n)

    def _answers_on(self, frame: pd.DataFrame) -> npt.NDArray[np.object_] | None:
        """The champion's classes; None when it was made for other columns."""
        try:
            best = self.serving.model.predict(frame).argmax(axis=1)
        except BatchRefusedError:
            return None
        answers: npt.NDArray[np.object_] = np.array(self.serving.model.classes, dtype=object)[best]
        return answers

    def set_aside(self) -> SetAside:
        """What could not be read, and what was read and is about nothing."""
        frame = self.predictions.frame
        unknown = frame[~frame.index.isin(self.known.index)]
        return set_aside(
            self.predictions,
            self.labels,
            [
                ("predictions", "prediction_of_unknown_version", list(unknown[self.spec.row_id])),
                ("labels", "label_of_unknown_row", self.joined.of_unknown_row),
                ("labels", "label_of_other_version", self.joined.of_other_version),
            ],
        )
