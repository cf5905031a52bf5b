"""What `make bench-weeks` runs: months of weekly batches with attacks in them, and the real steps.

Hours of work, which may be stopped at any time: finished runs stand in `runs.jsonl` of the folder
--out, one line each, and are not done again; what was unfinished starts anew.
"""

import argparse
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console

from retraining.step_requests import code_version
from tests.benchmarks.weeks.attacks import ATTACKS, CLEAN
from tests.benchmarks.weeks.order import in_balanced_order
from tests.benchmarks.weeks.records import RunKey, RunResult, add_run, read_runs, sole_owner
from tests.benchmarks.weeks.running import Plan, run_attack
from tests.benchmarks.weeks.summary import markdown, shown
from tests.benchmarks.weeks.tables import DataSet, load, names_of

DOCS = Path(__file__).resolve().parents[3] / "include" / "docs" / "gate.md"
BEGIN, END = "<!-- bench-weeks: begin -->", "<!-- bench-weeks: end -->"

_WORK = "work"
_SEEDS = 4  # 8 attacks on 8 data sets: 256 attack runs

Run = Callable[[RunKey, DataSet, Plan, Path], RunResult]


def main(arguments: Sequence[str] | None = None, *, plan: Plan = Plan()) -> None:  # noqa: B008
    """Do the runs that are not done, then show what all of them say."""
    asked = _parse(arguments)
    if not asked.data:
        sys.exit("Say where the data sets lie: make bench-weeks DATA_DIR=<folder>.")
    if asked.out is None:
        sys.exit('Say where the runs go: make bench-weeks DATA_DIR=… ARGS="--out <folder>".')
    folder = Path(asked.data)
    if asked.table:
        _require_markers(asked.docs)
    try:
        names = asked.datasets.split(",") if asked.datasets else names_of(folder)
        keys = in_balanced_order(names, _attacks(asked.attacks), range(asked.seeds))
        with sole_owner(asked.out):
            run_all(keys, folder, asked.out, plan, until=_until(asked.until))
    except (ValueError, BlockingIOError) as error:
        found = "another process works in it" if isinstance(error, BlockingIOError) else error
        sys.exit(f"bench-weeks: {asked.out}: {found}")
    runs = read_runs(asked.out)
    Console().print(shown(runs))
    if asked.table:
        text = asked.docs.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        table = f"{head}{BEGIN}\n\n{markdown(runs)}\n\n{END}{rest.split(END)[1]}"
        asked.docs.write_text(table, encoding="utf-8")
        print(f"Written to {asked.docs}.")


def run_all(
    keys: Sequence[RunKey],
    data: Path,
    out: Path,
    plan: Plan,
    *,
    until: datetime | None = None,
    run: Run = run_attack,
) -> None:
    """Do what `out` holds no line of; a run that breaks is on record as broken.

    Args:
        until: No run starts after it.
        run: Does one run in an empty folder.
    """
    work = out / _WORK
    done = {result.key for result in read_runs(out)}
    loaded: dict[str, DataSet] = {}
    for number, key in enumerate(keys, start=1):
        if key in done:
            continue
        if until is not None and datetime.now() >= until:
            break
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        work.mkdir(parents=True)
        if key.dataset not in loaded:
            loaded[key.dataset] = load(key.dataset, data)
        started = time.monotonic()
        try:
            result = run(key, loaded[key.dataset], plan, work)
        except Exception:
            result = _broken(key, traceback.format_exc())
        add_run(out, result)
        state = "broke" if result.broke else "done"
        took = time.monotonic() - started
        print(f"{number} of {len(keys)}  {key}  {state}  {took:.0f} s", flush=True)
    shutil.rmtree(work, ignore_errors=True)


def _broken(key: RunKey, why: str) -> RunResult:
    return RunResult(
        dataset=key.dataset,
        attack=key.attack,
        seed=key.seed,
        code=str(code_version()),
        n_weeks=0,
        rows_a_week=0,
        start=0,
        stop=0,
        n_poison=0,
        broke=why,
    )


def _attacks(asked: str | None) -> list[str]:
    return asked.split(",") if asked else [*ATTACKS, CLEAN]


def _until(text: str | None) -> datetime | None:
    """The next time that the clock shows it."""
    if text is None:
        return None
    hour, minute = (int(part) for part in text.split(":"))
    now = datetime.now()
    then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return then if then > now else then + timedelta(days=1)


def _require_markers(docs: Path) -> None:
    text = docs.read_text(encoding="utf-8") if docs.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"{docs} needs one line '{BEGIN}' and one line '{END}' after it.")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-weeks", description=__doc__)
    parser.add_argument("--data", default="", help="folder of data sets with an INDEX.json")
    parser.add_argument("--out", type=Path, help="folder for runs.jsonl, outside the repository")
    parser.add_argument("--datasets", help="comma list; all that fit without it")
    parser.add_argument("--attacks", help=f"comma list of {', '.join((*ATTACKS, CLEAN))}")
    parser.add_argument("--seeds", type=int, default=_SEEDS, help="how many (%(default)s)")
    parser.add_argument("--until", help="HH:MM; no run starts after it")
    parser.add_argument("--table", action="store_true", help="write the table to the docs")
    parser.add_argument("--docs", type=Path, default=DOCS, help="file to write to (%(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
