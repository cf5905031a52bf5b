"""`check`, `champions` and `predict`: a pipeline file, its champions, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retraining.cli.common import (
    SpecArgument,
    app,
    open_spec,
    open_steps,
    output,
    print_json,
    settings_of,
    short,
    verdict_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from retraining.models import Model
    from retraining.registry import Registry
    from retraining.settings import Settings
    from retraining.spec import PipelineSpec
    from retraining.store import Store


@app.command()
def check(
    ctx: typer.Context,
    spec: Annotated[
        str | None,
        typer.Argument(metavar="[SPEC]", help="Name or path; all pipeline files when left out."),
    ] = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema, for editors.")
    ] = False,
) -> None:
    """Check a pipeline file: each mistake with field, what was found and what is allowed.

    Where there is a store it also says whether an owner has to sign the file first.
    """
    from retraining.errors import SpecError
    from retraining.spec import PipelineSpec, find_specs

    if json_schema:
        print_json(PipelineSpec.model_json_schema())
        return
    settings = settings_of(ctx)
    names = [spec] if spec else [str(path) for path in find_specs(settings.pipelines)]
    if not names:
        raise SpecError(f"{settings.pipelines}: found no pipeline file (*.yaml).")
    mistakes = []
    for name in names:
        try:
            of_file, loaded = open_spec(settings, name)
        except SpecError as error:
            mistakes.append(str(error))
            continue
        classes, columns = len(loaded.label.classes), len(loaded.features)
        sources = ", ".join(source.name for source in loaded.sources)
        output().print(
            f"{loaded.model}: right. {columns} features, {classes} classes, sources {sources}.",
            markup=False,
        )
        if unsigned := _unsigned(of_file, loaded):
            output().print(f"warning: {unsigned}", markup=False, style="yellow")
    if mistakes:
        raise SpecError("\n".join(mistakes))


def _unsigned(settings: Settings, spec: PipelineSpec) -> str:
    """What an owner has to sign first; empty when nothing, or where nothing was ever set up."""
    from retraining.cli.verification import open_signed
    from retraining.errors import RetrainingError

    if not settings.root_key.exists():
        return ""
    try:
        open_signed(settings, None, None)  # so that none is made
        return open_steps(settings, lambda _line: None).unsigned_spec(spec)
    except RetrainingError as error:
        return f"whether an owner has to sign it could not be seen: {error}"


@app.command()
def champions(
    ctx: typer.Context,
    spec: SpecArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List a model's concluded weeks and rollbacks, and mark the champion."""
    from rich.table import Table

    settings, loaded = open_spec(settings_of(ctx), spec)
    _, registry = _open_registry(settings, loaded.model)
    if as_json:
        print_json(
            [{"digest": k.digest} | k.record.model_dump(mode="json") for k in registry.links]
        )
        return
    table = Table("entry", "week", "attempt", "verdict", "version", "model", "rows", "quarantined")
    convicted = registry.convicted
    for link in registry.links:
        entry = link.record
        promoted, changed = entry.verdict == "PROMOTE", entry.verdict in ("PROMOTE", "ROLLBACK")
        mark = ""
        if promoted and entry.version in convicted:
            mark = " (convicted)"
        elif promoted and entry.version == registry.version:
            mark = " (champion)"
        table.add_row(
            f"{entry.sequence} {short(link.digest)}",
            entry.week,
            str(entry.attempt),
            verdict_of(entry),
            str(entry.version) if changed else "-",
            (short(entry.champion) if changed else "-") + mark,
            str(sum(batch.n_rows for batch in entry.batches)),
            str(sum(batch.n_quarantined for batch in entry.batches)),
        )
    console = output()
    if registry.links:
        console.print(table)
    else:
        console.print(f"{loaded.model} has no concluded week yet.", markup=False)


@app.command()
def predict(
    ctx: typer.Context,
    spec: SpecArgument,
    file: Annotated[Path, typer.Argument(help="Rows as .parquet or .csv; labels are not needed.")],
    out: Annotated[
        Path | None, typer.Option(help="Write .csv or .parquet here instead of CSV on stdout.")
    ] = None,
) -> None:
    """Let the champion classify the rows of a file."""
    from retraining.errors import ConfigError
    from retraining.models import load_model

    settings, loaded = open_spec(settings_of(ctx), spec)
    store, registry = _open_registry(settings, loaded.model)
    if registry.champion is None:
        raise ConfigError(
            f"No version of {loaded.model} serves. Promote one: `retraining run {loaded.model}"
            " --week …`."
        )
    rows = _read_rows(file, loaded)
    predicted = _predictions(load_model(store, registry.champion), rows, loaded)
    if out is None:
        typer.echo(predicted.to_csv(index=False), nl=False)
    elif out.suffix == ".parquet":
        predicted.to_parquet(out, index=False)
    else:
        predicted.to_csv(out, index=False)


def _predictions(model: Model, rows: pd.DataFrame, spec: PipelineSpec) -> pd.DataFrame:
    """Row id where there is one, predicted class, and the probability of each class."""
    import pandas as pd

    probabilities = model.predict(rows)
    columns = {spec.row_id: rows[spec.row_id]} if spec.row_id in rows.columns else {}
    classes = pd.array(list(model.classes), dtype="str")
    return pd.DataFrame(
        columns
        | {"prediction": classes[probabilities.argmax(axis=1)]}
        | {f"p_{name}": probabilities[:, i] for i, name in enumerate(model.classes)}
    )


def _read_rows(file: Path, spec: PipelineSpec) -> pd.DataFrame:
    """Read a file of the user's own, with the dialect of the first CSV source of the spec."""
    import pandas as pd
    import pyarrow as pa

    from retraining.errors import BatchRefusedError
    from retraining.spec import CsvDialect, CsvFormat

    declared = [s.format.csv for s in spec.sources if isinstance(s.format, CsvFormat)]
    dialect = declared[0] if declared else CsvDialect()
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        return pd.read_csv(
            file,
            sep=dialect.delimiter,
            quotechar=dialect.quote,
            encoding=dialect.encoding,
            decimal=dialect.decimal,
            dtype={spec.row_id: str},
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise BatchRefusedError("unreadable", f"{file} cannot be read: {reason}") from error


def _open_registry(settings: Settings, model: str) -> tuple[Store, Registry]:
    from retraining.chains import registry_chain
    from retraining.evidence import public_key_of
    from retraining.registry import HeadMemory, Registry
    from retraining.store import open_store
    from retraining.trust_history import TrustHistory

    store = open_store(settings.store, must_exist=True)
    trust = TrustHistory.load(store, public_key_of(settings.root_key, "root"))
    registry = Registry(model, tuple(registry_chain(store, trust, model).load()))
    HeadMemory(settings.memory).check(registry)
    return store, registry
