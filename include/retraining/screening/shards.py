"""A week in shards: other processes ask about a part of its rows each, and the answers are merged.

Every process fits the same judge, from the same sample, and asks only about its own rows; whoever
merges takes the answers instead of asking again. So the record is the same, whoever asked.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from retraining.screening.judge import Answers

_PARTS = "parts"  # per part: its first place, how many rows it has, and how many of them are odd


def save_answers(answers: Mapping[int, Answers], path: Path) -> None:
    """Write the answers about some parts, by their first places, as plain arrays."""
    parts = [(first, len(part.order), len(part.places)) for first, part in answers.items()]
    arrays = vars(Answers.joined(list(answers.values()))) if answers else {}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays | {_PARTS: np.array(parts, dtype=np.int64).reshape(-1, 3)}, path)


def load_answers(path: Path) -> dict[int, Answers]:
    """Read what `save_answers` wrote."""
    arrays = load_file(path)
    found, row, odd = {}, 0, 0
    for first, n_rows, n_odd in arrays.pop(_PARTS):
        of_rows, of_odd = slice(row, row + int(n_rows)), slice(odd, odd + int(n_odd))
        found[int(first)] = Answers(
            **{
                name: array[of_rows if name == "order" else of_odd]
                for name, array in arrays.items()
            }
        )
        row, odd = of_rows.stop, of_odd.stop
    return found
