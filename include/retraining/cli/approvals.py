"""`approve` and `promote`: people decide about a held week, or answer for a pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retraining.cli.common import (
    app,
    errors,
    open_spec,
    open_steps,
    output,
    print_json,
    settings_of,
)

if TYPE_CHECKING:
    from retraining.digests import Digest
    from retraining.records import ApprovalEntry
    from retraining.settings import Settings
    from retraining.signed_chain import Link
    from retraining.steps import StepRunner
    from retraining.steps.approving import AskedWeek

DecisionArgument = Annotated[
    str, typer.Argument(metavar="DECISION", help="The gate's decision, by its first digits.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def approve(
    ctx: typer.Context,
    why: Annotated[str, typer.Option("--why", help="Why; it stands in the signed approval.")],
    decision: Annotated[
        str | None,
        typer.Argument(
            metavar="[DECISION]",
            help="The gate's decision, by its first digits, or as its page names it.",
        ),
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option("--spec", metavar="SPEC", help="Sign this pipeline file, as its owner."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Your private key: a reviewer's, or with --spec an owner's.",
            show_default="<keys>/reviewer.pem or <keys>/owner.pem",
        ),
    ] = None,
    expires_hours: Annotated[
        int | None,
        typer.Option(help="For how long it counts; as long as the pipeline file allows without."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a week that the gate held, with a reviewer's key, or sign a changed pipeline file.

    The decision and its whole chain are verified first. A REJECT cannot be approved. It counts for
    this decision alone, once, and as long as nothing else was concluded.
    """
    from retraining.errors import ConfigError

    if (decision is None) == (spec is None):
        raise ConfigError("Give either a decision or --spec with a pipeline file.")
    settings = settings_of(ctx)
    if spec is not None:
        if expires_hours is not None:
            raise ConfigError(
                "--expires-hours is for decisions: a pipeline file's signature has no expiry."
            )
        _sign_spec(settings, spec, why=why, key=key, as_json=as_json)
        return
    steps = open_steps(settings, _quiet)
    digest = decision_of(steps, decision or "")
    asked = steps.asked_week(digest)
    told = errors() if as_json else output()
    told.print(f"{asked.report.model} {asked.report.week}: {asked.report.verdict}", style="bold")
    for check in asked.report.failed():
        told.print(
            f"  {check.verdict} {check.name}: found {check.observed.rstrip('.')};"
            f" allowed: {check.allowed}",
            markup=False,
        )
    link = steps.approve(digest, why=why, key=key, expires_hours=expires_hours)
    asked = steps.asked_week(digest)
    if as_json:
        print_json(_as_json(link) | {"complete": asked.counted.complete})
        return
    told.print(
        f"Approved by {link.record.approver} until {link.record.expires_on}.\n"
        f"approval {link.digest}",
        markup=False,
    )
    told.print(_what_next(asked), markup=False)


def _what_next(asked: AskedWeek) -> str:
    if not asked.counted.complete:
        return f"Still needed, with the key of somebody else: {asked.commands}"
    return (
        "Nobody else is needed. Answer or clear the task `approve` in Airflow; or, where the"
        f" promoter's key is: retraining promote {asked.decision}"
    )


@app.command()
def promote(ctx: typer.Context, decision: DecisionArgument, as_json: JsonOption = False) -> None:
    """Promote what the gate decided, or what was approved: verified again, with the promoter's key.

    `run` and Airflow do this by themselves after a PROMOTE; a week that was held and then approved
    needs it.
    """
    steps = open_steps(settings_of(ctx), _quiet)
    link = steps.promote(decision_of(steps, decision))
    if as_json:
        print_json({"digest": link.digest} | link.record.model_dump(mode="json"))
        return
    entry = link.record
    by = f", approved by {len(entry.approvals)}" if entry.approvals else ""
    output().print(
        f"{entry.model}: version {entry.version} serves ({entry.week}{by}).\nentry {link.digest}",
        markup=False,
    )


def decision_of(steps: StepRunner, text: str) -> Digest:
    """The gate's decision by its digits; raises ConfigError for another record."""
    from retraining.inspection import find_decision

    return find_decision(steps.store, steps.trust, text)


def _sign_spec(settings: Settings, spec: str, *, why: str, key: Path | None, as_json: bool) -> None:
    settings, loaded = open_spec(settings, spec)
    steps = open_steps(settings, _quiet)
    link = steps.sign_spec(loaded.model, why=why, key=key)
    if as_json:
        print_json(_as_json(link))
        return
    output().print(
        f"{loaded.model}: {link.record.approver} answers for the pipeline file {link.record.spec},"
        f" until another champion serves.\napproval {link.digest}",
        markup=False,
    )
    output().print(_next_for(steps, loaded.model), markup=False)


def _next_for(steps: StepRunner, model: str) -> str:
    """What a signed pipeline file changes: the week that waits for it, or the next run."""
    from retraining.approvals import needs_owner
    from retraining.errors import RetrainingError

    newest = steps.registry(model).links[-1:]
    try:
        waiting = [steps.asked_week(link.record.decision) for link in newest]
    except RetrainingError:  # nothing that could be approved
        waiting = []
    asked = next((asked for asked in waiting if needs_owner(asked.report)), None)
    return _what_next(asked) if asked else "The next run takes it along."


def _as_json(link: Link[ApprovalEntry]) -> dict[str, Any]:
    return {"digest": link.digest} | link.record.model_dump(mode="json")


def _quiet(_line: str) -> None:
    return None
