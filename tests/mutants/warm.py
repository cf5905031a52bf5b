"""Runs pytest in forks of one process that has imported the libraries, but nothing of ours.

Half of what a mutant takes would be imports. What one run imported from elsewhere, this process
imports as well, so that the next run finds it there.

Reads pytest's arguments, a JSON list per line, and answers each with a line: the exit status, null
when the time was over, and what pytest said. Started in the tree that is tested.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

SECONDS_A_RUN = 300

_TREE = Path.cwd()
_SAID, _IMPORTED = _TREE.with_name("said"), _TREE.with_name("imported")


def main() -> None:
    """Serve until there are no more requests."""
    _IMPORTED.touch()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        status = _status_of(child)
        if status is not None:
            _import_what_it_imported()
        print(json.dumps([status, _SAID.read_text(errors="replace")]), flush=True)


def _run(arguments: Sequence[str]) -> NoReturn:
    """Be a pytest that was started for this run alone, and end."""
    os.setsid()
    for stream, path in enumerate((os.devnull, _SAID)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
    os.dup2(1, 2)
    status = pytest.main([*arguments])
    _IMPORTED.write_text("\n".join(name for name in [*sys.modules] if _is_elsewhere(name)))
    sys.exit(status)


def _status_of(child: int) -> int | None:
    """Wait for its end; None when its time was over."""
    ended, _, _ = select.select([handle := os.pidfd_open(child)], [], [], SECONDS_A_RUN)
    os.close(handle)
    if not ended:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


def _is_elsewhere(name: str) -> bool:
    """Whether a module is none of the tree, which the next run may find mutated."""
    file = getattr(sys.modules[name], "__file__", None)
    return file is not None and not Path(file).is_relative_to(_TREE)


def _import_what_it_imported() -> None:
    for name in _IMPORTED.read_text().splitlines():
        if name not in sys.modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


if __name__ == "__main__":
    main()
