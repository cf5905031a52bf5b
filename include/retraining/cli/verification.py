"""`verify` and `show`: what an auditor needs, with public keys only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retraining.cli.common import (
    app,
    open_spec,
    output,
    print_json,
    settings_of,
    short,
    verdict_of,
)

if TYPE_CHECKING:
    from retraining.settings import Settings
    from retraining.store import Store
    from retraining.trust_history import TrustHistory

StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder or s3:// of the store, or of a copy of it.")
]
RootKeyOption = Annotated[
    Path | None, typer.Option("--root-key", help="The root's public key, *.pub.json.")
]


@app.command()
def verify(
    ctx: typer.Context,
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="One model; all when left out.")
    ] = None,
    store: StoreOption = None,
    root_key: RootKeyOption = None,
) -> None:
    """Verify every concluded week, from the delivered bytes to the verdict, and every rollback.

    Needs the store, or a copy of it, and the root's public key: no private key, no network, no
    Airflow. Stops at the first thing that does not hold, with exit status 1.
    """
    from rich.table import Table

    from retraining.audit import (
        audit,
        audit_approvals,
        audit_incidents,
        audit_production,
        audit_reviews,
        epsilon_of,
        models_of,
    )
    from retraining.errors import ConfigError
    from retraining.registry import HeadMemory

    settings = settings_of(ctx)
    opened, trust = open_signed(settings, store, root_key)
    # What this machine remembers is about its own store, not about a copy of yesterday.
    memory = HeadMemory(settings.memory) if store is None else None
    known = models_of(opened)
    models = [_model_name(settings, spec)] if spec else known
    if missing := sorted(set(models) - set(known)):
        raise ConfigError(f"{opened.uri} has no registry of {missing}; it has {known}.")
    table = Table("model", "week", "attempt", "verdict", "version", "epsilon", "decision", "entry")
    console = output()
    n_weeks = n_rollbacks = 0
    other_code: Counter[str] = Counter()
    try:
        for verified in audit(opened, trust, models=models, memory=memory):
            entry, epsilon = verified.link.record, epsilon_of(verified)
            n_rollbacks += entry.verdict == "ROLLBACK"
            n_weeks += entry.verdict != "ROLLBACK"
            if code := verified.made_by_other_code:
                other_code[short(code)] += 1
            table.add_row(
                entry.model,
                entry.week,
                str(entry.attempt),
                verdict_of(entry),
                str(entry.version),
                "-" if epsilon is None else f"{epsilon:.2f}",
                short(entry.decision),
                short(verified.link.digest),
            )
    finally:
        if n_weeks:
            console.print(table)
    production = audit_production(opened, trust, models=models)
    n_reviews = audit_reviews(opened, trust, models=models)
    n_incidents = audit_incidents(opened, trust, models=models)
    n_approvals = audit_approvals(opened, trust, models=models)
    version = trust.latest.version
    counted = f"{n_weeks} concluded weeks"
    if n_rollbacks:
        counted += f" and {n_rollbacks} rollback{'s' * (n_rollbacks > 1)}"
    words = {"feedback": "closed feedback batch", "monitoring": "monitored day"}
    counted += "".join(
        f", {n} {words[name]}{('es' if name == 'feedback' else 's') * (n > 1)}"
        for name, n in production.items()
        if n
    )
    if n_reviews:
        counted += f", {n_reviews} review{'s' * (n_reviews > 1)}"
    if n_incidents:
        counted += f", {n_incidents} incident{'s' * (n_incidents > 1)}"
    if n_approvals:
        counted += f", {n_approvals} approval{'s' * (n_approvals > 1)}"
    for other, n in other_code.items():
        console.print(
            f"{n} of the decisions were made by the code {other}, not by this release: their gate"
            " was not run again. Verify them with that release as well.",
            markup=False,
            style="yellow",
        )
    console.print(
        f"Verified: {counted} of {', '.join(models) or 'no model'}, every record"
        f" and artefact behind them, under trust list version {version} and older.",
        markup=False,
    )


@app.command()
def show(
    ctx: typer.Context,
    record: Annotated[
        str,
        typer.Argument(
            metavar="RECORD",
            help="Digest of a record or artefact, or the first digits of a record.",
        ),
    ],
    store: StoreOption = None,
    root_key: RootKeyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show a record: who signed it, what it was made from, and what it says."""
    from retraining.inspection import find_record

    opened, trust = open_signed(settings_of(ctx), store, root_key)
    found = find_record(opened, trust, record)
    if as_json:
        print_json(found.as_json())
        return
    from rich.json import JSON

    console = output()
    console.print(f"{found.kind} {found.digest}", markup=False, style="bold")
    console.print(found.verified, markup=False, style="green" if found.holds else "red")
    for title, named in (("made from", found.inputs), ("artefacts", found.artefacts)):
        if named:
            console.print(f"{title}:", markup=False)
        for name, digest in named.items():
            console.print(f"  {name:<32} {digest}", markup=False)
    if found.body is not None:
        console.print(JSON.from_data(found.body))


def open_signed(
    settings: Settings, store: str | None, root_key: Path | None
) -> tuple[Store, TrustHistory]:
    """A store and every version of its trust list, verified against the root's public key."""
    from retraining.evidence import public_key_of
    from retraining.store import open_store
    from retraining.trust_history import TrustHistory

    opened = open_store(store or settings.store, must_exist=True)
    return opened, TrustHistory.load(opened, public_key_of(root_key or settings.root_key, "root"))


def _model_name(settings: Settings, spec: str) -> str:
    """An auditor has the store and perhaps not the pipeline file, so a bare name will do."""
    path = Path(spec)
    return open_spec(settings, spec)[1].model if path.suffix in (".yaml", ".yml") else spec
