"""Isolates and limits itself, then becomes the program it was asked for. Started by `children`.

Only the standard library, so that it starts in milliseconds in any interpreter, and so that no
Python code has to run between fork and exec in a task that may have threads.

Usage: child_launcher.py PARENT_PID MEMORY_BYTES CPU_SECONDS NETWORK PROGRAM [ARGUMENT…]

NETWORK is `none` or `ours`. `none` is a demand: where it cannot be met, nothing is started.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CLONE_NEWUSER = 0x1000_0000  # linux/sched.h
_CLONE_NEWNET = 0x4000_0000
_CPU_GRACE_SECONDS = 5  # between SIGXCPU and SIGKILL


def main(argv: list[str]) -> None:
    """Leave the network where asked, set the limits, and replace this process."""
    parent, memory_bytes, cpu_seconds = (int(text) for text in argv[:3])
    network, program = argv[3], argv[4:]
    if network != "ours":
        try:
            _leave_the_network()
        except OSError as error:
            # The last line of stderr is what `children` records as the reason.
            sys.exit(f"{error.filename}: {error.strerror}")
    # After the namespaces, because the kernel forgets it when credentials change (prctl(2)).
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


def _leave_the_network() -> None:
    """Move into network and user namespaces of our own; raise OSError where we may not.

    The new network has one interface, loopback, and it is down (network_namespaces(7)). The user
    namespace is what lets a process without privileges make it. User and group are mapped to
    themselves, so that files stay ours and nobody becomes root who was not.
    """
    if sys.platform != "linux":
        raise OSError(0, "only Linux has network namespaces", sys.platform)
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/setgroups", "deny")  # without it gid_map is refused (user_namespaces(7))
    _write("/proc/self/gid_map", f"{group} {group} 1")


def _write(path: str, text: str) -> None:
    # In one write, unbuffered, as the kernel demands; and so that an error names the file.
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(handle)


if __name__ == "__main__":
    main(sys.argv[1:])
