"""What was delivered of a day, and what of it counts for nothing: counted, and line by line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from retraining.records import Refusal

LINE_COLUMNS = ["role", "file", "line", "row_id", "reason"]


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """Predictions or labels of a day, as they could be read.

    Attributes:
        frame: Rows without fault, each row id once.
        n_faulty: Rows that are not what the pipeline file declares.
        faults: Rows that are not in `frame`, by reason.
        lines: Of these, each with file, line, row_id and reason.
        refused: Files of which nothing was used, and `missing` when there was none.
    """

    frame: pd.DataFrame
    n_faulty: int
    faults: Mapping[str, int]
    lines: pd.DataFrame
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class SetAside:
    """What counts for nothing.

    Attributes:
        counts: Lines and refused files by reason; those that could not be read name their role.
        lines: `LINE_COLUMNS` of every line; of one that could be read only the row id is known.
    """

    counts: dict[str, int]
    lines: pd.DataFrame


def set_aside(
    predictions: Delivered, labels: Delivered, read: Sequence[tuple[str, str, Sequence[str]]]
) -> SetAside:
    """Put together what could not be read, and what was read and is about nothing.

    Args:
        read: Role, reason and row ids of the latter.
    """
    counts, parts = Counter[str](), []
    for role, delivered in (("predictions", predictions), ("labels", labels)):
        counts.update({f"{role}:{reason}": n for reason, n in delivered.faults.items()})
        counts.update(f"{role}:refused:{refusal.code}" for refusal in delivered.refused)
        parts.append(delivered.lines.assign(role=role))
    for role, reason, rows in read:
        if rows:
            counts[reason] += len(rows)
            parts.append(pd.DataFrame({"role": role, "row_id": list(rows), "reason": reason}))
    together = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    return SetAside(dict(sorted(counts.items())), together.reindex(columns=LINE_COLUMNS))
