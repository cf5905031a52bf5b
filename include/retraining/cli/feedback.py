"""`feedback`: a week of what users say, closed into one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from retraining.cli.common import (
    SpecArgument,
    app,
    errors,
    open_spec,
    open_steps,
    output,
    print_json,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from retraining.records import FeedbackReport


@app.command()
def feedback(
    ctx: typer.Context,
    spec: SpecArgument,
    week: Annotated[str, typer.Option("--week", help="ISO week, such as 2026-W41.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the records.")] = "by hand",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Close a week of users' feedback into one signed batch, which the weekly run takes.

    Needs the pipeline's key and the source's. Exit status: 0 closed or nothing to do, 1 something
    broke.
    """
    from retraining.errors import NothingToDo

    settings, loaded = open_spec(settings_of(ctx), spec)
    told = errors() if as_json else output()

    def log(line: str) -> None:
        if not line.startswith("feedback "):  # what was concluded is said below
            told.print(f"  {line}", markup=False, style="dim")

    steps = open_steps(settings, log)
    try:
        result = steps.close_feedback(loaded.model, week, reason=reason)
    except NothingToDo as nothing:
        if as_json:
            print_json({"model": loaded.model, "week": week, "nothing_to_do": str(nothing)})
        else:
            told.print(str(nothing), markup=False)
        return
    report = result.report
    if as_json:
        print_json({"attestation": result.attestation.digest} | report.model_dump(mode="json"))
    else:
        _print_batch(told, report)
        told.print(f"attestation {result.attestation.digest}", markup=False, style="dim")


def _print_batch(console: Console, report: FeedbackReport) -> None:
    console.print(
        f"{report.model} {report.week}: {report.n_applied} items closed as batch {report.sequence},"
        f" by {report.n_votes} votes of {report.n_lines} lines.",
        markup=False,
    )
    for title, counts in (
        ("contradict the champion", report.changes),
        ("held for review", report.held),
        ("lines set aside", report.set_aside),
        ("lines waiting", report.waiting),
        ("users", report.users),
    ):
        if counts:
            console.print(f"  {title}: {_named(counts)}", markup=False)
    for refused in report.refused:
        console.print(f"  refused: {refused.sentence}", markup=False, style="yellow")


def _named(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
