"""What is looked at before anything is installed or started."""

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo import preflight
from retraining.settings import REPOSITORY

PROGRAM = REPOSITORY / "include" / "demo" / "preflight.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), *arguments], capture_output=True, text=True
    )


def test_any_python_3_can_read_it_and_nothing_has_to_be_installed() -> None:
    ast.parse(PROGRAM.read_text(), feature_version=(3, 7))
    assert run("--home", str(REPOSITORY / "workspace")).returncode == 0


def test_a_full_disk_is_said_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_WORKSPACE_GB", 1e9)
    [line] = preflight.problems(tmp_path / "not" / "there" / "yet")
    assert "GB are free at" in line and "--home" in line


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_MEMORY_GB", 1e9)
    [line] = preflight.problems(tmp_path)
    assert line.startswith("Memory: ")


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        [line] = preflight.problems(tmp_path, port)
    assert f"127.0.0.1:{port} is not free" in line
    assert preflight.problems(tmp_path, port) == []


def test_the_program_ends_with_one_line_per_problem() -> None:
    answer = run("--home=/proc/workspace")
    assert answer.returncode == 1
    assert answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert lines and all(line.startswith("demo: Disk: ") for line in lines)
