"""Child processes that inherit nothing, stay within limits, and die with their task.

Two programs run outside our own process: the first parser of bytes that a provider delivered, and
the trainer. A task's environment holds Airflow's JWT and Fernet secrets, so a child gets an
allow-list; a task can be killed at any moment, so a child dies with it:

* task ends, raises or is terminated: the child's whole process group is killed in `finally`;
* task is killed with SIGKILL: the kernel kills the child (PR_SET_PDEATHSIG, Linux), but not the
  processes that it started itself. Our two programs start none.

Neither program needs a network, so where the kernel allows, a child gets one of its own with
nothing in it: what took over a parser or the trainer could send no row away, and reach no service
of ours. The user namespace that this takes also keeps it from `/proc/<task>/environ`, which any
other process of the same user may read.

Not covered: a child that leaves its process group on purpose, sockets that are files, and kernels
that allow no user namespaces (a container under Docker's default seccomp profile). There, keep
the task's own container off the network, and run workers of untrusted sources under a user of
their own.
"""

import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal

from retraining.errors import ChildError, ConfigError

_LAUNCHER = Path(__file__).with_name("child_launcher.py")
_INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"),
    *("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
)
_MAX_LINE_CHARACTERS = 2000
_MAX_STDERR_BYTES = 4096  # the end of it is kept
_READ_BYTES = 1 << 16
_POLL_SECONDS = 0.2  # how soon we see that a child ended whose own children hold its pipes open
_MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """What one child may use.

    Attributes:
        seconds: Wall-clock time.
        memory_mib: Address space (RLIMIT_AS), the one limit on memory that Linux enforces for
            every kind of mapping. Code and reserved ranges count too, so leave room: an idle
            TensorFlow takes about 2,000 MiB, an idle pyarrow 400 MiB.
    """

    seconds: float
    memory_mib: int

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf or self.memory_mib < 1:
            raise ConfigError(
                f"Expected limits above zero, got {self.seconds} s and {self.memory_mib} MiB."
            )


@dataclass(frozen=True)
class Isolation:
    """What keeps a child from the network.

    Attributes:
        network: `network namespace`: it has none. `none`: it has ours.
        reason: Why there is none.
    """

    network: Literal["network namespace", "none"]
    reason: str = ""

    def __str__(self) -> str:
        """As a record says it."""
        return f"{self.network}: {self.reason}" if self.reason else self.network


NO_NETWORK = Isolation("network namespace")


@dataclass(frozen=True)
class ChildOutcome:
    """How a child ended.

    Attributes:
        returncode: Exit status; -n when signal n ended it.
        timed_out: We ended it, because its wall-clock time was over.
        stderr_tail: The last 4 KiB of stderr. May quote what the child was reading.
    """

    returncode: int
    timed_out: bool
    stderr_tail: str


def allow_listed_env(**extra: str | Path) -> dict[str, str]:
    """Environment for a child: a few harmless variables of ours, then `extra`."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {name: str(value) for name, value in extra.items()}


@cache
def network_isolation() -> Isolation:
    """What the kernel allows us, found by trying it once per process.

    Raises:
        ChildError: Trying took too long, so nothing is known; only a refusal is one.
    """
    limits = ChildLimits(seconds=60, memory_mib=1024)
    tried = watch_child(
        [sys.executable, "-I", "-S", "-c", ""],
        cwd=Path("/"),
        env=allow_listed_env(),
        limits=limits,
        on_line=lambda _line: None,
        isolation=NO_NETWORK,
    )
    if tried.timed_out:
        raise ChildError(
            f"Whether children get no network was not known after {limits.seconds:g} seconds,"
            " expected milliseconds. Nothing was started; the machine is overloaded, try again."
        )
    if tried.returncode == 0:
        return NO_NETWORK
    said = tried.stderr_tail.strip().splitlines()[-1:] or [f"status {tried.returncode}"]
    return Isolation("none", f"the kernel does not allow it ({said[0][:_MAX_REASON_CHARACTERS]})")


def run_child(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: ChildLimits,
    on_line: Callable[[str], None],
    isolation: Isolation | None = None,
) -> None:
    """Run a program to its end.

    Args:
        argv: Program, by path, and its arguments.
        cwd: Folder to start in.
        env: Its whole environment; start from `allow_listed_env`.
        limits: Time and memory.
        on_line: Gets each line of stdout as it comes, cut at 2,000 characters.
        isolation: A demand: the child is started under it or not at all. Without it, whatever
            `network_isolation` found.

    Raises:
        ChildError: It was ended by a limit or a signal, or failed. The message ends with the last
            lines of stderr, so use this for programs that never write rows there.
    """
    outcome = watch_child(
        argv, cwd=cwd, env=env, limits=limits, on_line=on_line, isolation=isolation
    )
    name, code = Path(argv[0]).name, outcome.returncode
    if outcome.timed_out:
        found = f"did not finish within {limits.seconds:g} seconds and was ended"
    elif code < 0:
        found = f"was ended by signal {-code} ({signal.strsignal(-code)})"
    elif code > 0:
        found = f"exited with status {code}"
    else:
        return
    tail = " | ".join(line.strip() for line in outcome.stderr_tail.splitlines() if line.strip())
    raise ChildError(
        f"The child {name} {found} (limits: {limits.seconds:g} s, {limits.memory_mib} MiB)."
        + (f" It last said: {tail[-1000:]}" if tail else "")
    )


def watch_child(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: ChildLimits,
    on_line: Callable[[str], None],
    isolation: Isolation | None = None,
) -> ChildOutcome:
    """As `run_child`, but report how the child ended instead of raising."""
    # All cores for the whole time: never reached before the wall-clock limit, unless the parent
    # itself is stopped and watches nothing.
    cpu_seconds = math.ceil(limits.seconds) * (os.cpu_count() or 1) + 1
    network = "none" if (isolation or network_isolation()) == NO_NETWORK else "ours"
    settings = [str(os.getpid()), str(limits.memory_mib << 20), str(cpu_seconds), network]
    deadline = time.monotonic() + limits.seconds
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LAUNCHER), *settings, *map(str, argv)],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        close_fds=True,
        start_new_session=True,
    )
    try:
        timed_out, tail = _follow(child, deadline, on_line)
    finally:
        _kill_group(child)
        returncode = child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    return ChildOutcome(returncode, timed_out, tail.decode(errors="replace"))


def _follow(
    child: subprocess.Popen[bytes], deadline: float, on_line: Callable[[str], None]
) -> tuple[bool, bytes]:
    """Read both pipes until the child ends or its time is over; return (timed out, stderr)."""
    lines, tail = _Lines(on_line), bytearray()

    def read(pipe: IO[bytes]) -> bool:
        data = os.read(pipe.fileno(), _READ_BYTES)
        if pipe is child.stdout:
            lines.feed(data)
        else:
            tail.extend(data)
            del tail[:-_MAX_STDERR_BYTES]
        return bool(data)

    with selectors.DefaultSelector() as selector:
        for pipe in (child.stdout, child.stderr):
            selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]
        while True:
            if ended := _ended(child):
                _kill_group(child)  # its own children would keep the pipes open
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return not ended, bytes(tail)
            events = selector.select(0 if ended else min(remaining, _POLL_SECONDS))
            if ended and not events:
                break
            for key, _ in events:
                if not read(key.fileobj):  # type: ignore[arg-type]
                    selector.unregister(key.fileobj)
    lines.end()
    return False, bytes(tail)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and what it started. Only before it is reaped: its number may be reused."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child ended; it is left to be reaped."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, child.pid, flags) is not None


class _Lines:
    """Cuts a stream into lines of bounded length."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._line = bytearray()

    def feed(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._keep(part)
            self.end(blank=True)
        self._keep(rest)

    def end(self, *, blank: bool = False) -> None:
        if self._line or blank:
            text = self._line.decode(errors="replace").rstrip("\r")
            self._line.clear()
            if len(text) > _MAX_LINE_CHARACTERS:
                text = text[:_MAX_LINE_CHARACTERS] + "…"
            self._on_line(text)

    def _keep(self, part: bytes) -> None:
        # Up to four bytes are one character; one more than the limit says that it was cut.
        self._line += part[: 4 * (_MAX_LINE_CHARACTERS + 1) - len(self._line)]
