"""A child inherits nothing, stays within its limits, and dies with its task."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retraining.children import (
    NO_NETWORK,
    ChildLimits,
    ChildOutcome,
    Isolation,
    allow_listed_env,
    network_isolation,
    run_child,
    watch_child,
)
from retraining.errors import ChildError, ConfigError
from retraining.parsing import parse_files
from retraining.spec import CsvFormat
from tests.retraining.small_pipeline import small_spec

_LIMITS = ChildLimits(seconds=20, memory_mib=1024)


def _run(
    code: str,
    folder: Path,
    *arguments: str,
    limits: ChildLimits = _LIMITS,
    on_line: Callable[[str], None] | None = None,
    isolation: Isolation | None = None,
) -> list[str]:
    """Run a piece of Python as a child and return the lines that it printed."""
    lines: list[str] = []
    run_child(
        [sys.executable, "-I", "-c", textwrap.dedent(code), *arguments],
        cwd=folder,
        env=allow_listed_env(),
        limits=limits,
        on_line=on_line or lines.append,
        isolation=isolation,
    )
    return lines


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"  # a zombie is dead, only nobody has looked yet


def _wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


# --- what it inherits -----------------------------------------------------------------------


def test_a_child_sees_the_allow_list_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s3cret")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("LD_PRELOAD_OF_OURS", "s3cret")
    monkeypatch.setenv("TZ", "UTC")

    names = _run("import os; print(*sorted(os.environ), sep='\\n')", tmp_path)

    # CPython itself sets LC_CTYPE where the locale is C.
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}
    allowed |= {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
    assert {"PATH", "TZ"} <= set(names) <= allowed


def test_what_the_caller_adds_to_the_environment_wins(monkeypatch):
    monkeypatch.setenv("HOME", "/home/airflow")

    env = allow_listed_env(HOME=Path("/scratch"), PYTHONPATH="include")

    assert (env["HOME"], env["PYTHONPATH"]) == ("/scratch", "include")


def test_a_child_inherits_no_file_descriptor(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        code = """
            import os
            for descriptor in os.listdir("/proc/self/fd"):
                if os.path.lexists(f"/proc/self/fd/{descriptor}"):
                    print(os.readlink(f"/proc/self/fd/{descriptor}"))
        """

        opened = _run(code, tmp_path)

    assert len(opened) >= 3
    assert str(secret) not in opened


def test_a_child_cannot_read_what_its_task_is_sent(tmp_path):
    saved = os.dup(0)
    (tmp_path / "for the task").write_text("secret")
    with (tmp_path / "for the task").open() as file:
        os.dup2(file.fileno(), 0)
        try:
            assert _run("import sys; print(repr(sys.stdin.read()))", tmp_path) == ["''"]
        finally:
            os.dup2(saved, 0)
            os.close(saved)


def test_a_child_leaves_no_core_file(tmp_path):
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"

    assert _run(code, tmp_path) == ["(0, 0)"]


# --- the network ----------------------------------------------------------------------------

_OURS = Isolation("none", "asked for by a test")
_CONNECT = """
    import socket, sys
    name, port = sys.argv[1:]
    if int(port):
        socket.create_connection((name, int(port)), timeout=5)
    else:
        socket.socket(socket.AF_UNIX).connect("\\0" + name)
    print("connected")
"""


@pytest.fixture
def namespaces() -> None:
    """Skips where the kernel gives no namespaces; children then run without, on record."""
    if network_isolation() != NO_NETWORK:
        pytest.skip(f"network isolation: {network_isolation()}")


@pytest.fixture(params=["tcp", "abstract unix socket"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Listens on this machine, as a database would; gives name and port."""
    if request.param == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            yield "127.0.0.1", str(listening.getsockname()[1])
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"\0retraining-{os.getpid()}")
            listening.listen()
            yield f"retraining-{os.getpid()}", "0"


def test_a_child_reaches_no_server_not_even_on_its_own_machine(tmp_path, namespaces, server):
    assert _run(_CONNECT, tmp_path, *server, isolation=_OURS) == ["connected"]

    with pytest.raises(ChildError, match=r"OSError: .*unreachable|ConnectionRefusedError"):
        _run(_CONNECT, tmp_path, *server)


def test_a_child_without_network_cannot_read_the_environment_of_its_task(tmp_path, namespaces):
    code = "import os; print(len(open(f'/proc/{os.getppid()}/environ', 'rb').read()) > 0)"
    assert _run(code, tmp_path, isolation=_OURS) == ["True"]

    with pytest.raises(ChildError, match="PermissionError"):
        _run(code, tmp_path)


def test_a_child_without_network_is_the_same_user_and_its_files_are_ours(tmp_path, namespaces):
    code = "import os; open('written', 'w'); print(os.getuid(), os.getgid())"

    assert _run(code, tmp_path) == [f"{os.getuid()} {os.getgid()}"]

    found = (tmp_path / "written").stat()
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


def test_where_the_kernel_refuses_children_run_on_record_unless_it_is_demanded(
    tmp_path, namespaces
):
    """In a namespace whose limit on further ones is zero, as a hardened kernel's is."""
    if not shutil.which("unshare"):
        pytest.skip("needs util-linux")
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'

    found = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"),
            *(sys.executable, "-c", textwrap.dedent(_ON_SUCH_A_KERNEL), str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    reason, default, demanded = found.stdout.splitlines()
    assert reason.startswith("none: the kernel does not allow it (unshare: ")
    assert default == "ran"
    assert demanded == "refused"


_ON_SUCH_A_KERNEL = """
    import sys
    from pathlib import Path
    from retraining.children import (
        NO_NETWORK, ChildLimits, allow_listed_env, network_isolation, run_child,
    )
    from retraining.errors import ChildError

    def run(isolation):
        run_child(
            ["/bin/echo", "ran"], cwd=Path(sys.argv[1]), env=allow_listed_env(),
            limits=ChildLimits(seconds=20, memory_mib=512), on_line=print, isolation=isolation,
        )

    print(network_isolation())
    run(None)
    try:
        run(NO_NETWORK)
    except ChildError as error:
        assert "unshare: " in str(error), error
        print("refused")
"""


def test_an_overloaded_machine_is_no_reason_to_do_without_isolation(monkeypatch):
    late = ChildOutcome(-9, timed_out=True, stderr_tail="")
    monkeypatch.setattr("retraining.children.watch_child", lambda *_args, **_options: late)
    network_isolation.cache_clear()

    with pytest.raises(ChildError, match="not known after 60 seconds"):
        network_isolation()


def test_the_parser_of_delivered_bytes_has_no_network(tmp_path, namespaces, monkeypatch):
    """Its interpreter is replaced by one that writes down what networks it sees."""
    seen = tmp_path / "seen"
    script = tmp_path / "python"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *" -m retraining.parsing.child")'
        f' cat /proc/net/dev > {seen};; esac\nexec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    rows = tmp_path / "rows.csv"
    rows.write_text("row_id,size,label\n1,2,ham\n")
    spec = small_spec(features=[{"kind": "number", "name": "size", "min": 0, "max": 9}])

    parsed = parse_files(
        [("rows.csv", rows)],
        table=spec.table,
        file_format=CsvFormat.model_validate({"csv": {}}),
        max_rows=9,
        workdir=tmp_path,
    )

    assert (parsed.n_rows, parsed.n_faulty) == (1, 0)
    interfaces = [line.split(":")[0].strip() for line in seen.read_text().splitlines()[2:]]
    assert interfaces == ["lo"]


# --- limits ---------------------------------------------------------------------------------


def test_a_child_that_never_ends_is_ended_at_its_time_limit(tmp_path):
    started = time.monotonic()

    with pytest.raises(ChildError, match=r"did not finish within 0\.5 seconds"):
        _run("import time; time.sleep(60)", tmp_path, limits=_limits(seconds=0.5))

    assert time.monotonic() - started < 10


def test_a_silent_child_that_closed_its_pipes_is_ended_at_its_time_limit(tmp_path):
    code = "import os, time; os.close(1); os.close(2); time.sleep(60)"

    with pytest.raises(ChildError, match=r"did not finish within 0\.5 seconds"):
        _run(code, tmp_path, limits=_limits(seconds=0.5))


def test_a_child_that_ignores_sigterm_is_ended_at_its_time_limit(tmp_path):
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: time.sleep(1)
    """

    with pytest.raises(ChildError, match="did not finish"):
        _run(code, tmp_path, limits=_limits(seconds=0.5))


def test_a_child_cannot_take_more_memory_than_allowed(tmp_path):
    code = "data = bytearray(600 << 20); print('had it')"

    with pytest.raises(ChildError, match=r"exited with status 1 .*512 MiB.*MemoryError"):
        _run(code, tmp_path, limits=_limits(memory_mib=512))
    assert _run(code, tmp_path, limits=_limits(memory_mib=1024)) == ["had it"]


def test_a_child_has_a_cpu_limit_for_when_nobody_watches(tmp_path):
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CPU)[0])"

    (found,) = _run(code, tmp_path, limits=_limits(seconds=7))

    assert int(found) == 7 * (os.cpu_count() or 1) + 1


@pytest.mark.parametrize(("seconds", "memory_mib"), [(0, 1), (float("inf"), 1), (1, 0)])
def test_limits_that_limit_nothing_are_refused(seconds, memory_mib):
    with pytest.raises(ConfigError):
        ChildLimits(seconds=seconds, memory_mib=memory_mib)


# --- who dies with whom ---------------------------------------------------------------------

_WITH_GRANDCHILD = """
    import subprocess, sys, time
    grandchild = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(60)"])
    print(grandchild.pid, flush=True)
    time.sleep(float(sys.argv[1]))
"""


def test_grandchildren_die_when_the_child_ends_and_hold_nobody_up(tmp_path):
    started = time.monotonic()

    (pid,) = _run(_WITH_GRANDCHILD, tmp_path, "0")

    assert _wait_until(lambda: not _alive(int(pid)))
    assert time.monotonic() - started < 10  # the grandchild holds the pipes open for 60 s


def test_a_chatty_grandchild_holds_nobody_up(tmp_path):
    """Its pipe never runs dry."""
    code = "import subprocess; print(subprocess.Popen(['yes']).pid, flush=True)"
    started = time.monotonic()

    pid = next(line for line in _run(code, tmp_path) if line.isdecimal())

    assert _wait_until(lambda: not _alive(int(pid)))
    assert time.monotonic() - started < 15  # of the 20 s that the child has


def test_grandchildren_die_when_the_time_is_over(tmp_path):
    pids: list[str] = []

    with pytest.raises(ChildError, match="did not finish"):
        _run(_WITH_GRANDCHILD, tmp_path, "60", limits=_limits(seconds=2), on_line=pids.append)

    assert _wait_until(lambda: not _alive(int(pids[0])))


class _Terminated(BaseException):
    """As Airflow's handler of SIGTERM raises in the middle of a task."""


def test_child_and_grandchildren_die_when_the_task_is_terminated(tmp_path):
    pids: list[str] = []

    def terminate(_number, _frame):
        raise _Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:

        def on_line(line: str) -> None:
            pids.append(line)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()

        with pytest.raises(_Terminated):
            _run(_WITH_GRANDCHILD, tmp_path, "60", on_line=on_line)
    finally:
        signal.signal(signal.SIGTERM, previous)

    assert _wait_until(lambda: not _alive(int(pids[0])))


def test_a_child_dies_when_its_task_is_killed(tmp_path):
    """SIGKILL leaves the task no time for anything: the kernel has to do it."""
    task = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_TASK), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert task.stdout is not None
    pid = int(task.stdout.readline())
    assert _alive(pid)

    task.kill()
    task.wait()
    task.stdout.close()

    assert _wait_until(lambda: not _alive(pid))


_TASK = """
    import sys
    from pathlib import Path
    from retraining.children import ChildLimits, allow_listed_env, run_child
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    run_child(
        [sys.executable, "-I", "-c", code],
        cwd=Path(sys.argv[1]), env=allow_listed_env(),
        limits=ChildLimits(seconds=60, memory_mib=1024),
        on_line=lambda line: print(line, flush=True),
    )
"""


def test_the_launcher_starts_nothing_for_a_parent_that_is_gone(tmp_path):
    launcher = Path(sys.modules["retraining.children"].__file__).with_name("child_launcher.py")
    argv = [sys.executable, "-I", "-S", str(launcher), "1", str(1 << 30), "9", "ours"]

    found = subprocess.run([*argv, "/bin/echo", "ran"], capture_output=True, text=True)

    assert (found.returncode, found.stdout) == (1, "")
    assert "The parent is gone" in found.stderr


# --- what it says ---------------------------------------------------------------------------


def test_lines_arrive_while_the_child_still_runs(tmp_path):
    waiting = tmp_path / "go"
    code = """
        import pathlib, sys, time
        print("first", flush=True)
        while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)
        print("second")
    """
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        waiting.touch()

    _run(code, tmp_path, str(waiting), on_line=on_line)

    assert lines == ["first", "second"]


def test_long_lines_are_cut_and_odd_bytes_survive(tmp_path):
    code = r"""
        import sys
        write = sys.stdout.buffer.write
        write(b"a" * 5_000_000 + b"\n\n" + b"\xff\xfe\r\n" + b"no newline")
    """

    long, blank, odd, last = _run(code, tmp_path)

    assert long == "a" * 2000 + "…"
    assert (blank, odd, last) == ("", "\ufffd\ufffd", "no newline")


def test_a_failure_says_status_limits_and_the_end_of_stderr(tmp_path):
    code = "import sys; sys.stderr.write('x' * 100_000 + '\\nno space left\\n'); sys.exit(3)"

    with pytest.raises(ChildError, match=r"exited with status 3 .* no space left") as raised:
        _run(code, tmp_path)

    assert len(str(raised.value)) < 1300
    assert str(raised.value).isprintable()  # so it is one line, too


def test_only_the_end_of_stderr_is_kept(tmp_path):
    outcome = watch_child(
        [sys.executable, "-I", "-c", "import sys; sys.stderr.write('x' * 1_000_000 + 'end')"],
        cwd=tmp_path,
        env=allow_listed_env(),
        limits=_LIMITS,
        on_line=print,
    )

    assert outcome.stderr_tail == "x" * 4093 + "end"


def test_a_death_by_signal_is_told_apart_from_a_failure(tmp_path):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"

    with pytest.raises(ChildError, match=r"was ended by signal 11 \(Segmentation fault\)"):
        _run(code, tmp_path)
    outcome = watch_child(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        env=allow_listed_env(),
        limits=_LIMITS,
        on_line=print,
    )
    assert (outcome.returncode, outcome.timed_out) == (-11, False)


def test_a_program_that_does_not_exist_is_a_failure_with_a_reason(tmp_path):
    with pytest.raises(ChildError, match="No such file"):
        run_child(
            ["/nonexistent/python"],
            cwd=tmp_path,
            env=allow_listed_env(),
            limits=_LIMITS,
            on_line=print,
        )


def test_an_error_in_our_own_reader_ends_the_child(tmp_path):
    def on_line(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match=r"^\d+$") as raised:
        _run(_WITH_GRANDCHILD, tmp_path, "60", on_line=on_line)

    assert _wait_until(lambda: not _alive(int(str(raised.value))))


def _limits(*, seconds: float = 20, memory_mib: int = 1024) -> ChildLimits:
    return ChildLimits(seconds=seconds, memory_mib=memory_mib)
