"""`make bench-attacks` calls an attack stopped only when it was tried and its test passed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import attacks

pytestmark = pytest.mark.slow  # each starts a pytest of its own

_HONEST = """
import pytest
def test_bytes_are_swapped(): pass
@pytest.mark.control
def test_honest_bytes_are_taken(): pass
"""


def run_bench(folder: Path, **files: str) -> tuple[int, str]:
    """Run it on a tree with these files of attacks; exit status and what it printed."""
    target = folder / "tests" / "attacks"
    target.mkdir(parents=True)
    source = Path(attacks.__file__).parents[1] / "attacks" / "conftest.py"
    shutil.copy(source, target)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    control\n    slow\n")
    for name, text in files.items():
        (target / f"test_{name}.py").write_text(text)
    code = (
        "import sys, pathlib; from tests.benchmarks.attacks import main;"
        f" sys.exit(main([], pathlib.Path({str(folder)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=attacks.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_all_stopped(tmp_path: Path) -> None:
    status, said = run_bench(tmp_path, tamperer=_HONEST)
    assert status == 0
    (line,) = [line for line in said.splitlines() if "tamperer" in line and "│" in line]
    assert [cell.strip() for cell in line.strip("│┃ ").split("│")] == [
        *("tamperer", "1", "1", "0", "0", "1 of 1")
    ]


@pytest.mark.parametrize(
    "test",
    [
        "def test_it(): assert False",
        "import pytest\ndef test_it(): pytest.skip('no server')",
        "import pytest\n@pytest.fixture\ndef no(): raise OSError\ndef test_it(no): pass",
        "import pytest\n@pytest.mark.control\ndef test_it(): assert False",
        "import no_such_module",
    ],
    ids=["goes through", "skipped", "not set up", "control fails", "no test"],
)
def test_one_that_was_not_stopped_or_not_tried_fails_the_run(tmp_path: Path, test: str) -> None:
    status, said = run_bench(tmp_path, tamperer=_HONEST, other=test)
    assert status == 1, said


def test_no_attack_at_all_is_no_success(tmp_path: Path) -> None:
    assert run_bench(tmp_path)[0] == 1
