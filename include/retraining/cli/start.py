"""`init`: from a newcomer's own files to a first run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retraining.cli.common import app, output, settings_of


@app.command()
def init(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the model, such as spam_filter.")],
    inbox: Annotated[
        Path,
        typer.Option(help="Folder with one folder per source: <source>/2026-W07.parquet or .csv."),
    ],
    reference: Annotated[Path, typer.Option(help="Vetted rows, .parquet or .csv.")],
    label: Annotated[str, typer.Option(help="Column that holds the truth.")],
    holdout: Annotated[
        Path | None,
        typer.Option(help="More vetted rows, to judge with; else cut from the reference set."),
    ] = None,
    sign: Annotated[
        bool, typer.Option("--sign", help="Sign the files as their providers would, for a trial.")
    ] = False,
) -> None:
    """Draft a pipeline file from your own files, with keys, and tell what to look at."""
    from retraining.init_spec import init_pipeline

    made = init_pipeline(
        settings_of(ctx),
        name,
        inbox=inbox,
        reference=reference,
        label=label,
        holdout=holdout,
        sign=sign,
    )
    console = output()
    n_marks = made.path.read_text(encoding="utf-8").count("# review:")
    console.print(f"{made.path}: a draft with {n_marks} lines to review.", markup=False)
    for note in made.notes:
        console.print(f"  {note}", markup=False)
    console.print("Next:", markup=False)
    if not made.signed:
        console.print(
            "  have each provider sign its files: retraining sign-batch"
            " (for a trial, init --sign does it)"
        )
    console.print(
        f"  retraining check {name}\n  retraining run {name} --week {made.first_week}", markup=False
    )
