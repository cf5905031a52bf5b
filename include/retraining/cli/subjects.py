"""What a review, a trace or an incident is about, as somebody types it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from retraining.records import Pattern, ReviewSubject
    from retraining.steps import StepRunner

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
UserOption = Annotated[
    str, typer.Option("--user", metavar="NAME", help="All rows of this user of --source.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="The reviewer's private key.", show_default="<keys>/reviewer.pem"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def subject_of(
    steps: StepRunner,
    model: str,
    screening: str,
    row_ids: list[str],
    pattern: int | None,
    source: str,
    week: str,
    user: str = "",
) -> ReviewSubject:
    """What the options name; raises ReviewRefusedError when that is not one thing."""
    from retraining.errors import ReviewRefusedError
    from retraining.records import MAX_ROWS_PER_REVIEW, BatchId, ReviewSubject, SourceUser
    from retraining.subjects import pattern_of, screening_of

    if user:
        if not source or week or screening or row_ids or pattern is not None:
            raise ReviewRefusedError(
                "--user: give the --source that knows this user, and nothing else."
            )
        return ReviewSubject(user=SourceUser(source=source, user=user))
    if bool(row_ids) + (pattern is not None) + bool(source and week) != 1 or (
        bool(screening) == bool(source or week)
    ):
        raise ReviewRefusedError(
            "Give either --screening with rows (--row, --rows) or with --pattern, or --source with"
            " --week or --user."
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
        digest, found = pattern_of(steps, model, screening, pattern)
        return ReviewSubject(screening=digest, pattern=found)
    return ReviewSubject(
        screening=screening_of(steps, screening), row_ids=tuple(sorted(set(row_ids)))
    )


def row_ids_of(file: Path | None) -> list[str]:
    """The row ids in a file; raises ConfigError when it cannot be read as such."""
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


def words_of(about: ReviewSubject) -> str:
    """What it is about, for people; never a row's id."""
    if about.batch is not None:
        return f"all rows of {about.batch}"
    if about.user is not None:
        return f"all rows of one user of {about.user.source}"
    if about.pattern is not None:
        return f"the pattern {_words(about.pattern)}"
    return f"{len(about.row_ids)} row{'s' * (len(about.row_ids) != 1)}"


def _words(pattern: Pattern) -> str:
    names = ", ".join(pattern.columns[:4]) + (", …" if len(pattern.columns) > 4 else "")
    return f"of {names} with label {pattern.label}"
