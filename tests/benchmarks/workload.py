"""What is measured: the demo's spam filter, with as many rows a week as asked for.

Rows are drawn from the demo's own pool with replacement, get fresh ids, and every number that is
not zero moves by about two percent, so that no two rows are the same. Sources, features, training
and steps are those of `spam_filter.yaml`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from demo.cut_data import DATA, SPAM_FEATURES, SPAM_FILTER, WEEKS
from demo.layout import lay_out
from retraining.keyring import provider_key, sign_delivery
from retraining.settings import REPOSITORY
from retraining.spec import load_spec
from tests.fixtures.workspace import Workspace

WEEK = WEEKS[0]
SOURCES = tuple(sorted(SPAM_FILTER.shares))

_MODEL = "spam_filter"
_NOISE = 0.02  # standard deviation of the factor's logarithm
_DELTA = 1e-5  # the demo's; lower where there are so many rows that it would be refused


@dataclass(frozen=True)
class Workload:
    """One model of a workspace, with one week of rows.

    Attributes:
        rows: Delivered, all sources together.
    """

    workspace: Workspace
    rows: int

    @property
    def model(self) -> str:
        """Name of the pipeline file."""
        return self.workspace.model


def make_bench_workspace(home: Path, *, trainer_python: Path | None = None) -> Workspace:
    """A workspace with keys, reference set and holdout, and no model yet.

    Args:
        trainer_python: Another trainer than .venv-trainer, for the benchmark's own test.
    """
    settings = lay_out(home, models=[_MODEL], poison_week=None)
    if trainer_python is not None:
        settings = settings.model_copy(update={"trainer_python": trainer_python})
    pipelines = settings.home / "pipelines"
    pipelines.mkdir(exist_ok=True)
    settings = settings.model_copy(update={"pipelines": pipelines})
    return Workspace(settings.home, _MODEL, settings)


def add_workload(workspace: Workspace, rows: int, *, linear: bool = False) -> Workload:
    """Add a model whose week has that many rows, delivered and signed.

    Args:
        linear: A linear model instead of the demo's: all that the NumPy trainer can train.
    """
    model = f"{_MODEL}_{rows}"
    workspace = replace(workspace, model=model)
    raw = yaml.safe_load((REPOSITORY / "include" / "pipelines" / f"{_MODEL}.yaml").read_text())
    del raw["feedback"]  # users, whose batch is closed and not delivered
    raw["sources"] = [source for source in raw["sources"] if source["name"] in SOURCES]
    for source in raw["sources"]:
        uri = f"inbox/{model}/{source['name']}/{{week}}"
        source |= {"uri": uri, "max_bytes": 10**10, "max_rows": rows, "min_rows": 1}
    if linear:
        raw["training"]["architecture"] = {"kind": "linear"}
    workspace.spec_file.write_text(yaml.safe_dump(raw | {"model": model}, sort_keys=False))
    # The limits are wide, so that every step runs whatever the luck of the draw: seconds are
    # measured here, not verdicts.
    wide = {"max_quarantined_share_per_source": 0.5, "max_quarantined_share": 0.5, "min_rows": 1}
    training = {"delta": min(_DELTA, 0.1 / rows), "limit_seconds": 3600}
    limits = {"accuracy": {"min": 0.4}, "recall": {"min": 0}, "precision": {"min": 0}}
    workspace.edit_spec({"screening": wide, "training": training, "gate": {"limits": limits}})
    for source, delivered in make_week(workspace, rows).items():
        _deliver(workspace, source, delivered)
    return Workload(workspace, rows)


def make_week(workspace: Workspace, rows: int) -> dict[str, pd.DataFrame]:
    """Rows of each source, in the demo's shares; the same for the same number."""
    pool = pd.read_parquet(DATA / _MODEL / "pool.parquet")
    bounds = {f.name: f for f in load_spec(workspace.spec_file).features if f.kind == "number"}
    random = np.random.default_rng(rows)
    week, left = {}, rows
    for number, source in enumerate(SOURCES, start=1):
        n_rows = left if number == len(SOURCES) else round(rows * SPAM_FILTER.shares[source])
        left -= n_rows
        own = pool[pool["source"] == source].drop(columns=["week", "source"])
        drawn = own.iloc[random.integers(len(own), size=n_rows)].reset_index(drop=True)
        drawn[SPAM_FILTER.row_id] = [f"{source}-{number:07d}" for number in range(n_rows)]
        for name in SPAM_FEATURES:
            moved = drawn[name] * np.exp(random.normal(0, _NOISE, n_rows))
            whole = drawn[name].dtype.kind == "i"
            moved = (moved.round() if whole else moved).clip(bounds[name].min, bounds[name].max)
            drawn[name] = moved.astype(drawn[name].dtype)
        week[source] = drawn
    return week


def _deliver(workspace: Workspace, source: str, rows: pd.DataFrame) -> None:
    folder = workspace.folder(source, WEEK)
    folder.mkdir(parents=True)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), folder / "rows.parquet")
    key = provider_key(workspace.settings.keys, source)
    sign_delivery(folder, key=key, dataset=source, batch=WEEK, sequence=1)
