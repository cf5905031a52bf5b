"""`review` and `trace`: what people decide about suspicious rows, and where rows went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    short,
)
from retraining.cli.subjects import (
    JsonOption,
    KeyOption,
    PatternOption,
    RowOption,
    RowsOption,
    ScreeningOption,
    SourceOption,
    UserOption,
    WeekOption,
    WhyOption,
    row_ids_of,
    subject_of,
    words_of,
)

if TYPE_CHECKING:
    from retraining.records import ReviewEntry, ReviewVerb
    from retraining.signed_chain import Link
    from retraining.steps.tracing import Trace

reviews = typer.Typer(
    no_args_is_help=True,
    help="Release quarantined rows, or confirm that they are poison; the next run takes it along.",
)
app.add_typer(reviews, name="review")


@reviews.command()
def release(
    ctx: typer.Context,
    spec: SpecArgument,
    why: WhyOption,
    screening: ScreeningOption = "",
    row: RowOption = None,
    rows: RowsOption = None,
    pattern: PatternOption = None,
    source: SourceOption = "",
    week: WeekOption = "",
    user: UserOption = "",
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that rows are sound, or take an earlier confirmation back.

    The next run does not quarantine these rows for what their scores say; faults of values and
    ids stay. A batch of a promoted week is not looked at again. With a source and a week you
    vouch for that batch: it counts against its source no more; its rows are judged as ever.
    """
    about = (screening, [*(row or []), *row_ids_of(rows)], pattern, source, week, user)
    _review(ctx, spec, "release", about, why=why, key=key, as_json=as_json)


@reviews.command()
def confirm(
    ctx: typer.Context,
    spec: SpecArgument,
    why: WhyOption,
    screening: ScreeningOption = "",
    row: RowOption = None,
    rows: RowsOption = None,
    pattern: PatternOption = None,
    source: SourceOption = "",
    week: WeekOption = "",
    user: UserOption = "",
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that rows, a pattern, a batch or a user are poison: never trained on again.

    Also taken out of the weeks that were promoted already. Roll back as well when a version that
    learned from them serves: `retraining trace` says which did.
    """
    about = (screening, [*(row or []), *row_ids_of(rows)], pattern, source, week, user)
    _review(ctx, spec, "confirm", about, why=why, key=key, as_json=as_json)


@reviews.command("list")
def list_reviews(ctx: typer.Context, spec: SpecArgument, as_json: JsonOption = False) -> None:
    """List what reviewers decided, oldest first."""
    settings, loaded = open_spec(settings_of(ctx), spec)
    links = open_steps(settings, _quiet).reviews(loaded.model).links
    if as_json:
        print_json([_as_json(link) for link in links])
    elif links:
        output().print(_table_of(links))
    else:
        output().print(f"{loaded.model} has no review yet.", markup=False)


@app.command()
def trace(
    ctx: typer.Context,
    spec: SpecArgument,
    row: RowOption = None,
    rows: RowsOption = None,
    source: SourceOption = "",
    week: WeekOption = "",
    user: UserOption = "",
    screening: ScreeningOption = "",
    pattern: PatternOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow rows, a source, a user or a pattern: batches, quarantine, reviews, and who learned.

    A pattern is looked for in every delivered row, which takes a while in a long history.
    """
    from retraining.errors import ConfigError
    from retraining.steps.tracing import Traced
    from retraining.subjects import pattern_of

    settings, loaded = open_spec(settings_of(ctx), spec)
    steps = open_steps(settings, _quiet)
    ids = frozenset([*(row or []), *row_ids_of(rows)])
    if bool(ids) + bool(source) + (pattern is not None) != 1 or (user and not source):
        raise ConfigError(
            "Give either --row or --rows, or --source (and --week, --user), or --screening with"
            " --pattern."
        )
    found = None
    if pattern is not None:
        _, found = pattern_of(steps, loaded.model, screening, pattern)
    what = Traced(row_ids=ids, source=source, week=week, pattern=found, user=user)
    traced = steps.trace(loaded.model, what)
    if as_json:
        print_json(_trace_json(traced))
    else:
        _print_trace(traced)


def _review(
    ctx: typer.Context,
    spec: str,
    verb: ReviewVerb,
    given: tuple[str, list[str], int | None, str, str, str],
    *,
    why: str,
    key: Path | None,
    as_json: bool,
) -> None:
    settings, loaded = open_spec(settings_of(ctx), spec)
    steps = open_steps(settings, _quiet)
    about = subject_of(steps, loaded.model, *given)
    link = steps.review(loaded.model, verb, about, why=why, key=key)
    told = errors() if as_json else output()
    if as_json:
        print_json(_as_json(link))
    else:
        told.print(
            f"{loaded.model}: {verb} {words_of(about)}, signed by {link.record.reviewer}. The next"
            f" run takes it along.\nreview {link.digest}",
            markup=False,
        )
    last = steps.registry(loaded.model).last_promoted_week
    if verb == "release" and about.screening and last:
        told.print(
            f"Weeks up to {last} are promoted and not looked at again: rows of those stay out.",
            markup=False,
            style="dim",
        )


def _as_json(link: Link[ReviewEntry]) -> dict[str, Any]:
    return {"digest": link.digest} | link.record.model_dump(mode="json")


def _table_of(links: tuple[Link[ReviewEntry], ...]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("review", "decision", "about", "screening", "by", "why")
    for link in links:
        entry = link.record
        table.add_row(
            f"{entry.sequence} {short(link.digest)}",
            entry.verb,
            escape(words_of(entry.about)),
            short(entry.about.screening),
            escape(entry.reviewer),
            escape(entry.why),
        )
    return table


def _print_trace(traced: Trace) -> None:
    from rich.table import Table

    console = output()
    if not traced.batches:
        console.print("No concluded run looked at such rows.", markup=False)
    else:
        table = Table("run", "verdict", "batch", "accepted", "quarantined", "purged", "refused")
        for found in traced.batches:
            table.add_row(
                f"{found.entry.week} attempt {found.entry.attempt}",
                found.entry.verdict,
                str(found.batch),
                str(found.accepted),
                ", ".join(f"{name} {n}" for name, n in found.quarantined.items()) or "-",
                str(found.purged),
                found.refusal or "-",
            )
        console.print(table)
    if traced.reviews:
        console.print(_table_of(traced.reviews))
    marks = {number: " (convicted)" for number in traced.convicted}
    marks |= {traced.serving: " (serves)"}
    learned = ", ".join(f"{number}{marks.get(number, '')}" for number in traced.versions)
    console.print(f"Versions that learned from them: {learned or 'none'}.", markup=False)


def _trace_json(traced: Trace) -> dict[str, Any]:
    return {
        "batches": [
            {
                "run": found.entry.week,
                "attempt": found.entry.attempt,
                "verdict": found.entry.verdict,
                "decision": found.entry.decision,
                "source": found.batch.source,
                "week": found.batch.week,
                "accepted": found.accepted,
                "quarantined": found.quarantined,
                "purged": found.purged,
                "refused": found.refusal or None,
            }
            for found in traced.batches
        ],
        "reviews": [_as_json(link) for link in traced.reviews],
        "versions": list(traced.versions),
        "serving": traced.serving,
        "convicted": list(traced.convicted),
    }


def _quiet(_line: str) -> None:
    return None
