"""`incident`: poison found late, from the trace to the rollback, in one command."""

from __future__ import annotations

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
from retraining.cli.rollback import serves_sentence, start_over
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
    from retraining.steps.incident import IncidentOutcome


@app.command()
def incident(
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
    withdraw: Annotated[
        bool,
        typer.Option(
            "--withdraw", help="Where no version is left without it, take the model out of service."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Sign nothing; say what would be done.")
    ] = False,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rows, a pattern, a source or a user were poison: who learned from it, and take it all back.

    Confirms it, so that no later run trains on it, asks that the last version that did not learn
    from it serves again, and records the incident. A source without a week means all its batches
    so far. Start it again, the same, where a key was missing: nothing is done twice.
    """
    from retraining.subjects import batches_of

    settings, loaded = open_spec(settings_of(ctx), spec)
    told = errors() if as_json else output()

    def log(line: str) -> None:
        if line.startswith("warning:"):  # everything else is said below
            told.print(line, markup=False, style="dim")

    steps = open_steps(settings, log)
    ids = [*(row or []), *row_ids_of(rows)]
    if source and not (week or screening or ids or pattern is not None or user):
        about = batches_of(steps, loaded.model, source)
    else:
        about = (subject_of(steps, loaded.model, screening, ids, pattern, source, week, user),)
    done = steps.incident(loaded.model, about, why=why, withdraw=withdraw, key=key, dry_run=dry_run)
    if as_json:
        print_json(_as_json(done))
    for line in _sentences(loaded.model, done):
        told.print(line, markup=False)


def _sentences(model: str, done: IncidentOutcome) -> list[str]:
    plan, dry = done.plan, done.entry is None
    learned = ", ".join(map(str, plan.learned)) or "none"
    said = [
        f"{model}: versions that learned from it and were not convicted before: {learned}.",
        *(f"{'would confirm' if dry else 'confirmed'}: {words_of(a)}" for a in plan.about),
    ]
    if plan.stuck:
        said.append(
            f"{plan.stuck_sentence} {'Would be put' if dry else 'It is'} on record all the same."
        )
    elif not plan.rolls_back:
        said.append(
            f"Version {plan.serving} serves on: it did not learn from it."
            if plan.serving
            else "No version serves."
        )
    elif dry:
        wanted = f"restore version {plan.restore_to}" if plan.restore_to else "let none serve"
        said.append(f"Would {wanted}, in place of version {plan.serving}.")
    elif done.missing:
        said.append(_next_step(model, done))
    else:
        said.append(f"{serves_sentence(done.serves)}, in place of version {plan.serving}.")
        said += [start_over(model)] * plan.withdraws
    if plan.rolls_back:
        listed = ", ".join(map(str, plan.convict))
        said.append(
            f"{'Would convict' if dry or done.missing else 'Convicted'}: {listed}."
            if listed
            else "Convicts none: a version that would be convicted did not learn from it."
        )
    if done.entry is not None:
        said.append(f"incident {done.entry.digest}")
    return said


def _next_step(model: str, done: IncidentOutcome) -> str:
    plan = done.plan
    convict = " --convict" if plan.convict else ""
    return (
        f"Version {plan.serving} still serves: this machine does not hold the {done.missing}'s key."
        f" Start the same `retraining incident` where it is, or `retraining rollback {model} --to"
        f" {plan.restore_to}{convict}`, or the DAG rollback__{model}."
    )


def _as_json(done: IncidentOutcome) -> dict[str, Any]:
    plan = done.plan
    return {
        "digest": done.entry.digest if done.entry else None,
        "entry": done.entry.record.model_dump(mode="json") if done.entry else None,
        "about": [subject.model_dump(mode="json") for subject in plan.about],
        "learned": list(plan.learned),
        "served": plan.serving,
        "restore_to": plan.restore_to,
        "convict": list(plan.convict),
        "serves": done.serves,
        "missing_key": done.missing or None,
        "no_clean_version": plan.stuck or plan.withdraws,
    }
