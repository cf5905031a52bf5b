"""The poisoning bench is asked, and its table is written; a stand-in takes the bench's place."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.screening import BEGIN, DOCS, END, main

# Writes what the bench writes: rows per detector, rows per model, and the ceiling.
RUN = """\
import argparse, csv, json, pathlib, sys

parser = argparse.ArgumentParser()
for name in ("cmd", "detectors", "downstream", "datasets", "attacks"):
    parser.add_argument("--" + name)
for name in ("history", "jobs", "seeds"):
    parser.add_argument("--" + name, type=int)
parser.add_argument("--out")
asked = parser.parse_args()
log = pathlib.Path(__file__).with_name("asked.jsonl")
log.open("a").write(json.dumps(vars(asked)) + "\\n")
if asked.attacks == "broken":
    sys.exit(3)
base = {"dataset": "spam", "seed": 0, "n": 3000}
rows = []
for attack, bad in (("clean", False), ("rare1", True)):
    case = base | {"attack": attack, "poison": 0.01 * bad}
    for name in asked.detectors.split(","):
        rows.append(case | {"detector": name, "sec": 1.0} | ({"r5": 0.25} if bad else {}))
    ours = {"r5": 0.75 if asked.history else 0.5, "held_recall": 0.625} if bad else {}
    rows.append(case | {"detector": "cmd", "sec": 2.0, "held_fpr": 0.0025} | ours)
    for name, asr, acc in (("none", 0.9, 0.81), ("oracle", 0.04, 0.84), ("cmd@held", 0.05, 0.83)):
        success = {"asr": asr} if bad else {}
        rows.append(case | {"detector": "model:" + name, "acc": acc} | success)
    if bad:
        rows.append(case | {"detector": "ceiling", "r5": 1.0})
names = "dataset attack seed n poison detector sec r5 held_recall held_fpr asr acc".split()
with open(asked.out, "w", newline="") as file:
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(rows)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    folder = tmp_path / "bench"
    folder.mkdir()
    (folder / "run.py").write_text(RUN)
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    path = tmp_path / "screening.md"
    path.write_text(f"# Before\n\n{BEGIN}\nan old table\n{END}\n\nAfter.\n")
    return path


def test_the_table_stands_between_the_markers_and_nothing_else_changes(
    bench: Path, docs: Path
) -> None:
    main(["--bench", str(bench), "--docs", str(docs)])

    text = docs.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n") and text.endswith(f"{END}\n\nAfter.\n")
    assert "an old table" not in text
    with_history, without = text.split("### Reference set only")
    assert "### With history" in with_history
    # Recall, both peers, held, clean rows; success and accuracy: none, oracle, ours; seconds.
    poisoned = "| 0.25 | 0.25 | 0.62 | 0.25% | 0.90 | 0.04 | 0.05 | 0.81 | 0.84 | 0.83 | 2.0 |"
    assert f"| rare1 | 0.75 {poisoned}" in with_history
    assert f"| rare1 | 0.50 {poisoned}" in without
    clean = "| clean | - | - | - | - | 0.25% | - | - | - | 0.81 | 0.84 | 0.83 | 2.0 |"
    assert clean in with_history and clean in without

    main(["--bench", str(bench), "--docs", str(docs)])
    assert docs.read_text() == text


def test_the_bench_runs_with_history_and_without_and_slow_peers_only_where_asked(
    bench: Path, docs: Path
) -> None:
    chosen = ["--seeds", "1", "--datasets", "spam", "--attacks", "rare1"]
    main(["--bench", str(bench), "--docs", str(docs)])
    main(["--bench", str(bench), "--docs", str(docs), "--peers", *chosen])

    asked = [json.loads(line) for line in (bench / "asked.jsonl").read_text().splitlines()]
    assert [one["history"] for one in asked] == [3000, 0, 3000, 0]
    assert [one["detectors"] for one in asked] == [
        *["iforest,gated"] * 2,
        "iforest,gated,gap,transplant",
        "iforest,gated",
    ]
    assert {one["jobs"] for one in asked} == {2}
    assert asked[0]["seeds"] is None and asked[0]["datasets"] is None
    assert (asked[2]["seeds"], asked[2]["datasets"], asked[2]["attacks"]) == (1, "spam", "rare1")
    for one in asked:
        assert "retraining screen-table {train} {ref} --history {hist}" in one["cmd"]
    assert "| gap | transplant |" in docs.read_text()


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("", "make bench-screening BENCH_DIR=<folder>"),
        ("empty", "holds no run.py"),
    ],
)
def test_without_a_bench_one_line_says_what_to_do(
    folder: str, says: str, tmp_path: Path, docs: Path
) -> None:
    before = docs.read_text()
    with pytest.raises(SystemExit, match=says) as stopped:
        main(["--bench", folder and str(tmp_path / folder), "--docs", str(docs)])

    assert "\n" not in str(stopped.value)
    assert docs.read_text() == before


def test_a_bench_that_fails_changes_no_docs(bench: Path, docs: Path) -> None:
    before = docs.read_text()
    with pytest.raises(SystemExit, match="status 3"):
        main(["--bench", str(bench), "--docs", str(docs), "--attacks", "broken"])

    assert docs.read_text() == before


def test_docs_without_markers_are_refused_before_hours_of_work(bench: Path, tmp_path: Path) -> None:
    docs = tmp_path / "other.md"
    docs.write_text("no markers")
    with pytest.raises(SystemExit, match="needs one line"):
        main(["--bench", str(bench), "--docs", str(docs)])

    assert not (bench / "asked.jsonl").exists()


def test_the_docs_have_the_markers() -> None:
    text = DOCS.read_text()

    assert text.count(BEGIN) == text.count(END) == 1
