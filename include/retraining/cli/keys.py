"""`keys` and `sign-batch`: who may sign what, and a provider's own part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retraining.cli.common import app, output, settings_of

keys = typer.Typer(no_args_is_help=True, help="Make keys, and say whose signature counts.")
app.add_typer(keys, name="keys")


@keys.command()
def create(
    ctx: typer.Context,
    provider: Annotated[
        list[str] | None,
        typer.Option(help="Also make the key of this provider, for a trial. Repeatable."),
    ] = None,
) -> None:
    """Make a small team's keys and the first trust list.

    Those are root, pipeline, promoter, reviewer and owner.
    """
    from retraining.keyring import create_team_keys

    settings = settings_of(ctx)
    trust = create_team_keys(settings, providers=provider or [])
    output().print(
        f"Keys of {', '.join(sorted(trust.keys))} and root in {settings.keys}; trust list version"
        f" {trust.version} in {settings.store}.\n"
        f"Now move {settings.keys / 'root.pem'} offline: it is needed only to change the list. Keep"
        " promoter.pem on the machine that promotes, and no other; reviewer.pem belongs on the"
        " machine of whoever reviews rows and approves weeks, owner.pem on that of whoever answers"
        " for the pipeline files.",
        markup=False,
    )


@keys.command()
def provider(
    name: Annotated[str, typer.Argument(help="The provider, as sources name it: their key_id.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.pem and NAME.pub.json.")] = Path(),
) -> None:
    """Make the key pair of a provider, or of anybody else, on the holder's own machine.

    What it may sign says the trust list: `retraining keys trust --role`.
    """
    from retraining.keyring import create_provider_key

    public = create_provider_key(out, name)
    output().print(
        f"{public.with_name(f'{name}.pem')} signs your batches (`retraining sign-batch`);"
        f" keep it.\n"
        f"Send {public} to whoever holds the root key, who adds it:"
        f" retraining keys trust --add {name}={public.name}\n"
        "A key that is no provider's is added with its role: --role reviewer, owner, …",
        markup=False,
    )


@keys.command()
def trust(
    ctx: typer.Context,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Add this public key (*.pub.json). Repeatable."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Take this key off. Repeatable.")
    ] = None,
    role: Annotated[
        str, typer.Option(help="May sign as provider, pipeline, promoter, reviewer or owner.")
    ] = "provider",
    holder: Annotated[str, typer.Option(help="Who holds the private key, for people.")] = "",
    root: Annotated[
        Path | None,
        typer.Option(help="The root's private key.", show_default="<keys>/root.pem"),
    ] = None,
) -> None:
    """Sign the next version of the trust list; a removed key counts no more from now on."""
    from typing import get_args

    from retraining.errors import ConfigError
    from retraining.evidence.trust import Role
    from retraining.keyring import NewKey, change_trust

    if role not in get_args(Role):
        raise ConfigError(f"--role: found {role!r}, allowed is one of {list(get_args(Role))}.")
    if not add and not remove:
        raise ConfigError("Nothing to change: give --add NAME=FILE or --remove NAME.")
    new = []
    for item in add or []:
        name, _, file = item.partition("=")
        if not (name and file):
            raise ConfigError(f"--add: found {item!r}, expected NAME=FILE.pub.json.")
        new.append(NewKey(name, role, Path(file), holder))  # type: ignore[arg-type]
    settings = settings_of(ctx)
    changed = change_trust(settings, add=new, remove=remove or [], root=root)
    output().print(
        f"Trust list version {changed.version}: {', '.join(sorted(changed.keys))}.", markup=False
    )


@keys.command("list")
def list_keys(ctx: typer.Context) -> None:
    """List whose signature counts, and since which version of the trust list."""
    from rich.table import Table

    from retraining.evidence import public_key_of
    from retraining.store import open_store
    from retraining.trust_history import TrustHistory

    settings = settings_of(ctx)
    store = open_store(settings.store, must_exist=True)
    history = TrustHistory.load(store, public_key_of(settings.root_key, "root"))
    versions = sorted(history.lists.values(), key=lambda known: known.version)
    table = Table("key", "may sign as", "holder", "kind", "versions")
    for key_id in sorted({key_id for known in versions for key_id in known.keys}):
        having = [known for known in versions if key_id in known.keys]
        newest = having[-1].keys[key_id]
        gone = having[-1].version < history.latest.version
        span = (
            f"{having[0].version} to {having[-1].version}, removed"
            if gone
            else (f"since {having[0].version}")
        )
        kind = str(newest.key.get("scheme", ""))
        table.add_row(key_id, ", ".join(newest.roles), newest.holder, kind, span)
    output().print(table)


@app.command("sign-batch")
def sign_batch(
    delivery: Annotated[Path, typer.Argument(help="The folder, or the single file, of one week.")],
    key: Annotated[Path, typer.Option(help="The provider's private key, NAME.pem.")],
    source: Annotated[str, typer.Option(help="The source's name in the pipeline file.")],
    week: Annotated[str, typer.Option(help="ISO week of the batch, such as 2026-W07.")],
    sequence: Annotated[int, typer.Option(help="Higher than for every earlier batch.")],
) -> None:
    """Sign a batch as its provider, so that nobody can alter, add or replay anything unnoticed."""
    from retraining.keyring import sign_delivery

    manifest = sign_delivery(delivery, key=key, dataset=source, batch=week, sequence=sequence)
    output().print(f"Signed: {manifest}", markup=False)
