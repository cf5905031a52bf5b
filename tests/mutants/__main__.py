"""Takes each check out once and sees its test go red: `make mutants`.

A test that stays green without the check that it is about proves nothing. Each row of the table is
one check, the text that switches it off, and the tests that have to notice. It runs in a copy of
the tree with an environment of its own, so that child processes are mutated too; nothing here
touches the working tree.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

from tests.mutants.approvals import APPROVALS
from tests.mutants.behaviour import BEHAVIOUR
from tests.mutants.gate import GATE
from tests.mutants.gate_report import GATE_REPORT
from tests.mutants.incident import INCIDENTS
from tests.mutants.mutant import Mutant
from tests.mutants.production import PRODUCTION
from tests.mutants.purge import PURGE
from tests.mutants.reviews import REVIEWS
from tests.mutants.weekly import WEEKLY

MUTANTS = (
    *WEEKLY,
    *PRODUCTION,
    *REVIEWS,
    *GATE,
    *PURGE,
    *APPROVALS,
    *BEHAVIOUR,
    *GATE_REPORT,
    *INCIDENTS,
)
ROOT = Path(__file__).resolve().parents[2]


class Bench:
    """A copy of the tree with an interpreter whose packages come from it."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        for name in ("include", "tests", "dags"):
            ignored = shutil.ignore_patterns("__pycache__", "images")
            shutil.copytree(ROOT / name, self.tree / name, ignore=ignored)
        for name in ("pyproject.toml", "requirements.lock", "requirements-trainer.lock"):
            shutil.copy(ROOT / name, self.tree / name)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        packages = folder / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        paths = f"{self.tree}/include\n{sysconfig.get_paths()['purelib']}\n"
        (packages / "site-packages" / "mutants.pth").write_text(paths)
        self._warm = subprocess.Popen(
            [python, "-m", "tests.mutants.warm"],
            cwd=self.tree,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "STRICT": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def pytest(self, test: str, only: str) -> tuple[int | None, str]:
        """Run the tests of one mutant; return exit status, None after too long, and output."""
        options = ["-q", "-x", "-p", "no:cacheprovider", "--tb=line"]
        arguments = [*options, "-m", "not trainer and not airflow", test, "-k", only]
        print(json.dumps(arguments), file=self._warm.stdin, flush=True)
        status, said = json.loads(self._warm.stdout.readline())
        return status, said

    def close(self) -> None:
        """End its process."""
        self._warm.communicate()

    def survives(self, mutant: Mutant) -> str:
        """Why the mutant was not noticed; empty when its test went red."""
        folder = self.tree / "include" / "retraining"
        originals = {folder / file: (folder / file).read_text() for file, _, _ in mutant.edits}
        mutated = dict(originals)
        for file, old, new in mutant.edits:
            mutated[folder / file] = mutated[folder / file].replace(old, new)
        for path, text in mutated.items():
            path.write_text(text)
        try:
            status, said = self.pytest(mutant.test, mutant.only)
        finally:
            for path, text in originals.items():
                path.write_text(text)
        if status is None:
            return ""  # a check against waiting for ever, seen to be missed
        if status == 1 and " failed" in said:
            return ""
        last = (said.strip().splitlines() or ["nothing"])[-1]
        return f"pytest ended with {status}: {last}"


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    return int(number), max(int(of), 1)


def _stale(mutant: Mutant) -> list[str]:
    """What is wrong with the texts of a mutant, which stand exactly once each."""
    folder = ROOT / "include" / "retraining"
    counts = [(file, (folder / file).read_text().count(old)) for file, old, _ in mutant.edits]
    return [
        f"{mutant.check}: its text stands {found} times in {file}"
        for file, found in counts
        if found != 1
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay the table; exit status 1 when a mutant survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutants whose check contains this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--part",
        type=_part,
        default=(0, 1),
        metavar="K/N",
        help="every Nth mutant, from the Kth (modulo N) on",
    )
    options = parser.parse_args(arguments)
    if stale := [line for mutant in MUTANTS for line in _stale(mutant)]:
        sys.exit("These mutants no longer fit the code; correct the table:\n" + "\n".join(stale))
    first, step = options.part
    chosen = [mutant for mutant in MUTANTS[first % step :: step] if options.only in mutant.check]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ExitStack() as stack:
        benches: Queue[Bench] = Queue()
        for number in range(min(options.jobs, len(chosen))):
            benches.put(bench := Bench(Path(folder) / str(number)))
            stack.callback(bench.close)

        def run(mutant: Mutant) -> str:
            bench = benches.get()
            try:
                return bench.survives(mutant)
            finally:
                benches.put(bench)

        survived = 0
        with ThreadPoolExecutor(max(options.jobs, 1)) as pool:
            for mutant, why in zip(chosen, pool.map(run, chosen), strict=True):
                survived += bool(why)
                state = f"SURVIVED: {why}" if why else "noticed"
                print(f"{mutant.check:50} {mutant.test.rpartition('/')[2]:32} {state}", flush=True)
    print(f"{len(chosen) - survived} passed, {survived} failed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
