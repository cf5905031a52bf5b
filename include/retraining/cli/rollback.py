"""`rollback`: an older version serves again, by a signed request."""

from __future__ import annotations

from typing import Annotated

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


@app.command()
def rollback(
    ctx: typer.Context,
    spec: SpecArgument,
    to: Annotated[int, typer.Option("--to", help="The version that shall serve; 0: none.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the signed request.")],
    convict: Annotated[
        bool,
        typer.Option(
            "--convict",
            help="Every version above it learned from poison: none of them ever serves again, and"
            " the rows that they added are trained on no longer. Cannot be taken back.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Let an older version serve again: a signed request, verified, appended to the registry.

    Needs the pipeline's key and the promoter's. Nothing is rewritten; the next weekly run is
    compared with the restored version. After --to 0 none serves until an owner signed the pipeline
    file and a week is promoted.
    """
    settings, loaded = open_spec(settings_of(ctx), spec)
    told = errors() if as_json else output()

    def log(line: str) -> None:
        if line.startswith("warning:"):  # everything else is said below
            told.print(line, markup=False, style="dim")

    steps = open_steps(settings, log)
    request = steps.request_rollback(loaded.model, to_version=to, reason=reason, convict=convict)
    link = steps.restore(request.attestation.digest)
    entry, asked = link.record, request.report
    if as_json:
        print_json(
            {
                "request": {"digest": request.attestation.digest} | asked.model_dump(mode="json"),
                "entry": {"digest": link.digest} | entry.model_dump(mode="json"),
            }
        )
        return
    serves = f"{entry.model}: {serves_sentence(entry.version).lower()}"
    kept = asked.gives_up == asked.to_version
    told.print(serves + ("." if kept else f", in place of version {asked.gives_up}."), markup=False)
    if entry.convicted:
        told.print(
            f"Convicted of poison: {', '.join(map(str, entry.convicted))}. They never serve again,"
            " and the rows that they added are no accepted history any longer.",
            markup=False,
        )
    if not entry.version:
        told.print(start_over(entry.model), markup=False)
    told.print(f"request  {request.attestation.digest}\nentry    {link.digest}", markup=False)


def serves_sentence(version: int) -> str:
    """Which version serves, without a full stop."""
    return f"Version {version} serves" if version else "No version serves"


def start_over(model: str) -> str:
    """What comes after a model was withdrawn."""
    from retraining.approvals import sign_spec_command

    return (
        f"Have an owner sign the pipeline file (`{sign_spec_command(model)}`), then run the next"
        " week: its challenger has no champion to be compared with."
    )
