"""`gate-report`: the page about a decision, made again from its signed records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retraining.cli.common import app, errors, output, settings_of
from retraining.cli.verification import RootKeyOption, StoreOption, open_signed


@app.command("gate-report")
def gate_report(
    ctx: typer.Context,
    decision: Annotated[
        str,
        typer.Argument(
            metavar="DECISION", help="Digest of a gate's decision, or its first digits."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="File to write: HTML, or JSON when its name ends in .json.")
    ] = Path("gate_report.html"),
    store: StoreOption = None,
    root_key: RootKeyOption = None,
) -> None:
    """Write what the gate saw as one page that opens offline in any browser.

    Needs the store, or a copy of it, and the root's public key. Made from the signed records alone;
    says whether the bytes are those that the gate's record names.
    """
    from retraining.digests import Digest
    from retraining.gate_report import HTML, JSON, open_decision, page_of, render
    from retraining.inspection import find_decision

    opened, trust = open_signed(settings_of(ctx), store, root_key)
    found = open_decision(opened, trust, find_decision(opened, trust, decision))
    named = found.gate.attestation
    page = page_of(opened, found.trust, found.people, found.gate.report, named.inputs)
    name, data = (JSON, page.to_json()) if out.suffix == ".json" else (HTML, render(page))
    out.write_bytes(data)
    signed = named.artefacts.get(name)
    if signed == Digest.of(data):
        output().print(f"{out}: the page that {named.key_id} signed, byte for byte.", markup=False)
    elif signed is None:
        output().print(f"{out}: the gate's record names no page; this is today's.", markup=False)
    else:
        errors().print(
            f"{out}: not the bytes that {named.key_id} signed ({signed}). Another release draws"
            " another page; `retraining verify` says whether the records hold.",
            markup=False,
            style="yellow",
        )
