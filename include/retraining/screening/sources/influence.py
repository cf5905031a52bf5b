"""What do reference rows lose when models learn a source's new rows too?

Leave one source out: plain models learn from trusted rows and all new rows, others from the same
rows without those of one source, and both are asked about reference rows that neither learned from
(reject on negative impact: Nelson et al., "Exploiting machine learning to subvert your spam
filter", LEET 2008; of whole sources instead of single mails). Both are right or wrong about the
same rows, so the difference is paired. Every reference row is asked about in each of several
repetitions, by models of other folds and seeds, so that the chance of one fit averages out.

Trusted rows weigh as much as the new ones, or a long history would hide what a week does. Where the
world has changed, honest rows harm on older reference rows too: so a source is harmful only when it
surely costs more than a stated margin, and as much more than the week's other sources.
"""

from collections.abc import Mapping

import numpy as np

from retraining.records import Interval, SourceInfluence
from retraining.screening.opinions import spread
from retraining.screening.paired import mean_interval
from retraining.screening.rows import SEED, Columns, Integers, Reals, Rows
from retraining.screening.surrogate import fit_surrogate

MIN_ROWS = 20  # of a source: fewer move no model
MIN_REFERENCE_ROWS = 50
MAX_LOG_LOSS = 0.02  # nats
_MOST_REFERENCE_ROWS = 1000
_FOLDS, _REPEATS = 3, 2
_N_RESAMPLES = 2000


def influences_of(
    new: Rows,
    history: Rows,
    reference: Rows,
    *,
    columns: Columns,
    n_classes: int,
    confidence: float,
) -> dict[int, SourceInfluence]:
    """What each source with `MIN_ROWS` new rows or more changes; nothing of too small a reference.

    Args:
        new: Of all sources, each as large a part of it as of the week.
        history: Accepted rows; of more than `new` has, some are drawn.
        confidence: Of the intervals: the more sources, the larger it has to be.
    """
    names, counts = np.unique(new.sources, return_counts=True)
    asked = [int(name) for name, count in zip(names, counts, strict=True) if count >= MIN_ROWS]
    if not asked or len(reference) < MIN_REFERENCE_ROWS:
        return {}
    random = np.random.RandomState(SEED)
    if len(reference) > _MOST_REFERENCE_ROWS:
        drawn = random.permutation(len(reference))[:_MOST_REFERENCE_ROWS]
        reference = reference.take(np.sort(drawn))
    drawn = random.permutation(len(history))[: len(new)]
    answers = _answers(
        asked, new, history.take(np.sort(drawn)), reference, columns, n_classes, random
    )
    losses, rights = answers[None]
    harm = {source: losses - answers[source][0] for source in asked}

    def interval(differences: Reals) -> Interval:
        return mean_interval(
            differences, confidence=confidence, n_resamples=_N_RESAMPLES, random=random
        )

    found = {}
    for source in asked:
        others = [harm[other] for other in asked if other != source]
        found[source] = SourceInfluence(
            n_rows=int((new.sources == source).sum()),
            n_reference=len(reference),
            log_loss=interval(harm[source]),
            beyond_others=interval(harm[source] - np.mean(others, axis=0)) if others else None,
            accuracy=interval(rights - answers[source][1]),
            max_log_loss=MAX_LOG_LOSS,
        )
    return found


def is_harmful(influence: SourceInfluence) -> bool:
    """Whether a source surely costs more than is allowed, and as much more than the others."""
    compared = [influence.log_loss, influence.beyond_others]
    return all(
        interval.low > 0 and interval.value > influence.max_log_loss
        for interval in compared
        if interval is not None
    )


def sentence_of(influence: SourceInfluence) -> str:
    """Why a harmful source is condemned, and what to do."""
    loss = influence.log_loss
    return (
        f"Models that learn its {influence.n_rows:,} new rows lose {loss.value:.3f} nats, surely"
        f" more than {loss.low:.3f}, on each of {influence.n_reference:,} reference rows; expected"
        f" at most {influence.max_log_loss:g}. Ask its owner what changed."
    )


def _answers(
    asked: list[int],
    new: Rows,
    history: Rows,
    reference: Rows,
    columns: Columns,
    n_classes: int,
    random: np.random.RandomState,
) -> Mapping[int | None, tuple[Reals, Reals]]:
    """Mean loss and rightness of each reference row [r], by the source left out (None: nobody)."""
    everything: dict[int | None, Rows] = {None: new}
    everything.update({source: new.take(new.sources != source) for source in asked})
    total = {name: (np.zeros(len(reference)), np.zeros(len(reference))) for name in everything}
    for repeat in range(_REPEATS):
        folds = spread(reference.labels, _FOLDS, random)
        for fold in range(_FOLDS):
            held_out: Integers = np.flatnonzero(folds == fold)
            known = Rows.joined([history, reference.take(folds != fold)])
            rows = reference.take(held_out)
            for name, learned in everything.items():
                lesson = Rows.joined([learned, known])
                model = fit_surrogate(
                    lesson.features,
                    lesson.labels,
                    n_classes=n_classes,
                    is_image=columns.is_image,
                    seed=repeat * _FOLDS + fold,
                )
                table = model.log_probabilities(rows.features)
                loss, right = total[name]
                loss[held_out] -= table[np.arange(len(rows)), rows.labels] / _REPEATS
                right[held_out] += (table.argmax(axis=1) == rows.labels) / _REPEATS
    return total
