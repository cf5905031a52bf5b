"""Sources are judged too, not only rows: what do all rows of one source show together?

`difference` tells whether a source's new rows look like trusted ones, `influence` what models lose
by learning them, `accumulation` what the source adds up to over the whole window. The first is
only put on record; a source that the second or the third condemns is quarantined whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from retraining.records import SourceEvidence
from retraining.screening.rows import Columns, Integers, Rows, RowTable, drawn, rows_at
from retraining.screening.sources import accumulation, influence
from retraining.screening.sources.accumulation import Accumulation, accumulation_of
from retraining.screening.sources.difference import difference_of
from retraining.screening.sources.influence import influences_of

HARMFUL, ACCUMULATED = "source_harmful", "source_accumulated"

_MOST_NEW_ROWS = 4000  # that models learn from, or do not
_MOST_WINDOW_ROWS = 12_000
_FAMILY_ERROR = 0.02  # chance that any honest source of a week seems to harm


@dataclass(frozen=True)
class SourcesJudgement:
    """What was found about all sources of a week.

    Attributes:
        evidence: By source, as numbered in the rows.
        taught: Of sources that accumulation condemns, the places in the window of the rows that
            nobody else teaches, ascending: those of accepted weeks are to be purged.
    """

    evidence: Mapping[int, SourceEvidence]
    taught: Integers


def judge_sources(
    new: Rows,
    history: Rows,
    reference: Rows,
    window: RowTable | None,
    *,
    columns: Columns,
    n_classes: int,
    spared: int | None = None,
) -> SourcesJudgement:
    """Judge every source that delivered new rows; the same for the same input on one machine.

    Args:
        new: Rows of the week as delivered, or some of them, drawn whoever delivered them. Rows of
            source -1 are learned from and condemn nobody: a reviewer vouched for them.
        history: The same of the accepted rows of earlier weeks; may be empty.
        reference: Vetted rows.
        window: All accepted rows of earlier weeks and all new ones; None without a history.
        spared: A source that is put on record and not condemned: users' feedback contradicts the
            others by its nature, and `feedback_effect` judges it.
    """
    # One thread: how many there are must not change the order in which sums are added up.
    with threadpool_limits(limits=1):
        names = [int(name) for name in np.unique(new.sources) if name >= 0]
        influences = influences_of(
            new.take(drawn(len(new), _MOST_NEW_ROWS)),
            history,
            reference,
            columns=columns,
            n_classes=n_classes,
            confidence=1 - _FAMILY_ERROR / max(len(names), 1),
        )
        places = drawn(0 if window is None else len(window), _MOST_WINDOW_ROWS)
        found = Accumulation.nothing()
        if window is not None:
            found = accumulation_of(
                rows_at(window, places), reference, columns=columns, n_classes=n_classes
            )
        trusted = Rows.joined([history, reference])
        evidence = {
            name: SourceEvidence(
                difference=difference_of(
                    new.take(new.sources == name),
                    history.take(history.sources == name),
                    trusted,
                    columns=columns,
                ),
                influence=influences.get(name),
                window=found.windows.get(name),
            )
            for name in names
        }
    evidence = {
        name: item if name == spared else _concluded(item) for name, item in evidence.items()
    }
    # Also of sources that deliver nothing this week: what they dripped is still in the window.
    guilty = [
        name
        for name, item in found.windows.items()
        if 0 <= name != spared and accumulation.adds_up(item)
    ]
    return SourcesJudgement(evidence=evidence, taught=places[found.taught_by(guilty)])


def _concluded(evidence: SourceEvidence) -> SourceEvidence:
    """The same with what follows from it, in words."""
    reasons: dict[str, str] = {}
    if evidence.influence is not None and influence.is_harmful(evidence.influence):
        reasons[HARMFUL] = influence.sentence_of(evidence.influence)
    if evidence.window is not None and accumulation.adds_up(evidence.window):
        reasons[ACCUMULATED] = accumulation.sentence_of(evidence.window)
    return evidence.model_copy(
        update={"condemned": tuple(reasons), "sentences": tuple(reasons.values())}
    )
