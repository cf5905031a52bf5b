"""`make demo`: three weeks of a spam filter under a real Airflow, the last one poisoned.

Lays out a workspace, starts Airflow on this machine, runs the weeks, prints what became of them
and keeps serving. A second call resumes where the first one stopped; when all weeks are concluded
it prints the table at once.
"""

import contextlib
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from demo import preflight
from demo.airflow_api import AirflowApi
from demo.airflow_parts import USER, Airflow
from demo.cut_data import WEEKS
from demo.following import Run, follow, give_up_old_runs, wait_for_dag
from demo.layout import POISONED_WEEK, demo_settings, lay_out
from demo.mlflow_server import MlflowServer
from demo.outcome import WeekOutcome, as_promised, conclusions, table
from demo.tour import Tour
from demo.workspace_lock import Notebook, own_workspace
from retraining.errors import RetrainingError
from retraining.settings import Settings
from retraining.store import open_store
from retraining_airflow.naming import WEEKLY, dag_id_of

MODEL = "spam_filter"
DAG_ID = dag_id_of(WEEKLY, MODEL)
_REASON = "make demo"
_INTERRUPTED = 130
_FILE_WIDTH = 160  # characters, where no window cuts a line

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = _FILE_WIDTH
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the table; status 0 only if all is well.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Wipe the workspace first.")] = False,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Mirror into a real MLflow (make setup-mlflow).")
    ] = False,
    tour: Annotated[
        bool, typer.Option("--tour", help="Also a feedback week, a monitored day and a rollback.")
    ] = False,
    home: Annotated[Path, typer.Option(help="The workspace.")] = Path("workspace"),
    port: Annotated[int, typer.Option(help="Of Airflow's pages; 0: 8080 or any free one.")] = 0,
) -> None:
    """Three weeks of a spam filter under a real Airflow, the last one poisoned."""
    if found := preflight.problems(home, port):
        _fail("\n".join(found))
    for remark in preflight.remarks():
        console.print(remark, style="yellow", markup=False)
    # Both end the parts in order; SIGINT too is set, because a shell's `&` would ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    settings = demo_settings(home)
    try:
        with own_workspace(settings.home, fresh=fresh):
            outcomes = _demo(settings, once=once, tour=tour, mlflow=mlflow, port=port)
    except KeyboardInterrupt:
        console.print("Stopped; the next `make demo` goes on from here.", markup=False)
        sys.exit(_INTERRUPTED)
    except RetrainingError as error:
        _fail(str(error))
    if once and not as_promised(outcomes, POISONED_WEEK):
        _fail("expected PROMOTE for the clean weeks and a refusal for the poisoned one.")
    if once and tour and not Tour(settings, MODEL).finished():
        _fail("expected a record of every stop of the tour.")


def _demo(
    settings: Settings, *, once: bool, tour: bool, mlflow: bool, port: int
) -> Sequence[WeekOutcome]:
    """Run what is left to run, and serve unless `once`; return what became of each week."""
    notebook, stops = Notebook(settings.home), Tour(settings, MODEL) if tour else None
    concluded = {outcome.entry.week for outcome in _concluded(settings)}
    finished = set(WEEKS) <= concluded and (stops is None or stops.finished())
    console.print(preflight.statement(finished), markup=False)
    if finished:
        _print_tables(settings, notebook, stops)
        if once:
            _print_verify(settings)
            return _concluded(settings)
    with _running(settings, mlflow=mlflow, port=port) as (airflow, api):
        for week in WEEKS:
            if week not in concluded:
                _run_week(settings, api, notebook, week)
        if stops:
            stops.run(api, notebook, _tell)
        if not finished:
            _print_tables(settings, notebook, stops)
        refused = notebook.run_id(POISONED_WEEK)
        if refused and not once:  # a link is good for as long as somebody serves it
            _tell(
                f"Why {POISONED_WEEK} was refused:"
                f" {airflow.url}/dags/{DAG_ID}/runs/{refused}/tasks/gate"
            )
        _print_verify(settings)
        if not once:
            _serve(airflow)
    return _concluded(settings)


def _run_week(settings: Settings, api: AirflowApi, notebook: Notebook, week: str) -> None:
    run_id = f"demo__{week}__{secrets.token_hex(4)}"
    notebook.note(week, run_id=run_id)
    form = {"week": week, "reason": _REASON}
    run = Run(dag_id=DAG_ID, run_id=run_id, form=form, name=week)
    seconds = follow(api, run, verdict=partial(_verdict, settings, week), told=_tell)
    notebook.note(week, run_id=run_id, seconds=seconds)


def _print_tables(settings: Settings, notebook: Notebook, stops: Tour | None) -> None:
    console.print(table(_concluded(settings), notebook.seconds()))
    if stops:
        console.print(stops.table(notebook))


def _tell(line: str) -> None:
    console.print(line, markup=False)


@contextlib.contextmanager
def _running(
    settings: Settings, *, mlflow: bool, port: int
) -> Iterator[tuple[Airflow, AirflowApi]]:
    """Airflow, and MLflow if asked for, on a workspace with everything in it."""
    with contextlib.ExitStack() as stack:
        mirror = None
        if mlflow:
            mirror = MlflowServer(settings.home)
            stack.callback(mirror.stop)
        airflow = Airflow(settings, port=port, mlflow=mirror.url if mirror else "")
        stack.callback(_stop, airflow)
        airflow.start_database()  # takes its time, while we lay out
        lay_out(settings.home)
        console.print(f"Workspace {settings.home}: data, signed batches, keys.", markup=False)
        with console.status("Airflow starts") as status:
            airflow.start()
            api = airflow.wait_until_healthy(
                lambda missing: status.update(f"Airflow starts; not there yet: {missing}")
            )
            if mirror:
                mirror.wait_until_healthy()
            wait_for_dag(api, DAG_ID)
        console.print(
            f"Airflow runs at {airflow.url}, login {USER} / {airflow.secrets.password}",
            markup=False,
        )
        if mirror:
            console.print(f"MLflow runs at {mirror.url}", markup=False)
        if given_up := give_up_old_runs(api, DAG_ID):
            console.print(f"{given_up} interrupted run(s) given up.", markup=False)
        yield airflow, api


def _concluded(settings: Settings) -> list[WeekOutcome]:
    if not (settings.home / "store").is_dir() or not open_store(settings.store).names("trust"):
        return []  # nothing was laid out yet
    return conclusions(settings, MODEL)


def _verdict(settings: Settings, week: str) -> str | None:
    of_week = [outcome for outcome in _concluded(settings) if outcome.entry.week == week]
    return of_week[-1].entry.verdict if of_week else None


def _print_verify(settings: Settings) -> None:
    command = f".venv/bin/retraining --home {settings.home} verify"
    console.print(f"Believe none of this, verify it: {command}", markup=False)


def _serve(airflow: Airflow) -> None:
    """Return at Ctrl-C."""
    console.print("Serving until Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            airflow.raise_if_ended()
            time.sleep(1)


def _stop(airflow: Airflow) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave orphans
    console.print("Stopping Airflow, up to 20 seconds.")
    airflow.stop()
    signal.signal(signal.SIGINT, before)


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _fail(message: str) -> NoReturn:
    for line in message.splitlines():
        print(f"demo: {line}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app()
