"""`monitor`: a day of the champion, measured."""

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
    from rich.console import Console

    from retraining.records import MonitoredValue, MonitoringReport

_FEATURE = "feature_drift:"
_COLOURS = {"ok": "green", "breached": "red", "insufficient": "dim"}


@app.command()
def monitor(
    ctx: typer.Context,
    spec: SpecArgument,
    day: Annotated[str, typer.Option("--day", help="UTC, such as 2026-10-18.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the records.")] = "by hand",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Measure a day of the champion: its answers against the labels, and how far inputs moved.

    Days are measured in order, each once. Messages are sent by the DAG, not here.
    Exit status: 0 measured (whatever the numbers are) or nothing to do, 1 something broke.
    """
    from retraining.errors import NothingToDo

    settings, loaded = open_spec(settings_of(ctx), spec)
    told = errors() if as_json else output()
    steps = open_steps(settings, lambda line: told.print(f"  {line}", markup=False, style="dim"))
    try:
        result = steps.monitor(loaded.model, day, reason=reason)
    except NothingToDo as nothing:
        if as_json:
            print_json({"model": loaded.model, "day": day, "nothing_to_do": str(nothing)})
        else:
            told.print(str(nothing), markup=False)
        return
    report = result.report
    if as_json:
        print_json({"attestation": result.attestation.digest} | report.model_dump(mode="json"))
    else:
        _print_day(told, report)


def _print_day(console: Console, report: MonitoringReport) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("value", "measured", "rows", "acceptable", "state")
    quiet = [v for v in report.values if v.state == "ok" and v.name.startswith(_FEATURE)]
    for value in report.values:
        if value in quiet:
            continue
        state = f"[{_COLOURS[value.state]}]{value.state}[/]"
        name = escape(value.name)  # a column's name may look like markup
        table.add_row(name, _measured(value), str(value.n_rows), _acceptable(value), state)
    console.print(table)
    if quiet:
        largest = max(quiet, key=lambda v: v.measured.value if v.measured else 0.0)
        console.print(
            f"{len(quiet)} features are ok and not shown; most moved"
            f" {largest.name.removeprefix(_FEATURE)}, {_measured(largest)}. All: --json.",
            markup=False,
        )
    console.print(
        f"{report.model} version {report.version}, {report.day}: {report.n_predictions} answers,"
        f" {report.n_labelled} labelled",
        markup=False,
    )
    aside = ", ".join(f"{reason} {count}" for reason, count in report.set_aside.items())
    if aside:
        console.print(f"set aside: {aside}", markup=False)
    for incident in report.incidents:
        console.print(
            f"incident {incident.name} since {incident.opened}: {incident.observed}; allowed:"
            f" {incident.allowed}",
            markup=False,
            style="red",
        )
        console.print(f"  {incident.next_step}", markup=False)


def _measured(value: MonitoredValue) -> str:
    found = value.measured
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})" if found else "-"


def _acceptable(value: MonitoredValue) -> str:
    limits = [f"at least {value.min:.3f}"] if value.min is not None else []
    limits += [f"at most {value.max:.3f}"] if value.max is not None else []
    return ", ".join(limits) or "-"
