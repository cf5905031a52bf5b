"""`screen-table`: judge a table of numbers without a pipeline, a store or keys."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from retraining.cli.common import app, errors

if TYPE_CHECKING:
    import pandas as pd

    from retraining.screening.rows import Columns, Integers, Rows

_FEATURE = re.compile(r"f\d+")
_WHO = ("source", "week", "user")


@app.command("screen-table")
def screen_table(
    table: Annotated[
        Path, typer.Argument(help="Parquet: row_id, f0 f1 ..., label; source, week, user if known.")
    ],
    reference: Annotated[Path, typer.Argument(help="The same, of rows that somebody vetted.")],
    out: Annotated[Path, typer.Option(help="CSV to write: row_id, score, held.")],
    history: Annotated[
        Path | None, typer.Option(help="The same as TABLE, of rows accepted in earlier weeks.")
    ] = None,
    kind: Annotated[
        Literal["tabular", "image"],
        typer.Option(help="image: square, pixels row by row, one or three channels last."),
    ] = "tabular",
    false_discovery_rate: Annotated[float, typer.Option(min=0.001, max=0.5)] = 0.1,
) -> None:
    """Judge the rows of a table as a pipeline's screening does, and say which it would hold.

    For studies and benchmarks: nothing is signed, stored or decided.
    """
    import numpy as np
    import pandas as pd

    from retraining.errors import ConfigError
    from retraining.screening.engine import Effort, judge_rows
    from retraining.screening.rows import Rows
    from retraining.screening.stored import RowFile, StoredTable

    file = RowFile(table)
    if not len(file):
        raise ConfigError(f"{table} has no rows to judge.")
    names = [name for name in _columns_of(table) if _FEATURE.fullmatch(name)]
    vetted = _rows(pd.read_parquet(reference), names, reference, {}).nobodys()
    trusted = vetted
    if history is not None and len(old := pd.read_parquet(history)):
        weeks = sorted(old["week"].unique()) if "week" in old.columns else []
        in_order: dict[str, dict[Any, int]] = {"week": {name: n for n, name in enumerate(weeks)}}
        trusted = Rows.joined([_rows(old, names, history, in_order), vetted])
    numbers: dict[str, dict[Any, int]] = {}
    rows = StoredTable([(file, lambda b: _rows(b.to_pandas(), names, table, numbers))])
    largest = max(int(file.column("label").max()), int(trusted.labels.max()))
    found = judge_rows(
        rows,
        trusted,
        columns=_columns(names, kind),
        n_classes=largest + 1,
        false_discovery_rate=false_discovery_rate,
        effort=Effort(),
        told=partial(_progress, n_rows=len(rows)),
    )
    held = found.purged
    held[found.of_condemned] = True
    with out.open("w", encoding="utf-8", newline="") as sink:
        for part, batch in file.batches(columns=["row_id"]):
            shown = {"row_id": batch["row_id"].to_pandas(), "score": found.order[part]}
            frame = pd.DataFrame(shown | {"held": held[part].astype(np.int8)})
            frame.to_csv(sink, index=False, header=part.start == 0, lineterminator="\n")
    errors().print(
        f"{len(rows)} rows against {len(trusted)} trusted ones: {int(held.sum())} held,"
        f" {len(found.findings)} patterns found.",
        markup=False,
    )


def _progress(n_judged: int, *, n_rows: int) -> None:
    errors().print(f"{n_judged:,} of {n_rows:,} rows judged.", markup=False)


def _columns_of(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(map(str, pq.read_schema(path).names))


def _rows(
    frame: pd.DataFrame, names: list[str], path: Path, numbers: dict[str, dict[Any, int]]
) -> Rows:
    """Rows of a frame; `numbers` remembers sources, weeks and users from one part to the next."""
    import numpy as np

    from retraining.errors import ConfigError
    from retraining.screening.rows import Rows

    if missing := sorted({"row_id", "label", *names} - set(frame.columns)):
        raise ConfigError(f"{path} has no columns {missing}; it needs those of the other tables.")
    features = frame[names].to_numpy(dtype=np.float32)
    if not names or not np.isfinite(features).all():
        raise ConfigError(f"{path}: expected finite numbers in columns f0, f1 and on.")
    nobody = np.full(len(frame), -1, dtype=np.int64)
    who = [
        _numbered(frame[name], numbers.setdefault(name, {})) if name in frame.columns else nobody
        for name in _WHO
    ]
    return Rows(features, frame["label"].to_numpy(dtype=np.int64), *who)


def _numbered(names: pd.Series[Any], known: dict[Any, int]) -> Integers:
    """A number for each name, as they come."""
    import numpy as np
    import pandas as pd

    codes, distinct = pd.factorize(names)
    numbers = np.array([known.setdefault(name, len(known)) for name in distinct], dtype=np.int64)
    return numbers[codes] if len(numbers) else np.full(len(names), -1, dtype=np.int64)


def _columns(names: list[str], kind: str) -> Columns:
    from retraining.errors import ConfigError
    from retraining.screening.rows import Columns

    if kind == "tabular":
        return Columns.of_table(names)
    for channels in (1, 3):
        side = round((len(names) / channels) ** 0.5)
        if side * side * channels == len(names):
            return Columns.of_image("pixel", height=side, width=side, channels=channels)
    raise ConfigError(f"{len(names)} columns are no square image of one or three channels.")
