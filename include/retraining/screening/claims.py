"""Whose row is it? An id that stands in the holdout, or was used before, is not its own to use."""

from collections.abc import Collection, Sequence

from retraining.screening.result import BatchRows
from retraining.screening.rows import Mask
from retraining.spec import PipelineSpec

IN_HOLDOUT = "in_holdout"
DUPLICATE = "duplicate_row_id"
SENTENCES = {
    IN_HOLDOUT: "Its row id stands in the holdout, which is never trained on.",
    DUPLICATE: "Its row id was used before, in this week or in an accepted one.",
}
_TRUST = ("trusted", "known", "untrusted")


def claimed_ids(
    batches: Sequence[BatchRows],
    *,
    known: Collection[str],
    holdout: Collection[str],
    spec: PipelineSpec,
) -> list[dict[str, Mask]]:
    """Per batch the rows whose id is not theirs to use, by reason.

    Of several rows with one id the first keeps it, in order of trust, risk, week and name: else an
    untrusted source could knock out another's rows by copying their ids.
    """
    order = sorted(
        range(len(batches)),
        key=lambda number: (
            _TRUST.index(spec.source(batches[number].batch.source).trust),
            batches[number].risk_score,
            batches[number].batch.week,
            batches[number].batch.source,
        ),
    )
    taken = set(known)
    in_holdout = set(holdout)
    found: list[dict[str, Mask]] = [{} for _ in batches]
    for number in order:
        rows = batches[number].rows
        if rows is None:
            continue
        ids = rows.column(spec.row_id).astype(str)
        again = ids.isin(taken) | ids.duplicated(keep="first")
        found[number] = {
            IN_HOLDOUT: ids.isin(in_holdout).to_numpy(dtype=bool),
            DUPLICATE: again.to_numpy(dtype=bool),
        }
        taken.update(ids)
    return found
