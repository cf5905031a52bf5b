"""What `make bench-screening` runs: the poisoning bench, and its table in the docs.

The bench is a folder that the reader has: its `run.py` poisons real tables in known ways, asks a
command which rows it would hold, and trains a model on what is left. It runs twice: with rows that
were accepted in earlier weeks, and with a reference set alone.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).resolve().parents[2] / "include" / "docs" / "screening.md"
BEGIN, END = "<!-- bench-screening: begin -->", "<!-- bench-screening: end -->"

_HISTORY_ROWS = 3000
_JOBS = 2
_PEERS, _PEERS_OF_HISTORY = ("iforest", "gated"), ("gap", "transplant")
_SCREEN = (
    f"{shlex.quote(str(Path(sys.executable).with_name('retraining')))}"
    " screen-table {train} {ref} --history {hist} --kind {kind} --out {out}"
)
_OURS, _OUR_MODEL = "cmd", "model:cmd@held"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench, and write what it measured between the markers of the docs."""
    asked = _parse(arguments)
    if not asked.bench:
        sys.exit("Say where the poisoning bench lies: make bench-screening BENCH_DIR=<folder>.")
    run = Path(asked.bench).resolve() / "run.py"
    if not run.is_file():
        sys.exit(f"{run.parent} holds no run.py; BENCH_DIR must be the poisoning bench's folder.")
    before = asked.docs.read_text(encoding="utf-8") if asked.docs.is_file() else ""
    if before.count(BEGIN) != 1 or before.count(END) != 1:
        sys.exit(f"{asked.docs} needs one line '{BEGIN}' and one line '{END}' after it.")
    parts = []
    for title, history in (("With history", _HISTORY_ROWS), ("Reference set only", 0)):
        found = _measure(run, asked, history)
        parts.append(f"### {title}\n\n{sentence(found, history)}\n\n{table(found)}")
    asked.docs.write_text(between_markers(before, "\n\n".join(parts)), encoding="utf-8")
    print(f"Written to {asked.docs}.")


def sentence(found: pd.DataFrame, history: int) -> str:
    """What was run, as the head of its table."""
    cases = found[["dataset", "attack", "seed"]].drop_duplicates()
    earlier = f"{history:,} rows of earlier weeks and " if history else ""
    return (
        f"{len(cases)} cases of {found['n'].min():,} to {found['n'].max():,} rows, judged against"
        f" {earlier}a reference set. Data sets: {', '.join(cases['dataset'].unique())}; seeds:"
        f" {cases['seed'].nunique()}. Means over data sets and seeds; recall and success are shares"
        " of poisoned rows and of probes, s the seconds of a whole command."
    )


def table(found: pd.DataFrame) -> str:
    """Markdown: one line per attack, from the rows of the bench's `results.csv`."""
    ours = _means(found[found["detector"] == _OURS])
    peers = [name for name in (*_PEERS, *_PEERS_OF_HISTORY) if name in set(found["detector"])]
    columns = {"recall at 5%": ours["r5"]}
    columns |= {name: _means(found[found["detector"] == name])["r5"] for name in peers}
    columns |= {"recall of held": ours["held_recall"], "clean rows held": 100 * ours["held_fpr"]}
    models = {"none": "model:none", "oracle": "model:oracle", "ours": _OUR_MODEL}
    for title, value in (("success", "asr"), ("accuracy", "acc")):
        for name, model in models.items():
            columns[f"{title}, {name}"] = _means(found[found["detector"] == model])[value]
    columns["s"] = ours["sec"]
    shown = pd.DataFrame(columns).reindex(ours.index)
    lines = ["| attack | " + " | ".join(shown.columns) + " |", "| --- " * (1 + len(columns)) + "|"]
    for attack, values in shown.iterrows():
        cells = [_cell(name, value) for name, value in values.items()]
        lines.append(f"| {attack} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def between_markers(text: str, content: str) -> str:
    """The text with that content between its markers."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{content}\n\n{END}{rest.split(END)[1]}"


def _measure(run: Path, asked: argparse.Namespace, history: int) -> pd.DataFrame:
    peers = _PEERS + (_PEERS_OF_HISTORY if asked.peers and history else ())
    chosen = {"datasets": asked.datasets, "attacks": asked.attacks, "seeds": asked.seeds}
    with tempfile.TemporaryDirectory(prefix="retraining-bench-") as folder:
        out = Path(folder) / "results.csv"
        command = [sys.executable, str(run), "--cmd", _SCREEN, "--detectors", ",".join(peers)]
        command += ["--downstream", _OURS, "--history", str(history), "--jobs", str(_JOBS)]
        command += ["--out", str(out)]
        command += [part for n, v in chosen.items() if v is not None for part in (f"--{n}", str(v))]
        if status := subprocess.run(command, check=False).returncode:
            sys.exit(f"The bench ended with status {status}; its last lines stand above.")
        return pd.read_csv(out)


def _means(found: pd.DataFrame) -> pd.DataFrame:
    columns = ["r5", "held_recall", "held_fpr", "asr", "acc", "sec"]
    numbers = found.reindex(columns=["attack", *columns])
    return numbers.groupby("attack", sort=False).mean()


def _cell(column: object, value: float) -> str:
    if pd.isna(value):
        return "-"
    if column == "clean rows held":
        return f"{value:.2f}%"
    return f"{value:.1f}" if column == "s" else f"{value:.2f}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-screening", description=__doc__)
    parser.add_argument("--bench", default="", help="the poisoning bench's folder")
    parser.add_argument("--datasets", help="comma list; all without it")
    parser.add_argument("--attacks", help="comma list; all without it")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="with history, run the bench's gap and transplant as well: they take long",
    )
    parser.add_argument("--docs", type=Path, default=DOCS, help="file to write to (%(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
