"""Looks before anything is installed or started: is there room, and what will this take?

`make demo` runs it twice, first by path with whatever Python 3 the machine has, before 3 GB are
installed. So it uses the standard library only, and no syntax newer than Python 3.7.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import socket
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENTS = (".venv", ".venv-trainer")

# Measured on two cores: both environments, uv's cache of them, a workspace with three weeks.
_ENVIRONMENTS_GB = 3.0
_CACHE_GB = 1.5
_WORKSPACE_GB = 0.5
# Airflow's parts take 1.3 GB, the trainer 0.7, two tasks at once 0.6.
_MEMORY_GB = 3.0
_GB = 1e9


def installed() -> bool:
    """Whether both environments are there."""
    return all((REPOSITORY / name / "bin" / "python").exists() for name in ENVIRONMENTS)


def statement(seen_before: bool) -> str:
    """How long it takes and how large it is, in one line."""
    if seen_before:
        return "Everything was run before: about half a minute until Airflow's pages are up."
    if installed():
        return "About 4 minutes on two cores, 0.5 GB on disk, 3 GB of memory while it runs."
    return (
        "About 6 minutes on two cores: two environments (3 GB on disk), then three weeks under"
        " Airflow (0.5 GB on disk, 3 GB of memory while it runs)."
    )


def problems(home: Path, port: int = 0) -> list[str]:
    """Everything that would stop the demo later, one line each; empty when it can start.

    Args:
        home: Where the workspace will be.
        port: Of Airflow's pages; 0: any.
    """
    found = _disk(home) + _memory() + _port(port)
    if installed():
        found += _openmp()
    return found


def remarks() -> list[str]:
    """What is worth knowing and stops nothing, one line each."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) == ("Linux", "x86_64"):
        return []
    return [
        f"Verified on Linux x86_64 only; this is {system} {machine}, where nobody has tried it."
    ]


def _disk(home: Path) -> list[str]:
    needed = {REPOSITORY: 0.0 if installed() else _ENVIRONMENTS_GB + _CACHE_GB}
    there = _existing(home)
    same = there.stat().st_dev == REPOSITORY.stat().st_dev
    at = REPOSITORY if same else there
    needed[at] = needed.get(at, 0.0) + _WORKSPACE_GB
    lines = []
    for folder, gigabytes in needed.items():
        free = shutil.disk_usage(str(folder)).free / _GB
        if free < gigabytes:
            lines.append(
                f"Disk: {free:.1f} GB are free at {folder}, {gigabytes:.1f} GB are needed."
                " Free some, or give another folder with --home."
            )
    if not os.access(str(there), os.W_OK):
        lines.append(f"Disk: {there} cannot be written to. Give another folder with --home.")
    return lines


def _memory() -> list[str]:
    available = _available_memory()
    if available is None or available >= _MEMORY_GB * _GB:
        return []
    return [
        f"Memory: {available / _GB:.1f} GB are available, {_MEMORY_GB:.0f} GB are needed. Close"
        " something, or use a larger machine."
    ]


def _available_memory() -> int | None:
    """Bytes that a new program may use, of the machine and of our control group; None: unknown."""
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
    except OSError:
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            limits.append(int(limit) - used)
    except (OSError, ValueError):
        pass  # no control group, or an old kernel
    return min(limits) if limits else None


def _port(port: int) -> list[str]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            return [f"Port: 127.0.0.1:{port} is not free ({error.strerror}). Give another --port."]
    return []


def _openmp() -> list[str]:
    """LightGBM takes the system's OpenMP; its wheels bring none."""
    if ctypes.util.find_library("gomp"):
        return []
    return ["libgomp is missing, LightGBM needs it (Debian, Ubuntu: apt install libgomp1)."]


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def main() -> None:
    """Say what will happen, or why it cannot; exit status 1 then."""
    arguments = sys.argv[1:]
    home = Path("workspace")
    for position, argument in enumerate(arguments):
        if argument == "--home" and position + 1 < len(arguments):
            home = Path(arguments[position + 1])
        elif argument.startswith("--home="):
            home = Path(argument[len("--home=") :])
    found = problems(home)
    for line in found:
        sys.stderr.write("demo: " + line + "\n")
    if found:
        sys.exit(1)
    if not installed():
        sys.stdout.write(statement(seen_before=False) + "\n")


if __name__ == "__main__":
    main()
