"""Limits itself, then becomes the program it was asked for. Started by `children`, by path.

Only the standard library, so that it starts in milliseconds in any interpreter, and so that no
Python code has to run between fork and exec in a task that may have threads.

Usage: child_launcher.py PARENT_PID MEMORY_BYTES CPU_SECONDS PROGRAM [ARGUMENT…]
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CPU_GRACE_SECONDS = 5  # between SIGXCPU and SIGKILL


def main(argv: list[str]) -> None:
    """Set the limits and replace this process."""
    parent, memory_bytes, cpu_seconds = (int(text) for text in argv[:3])
    program = argv[3:]
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed.")
    # The parent may have died before the line above took effect; nobody would end us then.
    if os.getppid() != parent:
        sys.exit("The parent is gone.")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold rows
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + _CPU_GRACE_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    try:
        os.execv(program[0], program)  # noqa: S606 - a list, and no shell to inject into
    except OSError as error:
        sys.exit(f"{program[0]} cannot be started: {error.strerror}.")


if __name__ == "__main__":
    main(sys.argv[1:])
