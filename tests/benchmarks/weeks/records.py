"""What is written down about each run, one JSON line each, so that hours of work can be resumed."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RUNS = "runs.jsonl"


@dataclass(frozen=True, order=True)
class RunKey:
    """What names a run."""

    dataset: str
    attack: str
    seed: int

    def __str__(self) -> str:
        return f"{self.dataset}-{self.attack}-{self.seed}"


@dataclass(kw_only=True)
class WeekResult:
    """What the system did with one week.

    Attributes:
        clean: Nothing that was delivered up to it was poisoned.
        failed, first_failed: Checks of the gate that did not pass, of the last challenger and of
            the first one where there are two: name, verdict, observed.
        refused: Source to the code of its refusal.
        saved: Refused at first, promoted after a purge.
        n_poison, n_poison_trained: Poisoned rows delivered so far, and of these, those that the
            week's last challenger learned from.
        n_clean, n_clean_kept: Truly clean rows that were new this week, and those accepted.
        n_poison_first: The same of its first challenger: what a purge took is the difference.
        n_purged, purged_sources: Rows that purges took out, and sources that went whole.
        p_values, last_p_values: Of the checks of behaviour, of the first and the last challenger.
        success, accuracy: Of the model that serves after the week.
        challenger_success: Of the week's last challenger, promoted or not.
        seconds: Of each step.
        training_seconds: As the trainer counts them, without its start-up; of each training.
    """

    week: int
    clean: bool
    verdict: str
    promoted: bool
    saved: bool = False
    failed: list[list[str]] = field(default_factory=list)
    first_failed: list[list[str]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    n_poison: int = 0
    n_poison_trained: int | None = None
    n_poison_first: int | None = None
    n_purged: int = 0
    purged_sources: list[str] = field(default_factory=list)
    n_clean: int = 0
    n_clean_kept: int = 0
    n_patterns: int = 0
    success: float | None = None
    accuracy: float | None = None
    challenger_success: float | None = None
    p_values: dict[str, float] = field(default_factory=dict)
    last_p_values: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    training_seconds: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class PeerResult:
    """What a peer did: success of each model that it promoted from the attack on."""

    success: list[float] = field(default_factory=list)
    accuracy: float = 0.0


@dataclass(kw_only=True)
class RunResult:
    """One run: one data set, one attack or none, all its weeks.

    Attributes:
        start, stop: Weeks of the attack.
        clean_success: Of private models of the truly clean rows, one per private model.
        plain_success: Of a plain model of the same.
        clean_accuracy: As `clean_success`.
        broke: What went wrong with the run itself; empty when nothing did.
    """

    dataset: str
    attack: str
    seed: int
    code: str
    n_weeks: int
    rows_a_week: int
    start: int
    stop: int
    n_poison: int
    n_probes: int = 0
    target: str | None = None
    weeks: list[WeekResult] = field(default_factory=list)
    peers: dict[str, PeerResult] = field(default_factory=dict)
    clean_success: list[float] = field(default_factory=list)
    plain_success: float | None = None
    clean_accuracy: list[float] = field(default_factory=list)
    plain_accuracy: float | None = None
    seconds: float = 0.0
    broke: str = ""

    @property
    def key(self) -> RunKey:
        """Which run it is."""
        return RunKey(self.dataset, self.attack, self.seed)

    def to_line(self) -> str:
        """One line of JSON; five digits are more than any figure shows."""
        return json.dumps(_rounded(asdict(self)), sort_keys=True)

    @classmethod
    def from_line(cls, line: str) -> "RunResult":
        """Read such a line; raises ValueError when it was cut off."""
        raw: dict[str, Any] = json.loads(line)
        raw["weeks"] = [WeekResult(**week) for week in raw["weeks"]]
        raw["peers"] = {name: PeerResult(**peer) for name, peer in raw["peers"].items()}
        return cls(**raw)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: _rounded(found) for name, found in value.items()}
    return [_rounded(found) for found in value] if isinstance(value, list) else value


def read_runs(folder: Path) -> list[RunResult]:
    """Finished runs; a last line that was cut off by a kill is not one."""
    path = folder / RUNS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # Every finished line ends in a newline, so what follows the last one is not finished.
    return [RunResult.from_line(line) for line in lines[:-1] if line]


def add_run(folder: Path, result: RunResult) -> None:
    """Append a finished run; it is on the disk when this returns."""
    path = folder / RUNS
    finished = path.read_bytes() if path.exists() else b""
    whole = finished[: finished.rfind(b"\n") + 1]
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(len(whole))
        file.seek(len(whole))
        file.write(result.to_line().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold the folder for one process.

    Raises:
        BlockingIOError: Another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
