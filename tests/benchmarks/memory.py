"""Resident memory of a process and of the processes that it starts, sampled from /proc (Linux)."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_INTERVAL_SECONDS = 0.05
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True)
class Peak:
    """Highest resident memory during one step, MiB.

    Attributes:
        own: Of the process itself.
        child: Of the largest process below it; 0 when there was none.
    """

    own: float
    child: float


class MemorySampler:
    """Looks twenty times a second, from outside, for as long as the context lasts."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: list[tuple[float, float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemorySampler":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def peak(self, started: float, ended: float) -> Peak:
        """Between two moments of the monotonic clock; the last sample before, if none between."""
        within = [sample for sample in self._samples if started <= sample[0] <= ended]
        within = within or [sample for sample in self._samples if sample[0] <= ended][-1:]
        return Peak(
            own=max((own for _, own, _ in within), default=0.0),
            child=max((child for _, _, child in within), default=0.0),
        )

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            children = max((_resident_mib(pid) for pid in _below(self._pid)), default=0.0)
            self._samples.append((time.monotonic(), _resident_mib(self._pid), children))


def _below(pid: int) -> Iterator[int]:
    # A process that ends while we look is no error.
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _below(child)


def _resident_mib(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MIB
    return 0.0
