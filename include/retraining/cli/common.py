"""The application, its one global option, and how every command ends.

Exit status: 0 it worked (for `run`: PROMOTE), 1 it did not, with one clear line on stderr and no
traceback; 2 and 3 are kept for the verdicts HOLD and REJECT.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from retraining.errors import RetrainingError

if TYPE_CHECKING:
    from rich.console import Console

    from retraining.records import RegistryEntry
    from retraining.settings import Settings
    from retraining.spec import PipelineSpec
    from retraining.steps import StepRunner

BROKE = 1
_FILE_WIDTH = 200  # characters
_USAGE_ERROR = 2  # click's own status for a mistyped command, which here would read as HOLD

SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="A model's name, or the path of its pipeline file.")
]


class _Commands(TyperGroup):
    """Turns our errors into one line, and a usage error into status 1."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        return _with_own_status(lambda: super(_Commands, self).make_context(*args, **kwargs))

    def invoke(self, ctx: Any) -> Any:
        return _with_own_status(lambda: super(_Commands, self).invoke(ctx))


def _with_own_status(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except RetrainingError as error:
        errors().print(f"retraining: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(BROKE) from error
    except typer.Exit:
        raise
    except Exception as error:
        if getattr(error, "exit_code", None) == _USAGE_ERROR:
            error.exit_code = BROKE  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Retrain classifiers every week on data that nobody has to trust.",
)


@app.callback()
def _global_options(
    ctx: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(
            help="The workspace: store, keys and inbox.",
            envvar="RETRAINING_HOME",
            show_default="./workspace",
        ),
    ] = None,
) -> None:
    ctx.obj = home


def settings_of(ctx: typer.Context) -> Settings:
    """The installation that this command works on."""
    from retraining.settings import Settings

    return Settings.load(ctx.obj)


def open_spec(settings: Settings, spec: str) -> tuple[Settings, PipelineSpec]:
    """Find and check a pipeline file by its model's name or its path.

    Returns:
        The settings, with the folder of that file as the folder of pipelines, and the spec.
    """
    from retraining.errors import SpecError
    from retraining.spec import find_specs, load_spec

    path = Path(spec)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        path = settings.pipelines / f"{spec}.yaml"
        if not path.is_file():
            known = [found.stem for found in find_specs(settings.pipelines)]
            raise SpecError(
                f"{path}: there is no such pipeline file; found {known} in {settings.pipelines}."
                " Give a model's name or a path, or draft one with `retraining init`."
            )
    loaded = load_spec(path)
    return settings.model_copy(update={"pipelines": path.resolve().parent}), loaded


def open_steps(settings: Settings, log: Callable[[str], None]) -> StepRunner:
    """A step runner for this command, named after whoever typed it."""
    import getpass
    import secrets
    from datetime import UTC, datetime

    from retraining.steps import open_step_runner

    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return open_step_runner(
        settings,
        run_id=f"cli-{now}-{secrets.token_hex(3)}",
        requested_by=getpass.getuser(),
        log=log,
    )


def output() -> Console:
    """Where results go."""
    return _console(stderr=False)


def errors() -> Console:
    """Where everything else goes."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _FILE_WIDTH  # nobody's window cuts a file, so no column is cut short
    return console


def short(digest: str | None) -> str:
    """A digest for a table; `retraining show` finds it by these digits."""
    return digest.removeprefix("sha256:")[:12] if digest else "-"


def verdict_of(entry: RegistryEntry) -> str:
    """An entry's verdict for a table; a held week that people approved says so."""
    return f"{entry.verdict}, approved" if entry.approvals else entry.verdict


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
