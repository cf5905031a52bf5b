"""Prints what `make compose-test` sees, with the time since its start."""

import contextlib
import time
from collections.abc import Iterator

_started = time.monotonic()


def say(line: str) -> None:
    """Print one line with the time since the start."""
    print(f"{time.monotonic() - _started:6.0f} s  {line}", flush=True)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took."""
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.0f} s")
