"""One demo per workspace, and no wiping of a folder that is not one."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.layout import MODELS
from retraining.errors import ConfigError

_MARKER = ".secure-retraining-demo"


@contextlib.contextmanager
def own_workspace(home: Path, *, fresh: bool) -> Iterator[None]:
    """Hold the workspace for this process; wipe it first when `fresh`.

    Raises:
        ConfigError: Another demo runs there, no demo made the folder, or `fresh` would wipe what
            belongs to somebody's own model.
    """
    marker = home / _MARKER
    if home.exists() and any(home.iterdir()) and not marker.exists():
        raise ConfigError(
            f"{home} is not empty and no demo made it, so it is left alone. Give another folder,"
            " such as --home workspace-demo."
        )
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with marker.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"Another demo runs in {home}. Stop it, or give another folder with --home."
            ) from error
        if fresh:
            _refuse_other_models(home)
            for entry in home.iterdir():
                if entry == marker:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        yield


def _refuse_other_models(home: Path) -> None:
    data = home / "data"
    others = sorted({p.name for p in data.iterdir()} - set(MODELS)) if data.is_dir() else []
    if others:
        raise ConfigError(
            f"{home} also holds data and keys of {others}, which --fresh would wipe. Move them"
            " away, or give another folder, such as --home workspace-demo."
        )


class Notebook:
    """What the demo noted for its own table: run ids and seconds. Nobody decides by it."""

    def __init__(self, home: Path) -> None:
        self._path = home / "demo.json"
        self._notes: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._notes = dict(json.loads(self._path.read_text()))

    def note(self, week: str, *, run_id: str, seconds: float | None = None) -> None:
        """Remember which run a week has, and how long it took once it ended."""
        self._notes[week] = {"run_id": run_id, "seconds": seconds}
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(self._notes, indent=1))
        unfinished.replace(self._path)

    def seconds(self) -> dict[str, float]:
        """Week to the seconds that it took."""
        return {w: float(n["seconds"]) for w, n in self._notes.items() if n["seconds"] is not None}

    def run_id(self, week: str) -> str | None:
        """Airflow's name of the run that concluded the week."""
        noted = self._notes.get(week)
        return str(noted["run_id"]) if noted else None
