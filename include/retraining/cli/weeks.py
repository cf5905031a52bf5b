"""`run` and `screen`: a week, or its first half, in this process."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

    from retraining.recording import StepResult
    from retraining.records import GateDecision, ScreeningReport
    from retraining.weekly import DecidedWeek, ScreenedWeek

EXIT_STATUS = {"PROMOTE": 0, "HOLD": 2, "REJECT": 3}
_CONCLUDED = re.compile(r"\[sha256:[0-9a-f]{64}\]$")  # one line per step, which we word ourselves

_EPOCH = "trainer: epoch "
_EPOCH_SECONDS = 2.0  # a line each is plenty

WeekOption = Annotated[str, typer.Option("--week", help="ISO week, such as 2026-W41.")]
LeaveOutOption = Annotated[
    list[str] | None,
    typer.Option("--leave-out", help="Source to leave out: NAME, or NAME@WEEK. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def run(
    ctx: typer.Context,
    spec: SpecArgument,
    week: WeekOption,
    leave_out: LeaveOutOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Decide, but neither promote nor record it.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; it stands in the records.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Run a week: ingest, provenance, screening, training, validation, gate, promotion.

    Exit status: 0 PROMOTE (or nothing to do), 2 HOLD, 3 REJECT, 1 something broke.
    """
    from retraining.errors import NothingToDo
    from retraining.weekly import run_week

    _check_week(week)
    settings, loaded = open_spec(settings_of(ctx), spec)
    told = errors() if as_json else output()
    steps = open_steps(settings, _log_to(told))
    try:
        outcome = run_week(
            steps,
            loaded.model,
            week,
            left_out=leave_out or [],
            dry_run=dry_run,
            reason=reason,
            on_step=_progress_to(told),
        )
    except NothingToDo as nothing:
        if as_json:
            print_json({"model": loaded.model, "week": week, "nothing_to_do": str(nothing)})
        else:
            told.print(str(nothing), markup=False)
        return
    decision = outcome.gate.report
    if as_json:
        print_json(_decided_json(outcome))
    else:
        digest = outcome.gate.attestation.digest
        _print_decision(told, decision, digest)
        if decision.verdict == "HOLD" and (commands := steps.commands_to_approve(digest)):
            told.print(f"  or approve it: {commands}", markup=False)
    raise typer.Exit(EXIT_STATUS[decision.verdict])


@app.command()
def screen(
    ctx: typer.Context,
    spec: SpecArgument,
    week: WeekOption,
    leave_out: LeaveOutOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Copy suspicious_samples.parquet and .csv into this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a week's rows, from ingest to screening; nothing is trained or decided.

    Exit status: 0 the rows can be trained on, 3 screening refuses the week, 1 something broke.
    """
    from retraining.errors import NothingToDo
    from retraining.weekly import screen_week

    _check_week(week)
    settings, loaded = open_spec(settings_of(ctx), spec)
    told = errors() if as_json else output()
    steps = open_steps(settings, _log_to(told))
    try:
        outcome = screen_week(
            steps,
            loaded.model,
            week,
            left_out=leave_out or [],
            dry_run=True,
            reason="retraining screen",
            on_step=_progress_to(told),
        )
    except NothingToDo as nothing:
        told.print(str(nothing), markup=False)
        return
    report = outcome.screening.report
    suspicious = {
        name: digest
        for name, digest in (
            ("suspicious_samples.parquet", report.suspicious_parquet),
            ("suspicious_samples.csv", report.suspicious_csv),
        )
        if digest is not None
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, digest in suspicious.items():
            steps.store.fetch(digest, out / name)
    if as_json:
        print_json(_screened_json(outcome))
    else:
        _print_screening(told, report)
        for name, digest in suspicious.items():
            told.print(f"{name}: {out / name if out else digest}", markup=False)
    raise typer.Exit(EXIT_STATUS["REJECT"] if report.refusal else 0)


def describe_step(name: str, result: Any) -> str:
    """What a step concluded, in a few words: counts and names, never values of rows."""
    from retraining.errors import NothingToDo

    if isinstance(result, NothingToDo):
        return f"skipped: {result}"
    results = result if isinstance(result, list) else [result]
    reused = " (done before)" if all(getattr(item, "reused", False) for item in results) else ""
    words = _WORDS[name.partition(" ")[0]]
    return "; ".join(words(getattr(item, "report", item)) for item in results) + reused


def _refused_or(words: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda report: f"refused: {report.refusal.sentence}" if report.refusal else words(report)


def _validated(report: Any) -> str:
    whole = report.slices[0]
    shown = [f"{name} {measured.value:.3f}" for name, measured in whole.challenger.items()]
    return f"{whole.n_rows} rows: {', '.join(shown)}"


_WORDS: dict[str, Callable[[Any], str]] = {
    "pin": lambda r: f"attempt {r.attempt}, weeks {', '.join(r.weeks)}",
    "ingest": _refused_or(
        lambda r: (
            f"{r.batch.week}: {len(r.files)} file(s),"
            f" {sum(file.n_bytes for file in r.files):,} bytes"
        )
    ),
    "provenance": _refused_or(
        lambda r: f"{r.batch.week}: signature {r.signature}, risk {r.risk_score:.2f}"
    ),
    "screening": _refused_or(
        lambda r: f"{r.n_accepted} rows accepted, {r.n_quarantined} quarantined"
    ),
    "training": _refused_or(lambda r: f"{r.n_rows} rows, epsilon {r.epsilon:.2f}"),
    "validation": _validated,
    "purge": _refused_or(lambda r: f"{r.n_purged} rows taken out"),
    "gate": lambda r: str(r.verdict),
    "promotion": lambda link: f"version {link.record.version} serves",
}


def _progress_to(console: Console) -> Callable[[str, Any, float], None]:
    def told(name: str, result: Any, seconds: float) -> None:
        line = f"{name:<28} {seconds:6.1f} s   {describe_step(name, result)}"
        console.print(line, markup=False)

    return told


def _log_to(console: Console) -> Callable[[str], None]:
    shown_at = -math.inf

    def told(line: str) -> None:
        nonlocal shown_at
        if _CONCLUDED.search(line):
            return
        if line.startswith(_EPOCH):
            if time.monotonic() - shown_at < _EPOCH_SECONDS:
                return
            shown_at = time.monotonic()
        console.print(f"  {line}", markup=False, style="dim")

    return told


def _print_decision(console: Console, decision: GateDecision, digest: str) -> None:
    colour = {"PROMOTE": "green", "HOLD": "yellow", "REJECT": "red"}[decision.verdict]
    dry = ", dry run: nothing was recorded" if decision.dry_run else ""
    console.print(
        f"\n{decision.model} {decision.week}: [bold {colour}]{decision.verdict}[/]{dry}"
        f"  [dim]{digest}[/]"
    )
    for check in decision.checks:
        if check.verdict == "PROMOTE":
            continue
        console.print(
            f"  {check.verdict} {check.name}: found {check.observed.rstrip('.')};"
            f" allowed: {check.allowed}",
            markup=False,
        )
        if check.next_step:
            console.print(f"    {check.next_step}", markup=False)


def _print_screening(console: Console, report: ScreeningReport) -> None:
    from rich.table import Table

    table = Table("batch", "rows", "accepted", "quarantined", "reasons")
    for batch in report.batches:
        reasons = ", ".join(f"{name} {count}" for name, count in batch.quarantined.items())
        said = f"refused: {batch.refusal.sentence}" if batch.refusal else reasons
        counts = [str(n) for n in (batch.n_rows, batch.n_accepted, batch.n_quarantined)]
        table.add_row(str(batch.batch), *counts, said)
    console.print(table)
    for number, sentence in enumerate(report.sentences, start=1):
        console.print(f"pattern_{number}: {sentence}", markup=False)
    for block in report.window:
        if block.n_purged:
            learned = ", ".join(map(str, block.learned_by)) or "none"
            console.print(
                f"{block.n_purged} of {block.n_rows} accepted rows of {block.batch} are taken out"
                f" of training; versions that learned them: {learned}",
                markup=False,
            )
    if not report.n_history:
        console.print(
            f"Judged against {report.n_reference} reference rows alone: the first weeks see less.",
            markup=False,
        )
    if report.refusal:
        console.print(f"refused: {report.refusal.sentence}", markup=False, style="red")


def _screened_json(week: ScreenedWeek) -> dict[str, Any]:
    run = week.run.report
    steps: dict[str, Any] = {"pin": week.run}
    steps |= {f"ingest {result.report.batch}": result for result in week.ingest}
    steps |= {f"provenance {result.report.batch}": result for result in week.provenance}
    steps |= {"screening": week.screening}
    return {
        "model": run.model,
        "week": run.week,
        "attempt": run.attempt,
        "steps": {name: _step_json(result) for name, result in steps.items()},
        "skipped": week.skipped,
        "seconds": {name: round(seconds, 3) for name, seconds in week.seconds.items()},
        "screening": week.screening.report.model_dump(mode="json"),
    }


def _decided_json(week: DecidedWeek) -> dict[str, Any]:
    said = _screened_json(week.screened)
    later: dict[str, StepResult[Any] | None] = {
        "training": week.training,
        "validation": week.validation,
    }
    for number, again in enumerate(week.rounds, start=1):
        later[f"purge {number}"] = again.purge
        later[f"training {number + 1}"] = again.training
        later[f"validation {number + 1}"] = again.validation
    later["gate"] = week.gate
    for name, result in later.items():
        if result is not None:
            said["steps"][name] = _step_json(result)
            said[name] = result.report.model_dump(mode="json")
    entry = week.entry
    return said | {
        "verdict": week.gate.report.verdict,
        "promoted": entry is not None,
        "entry": entry and {"digest": entry.digest} | entry.record.model_dump(mode="json"),
    }


def _step_json(result: StepResult[Any]) -> dict[str, Any]:
    named = result.attestation
    return {"attestation": named.digest, "report": named.report, "reused": result.reused}


def _check_week(week: str) -> None:
    from datetime import date

    from retraining.errors import ConfigError

    try:
        date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
        right = re.fullmatch(r"\d{4}-W\d\d", week) is not None
    except ValueError:
        right = False
    if not right:
        raise ConfigError(f"--week: found {week!r}, expected an ISO week such as 2026-W41.")
