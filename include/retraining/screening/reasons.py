"""Why a row is held, in words: what a person reads who has to decide about it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from retraining.records import Pattern
from retraining.reviews import CONFIRMED
from retraining.screening.claims import SENTENCES
from retraining.screening.contrasts import Contrast
from retraining.screening.engine import Found, Judgement
from retraining.screening.finding import Finding
from retraining.screening.heads import all_heads
from retraining.screening.rows import Integers, RowTable
from retraining.screening.transplant import TEST_HOSTS
from retraining.spec import CategoryFeature, PipelineSpec

FAULT = "A value is missing, or is not what the pipeline file declares."
CONDEMNED_USER = "condemned_user"
_NOTABLE = 0.01  # share of trusted rows; a head that finds a row no odder gives no reason
_N_NEAREST = 5
_MAX_NAMED = 4  # columns of a pattern that a sentence names
_MIN_CARRIERS = 10  # rows that share values before a sentence says them: those of fewer are theirs
_SENTENCES = {
    **{head.name: head.sentence for head in all_heads()},
    **SENTENCES,
    CONFIRMED: "A reviewer confirmed it as poison; it is never trained on again.",
    CONDEMNED_USER: "Its user has far more odd rows than an honest one, so all of them go.",
}


_OF_PATTERN = "pattern_"


def is_evidence(reason: str) -> bool:
    """Whether a reason is about what a row would teach, and not about a fault of form."""
    judged = {head.name for head in all_heads()} | {CONFIRMED, CONDEMNED_USER}
    return reason in judged or reason.startswith(_OF_PATTERN)


def reason_of_pattern(number: int) -> str:
    """Under which name rows are quarantined that carry the pattern of that number, from 1."""
    return f"{_OF_PATTERN}{number}"


def reasons_of_held(judgement: Judgement) -> dict[str, Integers]:
    """Per head the places of held rows that it finds odd; each held row has a reason or more."""
    odd, judge = judgement.odd, judgement.judge
    by_head = judge.evidence.p_values_by_head(odd.scores)
    oddest = np.stack(list(by_head.values())).argmin(axis=0)
    return {
        name: odd.places[judgement.held & ((p_values <= _NOTABLE) | (oddest == number))]
        for number, (name, p_values) in enumerate(by_head.items())
    }


def sentence_of(
    finding: Found, pattern: Pattern, carriers: Mapping[str, int], spec: PipelineSpec
) -> str:
    """What a pattern does, who carries it, and what trusted rows with the same values say.

    The values of a pattern that few rows carry are not said: they stand in the record alone.

    Args:
        pattern: The finding in delivered values.
        carriers: New rows per batch.
    """
    parts = list(zip(pattern.columns, pattern.values, pattern.tolerances, strict=True))
    shared = max(sum(carriers.values()), finding.n_carriers) >= _MIN_CARRIERS
    ranged = isinstance(finding, Finding) and finding.ranged
    shown = [
        _value(name, value, tolerance if ranged else 0.0, spec) if shared else name
        for name, value, tolerance in parts[:_MAX_NAMED]
    ]
    more = len(pattern.columns) - len(shown)
    values = " with ".join(shown) + (f" and {more} more" if more else "")
    carried = [f"{count} rows of {name}" for name, count in carriers.items() if count]
    n_rows = f"{finding.n_carriers} sampled rows" if not carried else ", ".join(carried)
    if isinstance(finding, Contrast):
        return (
            f"{n_rows} that are {pattern.label} share {values} and little else: more than other"
            f" sources let one expect; of {finding.n_trusted} trusted rows with the same values,"
            f" {finding.n_trusted_of_label} are {pattern.label}."
        )
    return (
        f"{values} turns {round(finding.flips * TEST_HOSTS)} of {TEST_HOSTS} trusted rows of other"
        f" classes into {pattern.label}; {n_rows} carry it; of {finding.n_trusted} trusted rows"
        f" with the same values, {finding.n_trusted_of_label} are {pattern.label}."
    )


def _value(name: str, value: float, tolerance: float, spec: PipelineSpec) -> str:
    for feature in spec.features:
        if feature.name == name and isinstance(feature, CategoryFeature):
            return f"{name} = {feature.categories[round(value)]}"
    if tolerance:
        return f"{name} from {value - tolerance:.6g} to {value + tolerance:.6g}"
    return f"{name} = {value:.6g}"


class Explainer:
    """Writes scores and sentences for the quarantined rows of one judgement.

    Args:
        rows: That were judged [n].
        trusted_ids: Row ids of the trusted rows, in the order of the pool.
        patterns: Reason of each found pattern to its sentence.
    """

    def __init__(
        self,
        judgement: Judgement,
        rows: RowTable,
        trusted_ids: Sequence[str],
        patterns: Mapping[str, str],
    ) -> None:
        self._judgement = judgement
        self._rows = rows
        self._trusted_ids = np.asarray(trusted_ids, dtype=object)
        self._sentences = _SENTENCES | dict(patterns)

    @staticmethod
    def plain(reasons: Sequence[str]) -> str:
        """Sentences for reasons that no judgement gave."""
        return " ".join(_SENTENCES[name] for name in reasons)

    def explain(self, places: Integers, reasons: Sequence[Sequence[str]]) -> pd.DataFrame:
        """Scores, explanation and nearest trusted rows of some rows [m].

        Args:
            places: Among the judged rows; -1 for a row that was not judged. Scores are known of odd
                rows only.
        """
        explanation = [" ".join(self._sentences[name] for name in names) for names in reasons]
        nearest = [""] * len(places)
        row_of = {int(place): row for row, place in enumerate(places) if place >= 0}
        for place, sentence, names in self._compared(places[places >= 0]):
            explanation[row_of[place]] += sentence
            nearest[row_of[place]] = names
        frame = pd.DataFrame({"explanation": explanation, "nearest_trusted": nearest})
        odd, judge = self._judgement.odd, self._judgement.judge
        columns: dict[str, Any] = {"evidence": self._judgement.order[odd.places]}
        columns |= {"p_value": self._judgement.p_value}
        columns |= {name: odd.scores[:, number] for number, name in enumerate(judge.names)}
        known = pd.DataFrame(columns, index=odd.places).astype(np.float64).round(6)
        return frame.join(known.reindex(places).reset_index(drop=True))

    def _compared(self, places: Integers) -> Iterator[tuple[int, str, str]]:
        """Of each row the place, what the trusted rows most like it say, and their ids."""
        opinions = self._judgement.judge.opinions
        wanted = np.zeros(len(self._rows), dtype=bool)
        wanted[places] = True
        for of, part in self._rows.parts(wanted) if len(places) else ():
            rows = part.take(wanted[of])
            near = opinions.neighbours.nearest_trusted(rows, _N_NEAREST)
            labels = opinions.pool.rows.labels[opinions.n_sample :][near]
            n_other = (labels != rows.labels[:, None]).sum(axis=1)
            for place, other, trusted in zip(
                of[wanted[of]], n_other, self._trusted_ids[near], strict=True
            ):
                yield (
                    int(place),
                    f" Of the {near.shape[1]} trusted rows most like it, {other} have another"
                    " label.",
                    "; ".join(trusted),
                )
