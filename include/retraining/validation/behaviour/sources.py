"""Sources: whose new rows make a plain model worse on trusted rows?

Logistic models of the window, with and without the new rows of one source, answer the rows that
nobody learned from; several bags of rows each, so that one odd row decides nothing. The difference
of their log-losses is paired row by row. A source is harmful where the loss surely falls without
its rows, by more than a margin (leave one out: Cook 1977; for poison, RONI: Barreno et al. 2010).
"""

from collections.abc import Mapping

import numpy as np
from scipy.stats import t as student

from retraining.features import fit_preprocessing
from retraining.records import BehaviourResult, Interval, TracedBatch
from retraining.screening.plain_model import fit_plain_model
from retraining.screening.rows import SEED, Integers, Mask, Matrix, Reals
from retraining.validation.behaviour.look import Look
from retraining.validation.behaviour.nulls import corrected
from retraining.validation.behaviour.tracing import nothing_measured

MEASURE = "nats of log-loss on trusted rows that a source's new rows add"
MARGIN = 0.02  # of the loss without the source: less is within what an honest source may cost
_BAGS = 4
_MIN_TRUSTED, _MIN_ROWS = 100, 20
_SMALLEST = 1e-6


def sources(look: Look) -> BehaviourResult:
    """Leave out the new rows of one source after the other."""
    names = np.asarray(look.new.sources, dtype=object)
    asked = [name for name in sorted(set(names)) if (names == name).sum() >= _MIN_ROWS]
    n_trusted = len(look.reference) + len(look.judging)
    if not asked or n_trusted < _MIN_TRUSTED:
        return nothing_measured(
            "sources",
            MEASURE,
            f"{len(asked)} sources with at least {_MIN_ROWS} new rows and {n_trusted} trusted rows,"
            f" expected one and {_MIN_TRUSTED}.",
        )
    learned = _Lesson(look)
    whole = learned.losses(np.ones(len(names), dtype=bool))
    if whole is None:
        return nothing_measured("sources", MEASURE, "the window has rows of one class only.")
    effects, p_values = {}, {}
    for name in asked:
        without = learned.losses(names != name)
        if without is None:
            continue
        effects[name], p_values[name] = _effect(whole - without, margin=MARGIN * without.mean())
    if not effects:
        return nothing_measured("sources", MEASURE, "without any one source, one class is left.")
    worst = min(p_values, key=lambda name: (p_values[name], -effects[name].value, name))
    effect, p_value = effects[worst], corrected(p_values[worst], len(effects))
    what = "more" if effect.value >= 0 else "less"
    return BehaviourResult(
        name="sources",
        measure=MEASURE,
        statistic=effect.value,
        p_value=p_value,
        null=f"a source that adds at most {MARGIN:.0%} to the loss",
        n_null=n_trusted,
        sentence=f"With the new rows of {worst}, plain models lose {abs(effect.value):.4f} nats"
        f" {what} on {n_trusted} trusted rows than without them"
        f" (95%: {effect.low:+.4f} to {effect.high:+.4f}).",
        by_source=effects,
        **_traced(look, worst, p_value),
    )


class _Lesson:
    """The rows of the window, encoded, and the trusted rows that are asked."""

    def __init__(self, look: Look) -> None:
        encode = fit_preprocessing(look.case.spec, look.case.reference).encode
        self._n_classes = look.n_classes

        def encoded(rows: Matrix) -> Matrix:
            return encode(look.writer.frame(rows))

        self._old, self._new = encoded(look.history.rows.features), encoded(look.new.rows.features)
        self._old_labels, self._new_labels = look.history.rows.labels, look.new.rows.labels
        self._asked = np.concatenate([encoded(r.features) for r in (look.judging, look.reference)])
        self._truth = np.concatenate([look.judging.labels, look.reference.labels])

    def losses(self, kept: Mask) -> Reals | None:
        """Log-loss of each trusted row [t], mean of the bags; None with one class only."""
        features = np.concatenate([self._old, self._new[kept]])
        labels: Integers = np.concatenate([self._old_labels, self._new_labels[kept]])
        if len(np.unique(labels)) < 2:
            return None
        # Each row's weights are drawn before any is left out: a bag is the same with and without.
        drawn = np.random.RandomState(SEED).poisson(1.0, (_BAGS, len(self._old) + len(kept)))
        stays = np.concatenate([np.ones(len(self._old), dtype=bool), kept])
        total = np.zeros(len(self._truth))
        for weights in drawn[:, stays].astype(np.float64):
            chosen = weights > 0
            if len(np.unique(labels[chosen])) < 2:
                return None
            model = fit_plain_model(
                features[chosen],
                labels[chosen],
                n_classes=self._n_classes,
                row_weights=weights[chosen],
            )
            table = np.full((len(self._truth), self._n_classes), _SMALLEST)
            table[:, model.classes_.astype(int)] = model.predict_proba(
                self._asked.astype(np.float64)
            )
            own = table[np.arange(len(self._truth)), self._truth]
            total -= np.log(np.maximum(own, _SMALLEST)) / _BAGS
        return total


def _effect(difference: Reals, *, margin: float) -> tuple[Interval, float]:
    """Mean of the paired differences with its 95% interval, and that it is above the margin."""
    n = len(difference)
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(n)) + 1e-12
    half = float(student.ppf(0.975, n - 1)) * error
    interval = Interval(value=round(mean, 6), low=round(mean - half, 6), high=round(mean + half, 6))
    return interval, float(student.sf((mean - margin) / error, n - 1))


def _traced(look: Look, source: str, p_value: float) -> Mapping[str, object]:
    """The new batches of a source that surely harms; nothing of one that does not."""
    if p_value > look.case.false_alarm_rate:
        return {}
    batches = tuple(
        TracedBatch(batch=batch, n_rows=len(rows))
        for batch, rows in sorted(look.case.new.items(), key=lambda item: str(item[0]))
        if batch.source == source and len(rows)
    )
    return {"traced": batches, "n_traced": sum(part.n_rows for part in batches)}
