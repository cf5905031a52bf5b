"""What `make bench-weeks` runs: every run once, resumable, and the table of what came of them."""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.weeks.attacks import draw_attacks
from tests.benchmarks.weeks.layout import cut
from tests.benchmarks.weeks.runs import CLEAN, SIZES, Asked, do_run
from tests.benchmarks.weeks.summary import markdown, summarised
from tests.benchmarks.weeks.tables import RealTable, load_tables

RESULTS = "runs.jsonl"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that the results file lacks, in an order that a part of them is balanced."""
    asked = _parse(arguments)
    if not asked.data:
        sys.exit("Say where the tables lie: make bench-weeks DATA_DIR=<folder with INDEX.json>.")
    if not (Path(asked.data) / "INDEX.json").is_file():
        sys.exit(f"{asked.data} holds no INDEX.json; DATA_DIR must be a folder of tables with one.")
    asked.out.mkdir(parents=True, exist_ok=True)
    results = asked.out / RESULTS
    tables = {table.name: table for table in load_tables(Path(asked.data), asked.tables)}
    done = {record["key"] for record in read(results)}
    started = time.monotonic()
    for number, run in enumerate(_runs(tables, asked.seeds, asked.attacks)):
        if run.key in done or number % asked.parts != asked.part:
            continue
        if asked.minutes and time.monotonic() - started > 60 * asked.minutes:
            break
        record = do_run(run, tables[run.table])
        with results.open("a", encoding="utf-8") as file:  # one write: several parts may share it
            file.write(json.dumps(record) + "\n")
        verdicts = " ".join(week["verdict"] for week in record["weeks"])
        print(f"{run.key}: {verdicts}", flush=True)
    found = list(read(results))
    if found:
        print(markdown(summarised(found)))


def read(path: Path) -> Iterator[dict[str, object]]:
    """Every finished run; a line that a kill cut off is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _runs(tables: dict[str, RealTable], seeds: int, wanted: Sequence[str]) -> list[Asked]:
    names = [CLEAN]
    some = next(iter(tables.values()))
    names += [a.name for a in draw_attacks(some, cut(some, 6, SIZES, 0).holdout, 0)]
    chosen = [name for name in names if name in (wanted or names)]
    runs = [
        Asked(table, attack, seed)
        for seed, table, attack in itertools.product(range(seeds), tables, chosen)
    ]
    # Shuffled within a seed: wherever it is stopped, tables and attacks are about as frequent.
    order = np.random.default_rng(0).permutation(len(runs))
    return sorted((runs[place] for place in order), key=lambda run: run.seed)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-weeks", description=__doc__)
    parser.add_argument("--data", default="", help="folder of tables with an INDEX.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; resumed")
    parser.add_argument("--tables", nargs="*", default=(), help="only these")
    parser.add_argument("--attacks", nargs="*", default=(), help="only these, or clean")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=0, help="start no run after so many")
    parser.add_argument("--part", type=int, default=0, help="of --parts, counted from 0")
    parser.add_argument("--parts", type=int, default=1, help="processes that share the runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
