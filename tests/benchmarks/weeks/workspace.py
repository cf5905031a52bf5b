"""A season as a workspace: keys, pipeline file, pinned data, signed deliveries."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from retraining.digests import Digest
from retraining.keyring import create_team_keys, provider_key, sign_delivery
from retraining.settings import REPOSITORY, Settings
from tests.benchmarks.weeks.season import SOURCES, Season, pipeline, week_name

TRAINER = REPOSITORY / ".venv-trainer" / "bin" / "python"


def lay_out(home: Path, season: Season, trainer: Path = TRAINER) -> Settings:
    """Make keys, the pipeline file and its pinned data in an empty folder; deliver nothing."""
    pipelines = home / "pipelines"
    pipelines.mkdir(parents=True)
    settings = Settings(
        home=home,
        store=str(home / "store"),
        pipelines=pipelines,
        keys=home / "keys",
        root_key=home / "keys" / "root.pub.json",
        memory=home / "memory",
        trainer_python=trainer,
        MLFLOW_TRACKING_URI="",
    )
    create_team_keys(settings, providers=SOURCES)
    spec = pipeline(season)
    for role in ("reference", "holdout"):
        path = home / "data" / f"{role}.parquet"
        _write(path, getattr(season, role))
        spec[role] = {
            "uri": f"data/{role}.parquet",
            "digest": str(Digest.of(path.read_bytes())),
        }
    text = yaml.safe_dump(spec, sort_keys=False)
    (pipelines / f"{spec['model']}.yaml").write_text(text, encoding="utf-8")
    return settings


def deliver(settings: Settings, season: Season, number: int) -> None:
    """Write and sign what each source delivers in a week."""
    for source, rows in season.weeks[number].items():
        folder = settings.home / "inbox" / source / week_name(number)
        _write(folder / "rows.parquet", rows)
        sign_delivery(
            folder,
            key=provider_key(settings.keys, source),
            dataset=source,
            batch=week_name(number),
            sequence=number + 1,
        )


def _write(path: Path, rows: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), path)
