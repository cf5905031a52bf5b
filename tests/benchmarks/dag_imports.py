"""What each DAG file costs Airflow, which executes it again and again.

Every number is the median of several fresh processes, each of which imports `airflow.sdk` and then
executes one file, as the DAG processor does. CPU seconds stand beside the wall clock, because they
are the same on a busy machine.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retraining.settings import REPOSITORY

HEAVY = (
    *("boto3", "dp_accounting", "mlflow", "pandas", "pyarrow", "scipy", "sklearn"),
    "tensorflow",
)
TOGETHER = "all together"
_INHERITED = ("HOME", "LANG", "PATH", "TMPDIR", "TZ")
_PROGRAM = """
import json, runpy, sys, time
def clocks(): return time.perf_counter(), time.process_time()
start = clocks()
import airflow.sdk
middle = clocks()
for path in sys.argv[2:]:
    runpy.run_path(path, run_name="dag_file")
end = clocks()
print(json.dumps({
    "airflow": [b - a for a, b in zip(start, middle)],
    "file": [b - a for a, b in zip(middle, end)],
    "heavy": [name for name in sys.argv[1].split(",") if name in sys.modules],
}))
"""


@dataclass(frozen=True, kw_only=True)
class DagImport:
    """One DAG file, or all of them in one process.

    Attributes:
        airflow_seconds: Wall clock of `import airflow.sdk`.
        seconds: Wall clock of the file after that.
        airflow_cpu_seconds, cpu_seconds: The same in CPU time.
        heavy: Modules that no DAG file should load, and that are there afterwards.
    """

    file: str
    airflow_seconds: float
    seconds: float
    airflow_cpu_seconds: float
    cpu_seconds: float
    heavy: tuple[str, ...]


def measure_dag_imports(airflow_home: Path, *, repeats: int = 5) -> list[DagImport]:
    """Measure each file of `dags/` and all together, with the pipelines that ship."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "RETRAINING_PIPELINES": str(REPOSITORY / "include" / "pipelines"),
    }
    files = sorted((REPOSITORY / "dags").glob("*.py"))
    _execute(files, environment)  # writes Airflow's configuration file, and warms the disk
    measured = [_measure(path.name, [path], environment, repeats) for path in files]
    return [*measured, _measure(TOGETHER, files, environment, repeats)]


def _measure(name: str, files: list[Path], environment: dict[str, str], repeats: int) -> DagImport:
    runs = [_execute(files, environment) for _ in range(repeats)]
    wall, cpu = 0, 1

    def median(part: str, clock: int) -> float:
        return float(statistics.median(run[part][clock] for run in runs))

    return DagImport(
        file=name,
        airflow_seconds=median("airflow", wall),
        seconds=median("file", wall),
        airflow_cpu_seconds=median("airflow", cpu),
        cpu_seconds=median("file", cpu),
        heavy=tuple(sorted({module for run in runs for module in run["heavy"]})),
    )


def _execute(files: list[Path], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, ",".join(HEAVY), *map(str, files)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"A DAG file cannot be executed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
