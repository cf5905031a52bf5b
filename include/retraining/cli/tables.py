"""`screen-table`: judge a table of numbers without a pipeline, a store or keys."""

from __future__ import annotations

import re
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

    from retraining.screening.engine import Effort, judge_rows
    from retraining.screening.rows import Rows
    from retraining.screening.shares import condemned_users

    judged = pd.read_parquet(table)
    names = [name for name in judged.columns if _FEATURE.fullmatch(str(name))]
    vetted = _rows(pd.read_parquet(reference), names, reference).nobodys()
    trusted = vetted
    if history is not None and len(old := pd.read_parquet(history)):
        trusted = Rows.joined([_rows(old, names, history), vetted])
    rows = _rows(judged, names, table)
    found = judge_rows(
        rows,
        trusted,
        columns=_columns(names, kind),
        n_classes=int(max(rows.labels.max(), trusted.labels.max())) + 1,
        false_discovery_rate=false_discovery_rate,
        effort=Effort(),
    )
    held = found.purged | np.isin(
        rows.users, condemned_users(rows.users, found.p_value, found.purged)
    )
    frame = pd.DataFrame(
        {"row_id": judged["row_id"], "score": found.evidence, "held": held.astype(int)}
    )
    frame.to_csv(out, index=False, lineterminator="\n")
    errors().print(
        f"{len(rows)} rows against {len(trusted)} trusted ones: {int(held.sum())} held,"
        f" {len(found.findings)} patterns found.",
        markup=False,
    )


def _rows(frame: pd.DataFrame, names: list[str], path: Path) -> Rows:
    import numpy as np

    from retraining.errors import ConfigError
    from retraining.screening.rows import Rows

    if missing := sorted({"row_id", "label", *names} - set(frame.columns)):
        raise ConfigError(f"{path} has no columns {missing}; it needs those of the other tables.")
    features = frame[names].to_numpy(dtype=np.float32)
    if not names or not np.isfinite(features).all():
        raise ConfigError(f"{path}: expected finite numbers in columns f0, f1 and on.")
    nobody = np.full(len(frame), -1, dtype=np.int64)
    who = [_numbered(frame[name]) if name in frame.columns else nobody for name in _WHO]
    return Rows(features, frame["label"].to_numpy(dtype=np.int64), *who)


def _numbered(names: pd.Series[Any]) -> Integers:
    """A number for each name, in their order."""
    import numpy as np
    import pandas as pd

    return pd.factorize(names, sort=True)[0].astype(np.int64)


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
