"""Servers that the demo starts: each in a process group of its own, none left behind."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec nothing may be


class Server:
    """One long-running program; its output goes to a file.

    Args:
        log: Where its output goes; appended to.
    """

    def __init__(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C is for us alone: we end the parts in order.
                start_new_session=True,
                preexec_fn=_end_with_parent,  # we have one thread
            )

    @property
    def returncode(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        return self._process.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM; it may take its time."""
        if self.returncode is None:
            self._process.terminate()

    def end(self, *, deadline: float) -> None:
        """Wait until `deadline` (monotonic seconds), then kill its whole process group."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.1, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_lines(self, n: int = 20) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-n:])


def processes_in(folder: Path) -> list[int]:
    """Every process of ours that works in `folder`, which is how we know what belongs to it.

    Not by its environment: programs that give themselves a title overwrite what /proc shows of it.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == folder and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def kill_processes_in(folder: Path) -> None:
    """Kill what works in `folder` still.

    Parts of Airflow start processes in groups of their own, which no other signal reaches once
    their parent is gone.
    """
    for pid in processes_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def free_port(preferred: int = 0) -> int:
    """A port on loopback that nobody listens on: the preferred one, or any."""
    for port in (preferred, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return int(listener.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
