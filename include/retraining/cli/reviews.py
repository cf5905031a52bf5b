"""`review` and `trace`: what people decide about suspicious rows, and where rows went."""

from __future__ import annotations

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
    short,
)

if TYPE_CHECKING:
    from retraining.digests import Digest
    from retraining.records import Pattern, ReviewEntry, ReviewSubject, ReviewVerb
    from retraining.signed_chain import Link
    from retraining.steps import StepRunner
    from retraining.steps.tracing import Trace

reviews = typer.Typer(
    no_args_is_help=True,
    help="Release quarantined rows, or confirm that they are poison; the next run takes it along.",
)
app.add_typer(reviews, name="review")

# As `suspicious_samples.csv` escapes what a spreadsheet would run.
_ESCAPED = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")

WhyOption = Annotated[str, typer.Option("--why", help="Why; it stands in the signed review.")]
ScreeningOption = Annotated[
    str,
    typer.Option(
        "--screening",
        metavar="RECORD",
        help="The screening that named the rows, or the decision made from it: its first digits.",
    ),
]
RowOption = Annotated[
    list[str] | None, typer.Option("--row", metavar="ID", help="A row's id. Repeatable.")
]
RowsOption = Annotated[
    Path | None,
    typer.Option(help="File of row ids: one a line, or a .csv with a column row_id."),
]
PatternOption = Annotated[
    int | None,
    typer.Option("--pattern", metavar="N", help="The N-th pattern that the screening found."),
]
SourceOption = Annotated[str, typer.Option("--source", help="All rows of this source …")]
WeekOption = Annotated[str, typer.Option("--week", help="… in this ISO week.")]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="The reviewer's private key.", show_default="<keys>/reviewer.pem"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


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
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that rows are sound, or take an earlier confirmation back.

    The next run does not quarantine these rows for what their scores say; faults of values and
    ids stay. A batch of a promoted week is not looked at again. With a source and a week you
    vouch for that batch: it counts against its source no more; its rows are judged as ever.
    """
    about = (screening, [*(row or []), *_row_ids(rows)], pattern, source, week)
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
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that rows, a pattern, or a whole batch are poison: never trained on again.

    Also taken out of the weeks that were promoted already. Roll back as well when a version that
    learned from them serves: `retraining trace` says which did.
    """
    about = (screening, [*(row or []), *_row_ids(rows)], pattern, source, week)
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
    screening: ScreeningOption = "",
    pattern: PatternOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow rows, a source, or a pattern: batches, quarantine, reviews, and who learned from them.

    A pattern is looked for in every delivered row, which takes a while in a long history.
    """
    from retraining.errors import ConfigError
    from retraining.steps.tracing import Traced

    settings, loaded = open_spec(settings_of(ctx), spec)
    steps = open_steps(settings, _quiet)
    ids = frozenset([*(row or []), *_row_ids(rows)])
    if bool(ids) + bool(source) + (pattern is not None) != 1:
        raise ConfigError(
            "Give either --row or --rows, or --source (and --week), or --screening with --pattern."
        )
    found = None
    if pattern is not None:
        _, found = _pattern_of(steps, loaded.model, screening, pattern)
    what = Traced(row_ids=ids, source=source, week=week, pattern=found)
    traced = steps.trace(loaded.model, what)
    if as_json:
        print_json(_trace_json(traced))
    else:
        _print_trace(traced)


def _review(
    ctx: typer.Context,
    spec: str,
    verb: ReviewVerb,
    given: tuple[str, list[str], int | None, str, str],
    *,
    why: str,
    key: Path | None,
    as_json: bool,
) -> None:
    settings, loaded = open_spec(settings_of(ctx), spec)
    steps = open_steps(settings, _quiet)
    about = _subject(steps, loaded.model, *given)
    link = steps.review(loaded.model, verb, about, why=why, key=key)
    told = errors() if as_json else output()
    if as_json:
        print_json(_as_json(link))
    else:
        told.print(
            f"{loaded.model}: {verb} {_about(about)}, signed by {link.record.reviewer}. The next"
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


def _subject(
    steps: StepRunner,
    model: str,
    screening: str,
    row_ids: list[str],
    pattern: int | None,
    source: str,
    week: str,
) -> ReviewSubject:
    from retraining.errors import ReviewRefusedError
    from retraining.records import MAX_ROWS_PER_REVIEW, BatchId, ReviewSubject

    if bool(row_ids) + (pattern is not None) + bool(source and week) != 1 or (
        bool(screening) == bool(source or week)
    ):
        raise ReviewRefusedError(
            "Give either --screening with rows (--row, --rows) or with --pattern, or --source with"
            " --week."
        )
    if len(set(row_ids)) > MAX_ROWS_PER_REVIEW:
        raise ReviewRefusedError(
            f"{len(set(row_ids)):,} rows are too many for one review, expected at most"
            f" {MAX_ROWS_PER_REVIEW:,}. Review their pattern or batch, or give them in parts."
        )
    if source:
        _check_week(week)
        return ReviewSubject(batch=BatchId(source=source, week=week))
    if pattern is not None:
        digest, found = _pattern_of(steps, model, screening, pattern)
        return ReviewSubject(screening=digest, pattern=found)
    return ReviewSubject(
        screening=_screening(steps, screening), row_ids=tuple(sorted(set(row_ids)))
    )


def _pattern_of(
    steps: StepRunner, model: str, screening: str, number: int
) -> tuple[Digest, Pattern]:
    from retraining.errors import ReviewRefusedError
    from retraining.reviews import named_screening

    digest = _screening(steps, screening)
    newest = steps.trust.latest.version
    patterns = named_screening(
        steps.store, steps.trust, model, digest, trust_version=newest
    ).patterns
    if not 1 <= number <= len(patterns):
        raise ReviewRefusedError(
            f"The screening {digest} found {len(patterns)} patterns; there is no number {number}."
        )
    return digest, patterns[number - 1]


def _screening(steps: StepRunner, text: str) -> Digest:
    """A screening by its digits, or by those of the decision that was made from it."""
    from retraining.errors import ReviewRefusedError
    from retraining.inspection import find_record

    found = find_record(steps.store, steps.trust, text)
    if found.kind == "attestation of gate":
        return found.inputs["screening"]
    if found.kind != "attestation of screening":
        raise ReviewRefusedError(
            f"--screening: {text} is an {found.kind}, expected one of screening or gate."
        )
    return found.digest


def _row_ids(file: Path | None) -> list[str]:
    import csv

    from retraining.errors import ConfigError

    if file is None:
        return []
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            if file.suffix == ".csv":
                found = [record["row_id"] for record in csv.DictReader(lines)]
            else:
                found = [line.rstrip("\r\n") for line in lines]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ConfigError(
            f"--rows: {file} cannot be read as row ids ({type(error).__name__}); expected one a"
            " line, or a .csv with a column row_id."
        ) from error
    return [_unescaped(name) for name in found if name]


def _unescaped(name: str) -> str:
    return name[1:] if name[:1] == "'" and name[1:].lstrip(" ").startswith(_ESCAPED) else name


def _check_week(week: str) -> None:
    import re

    from retraining.errors import ConfigError

    if not re.fullmatch(r"\d{4}-W(0[1-9]|[1-4]\d|5[0-3])", week):
        raise ConfigError(f"--week: found {week!r}, expected an ISO week such as 2026-W41.")


def _about(about: ReviewSubject) -> str:
    if about.batch is not None:
        return f"all rows of {about.batch}"
    if about.pattern is not None:
        return f"the pattern {_words(about.pattern)}"
    return f"{len(about.row_ids)} row{'s' * (len(about.row_ids) != 1)}"


def _words(pattern: Pattern) -> str:
    names = ", ".join(pattern.columns[:4]) + (", …" if len(pattern.columns) > 4 else "")
    return f"of {names} with label {pattern.label}"


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
            escape(_about(entry.about)),
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
