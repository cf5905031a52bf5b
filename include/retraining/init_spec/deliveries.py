"""Finds the sources of a newcomer's inbox: one folder each, with files or folders per ISO week."""

import re
from dataclasses import dataclass
from pathlib import Path

from retraining.errors import ConfigError
from retraining.init_spec.tables import SUFFIXES, count_rows, read_table
from retraining.spec import Format

_WEEK = re.compile(r"\d{4}-W(0[1-9]|[1-4]\d|5[0-3])")
_LAYOUT = (
    "Expected one folder per source with a file per week, such as"
    " mail_gateway/2026-W07.parquet (or .csv), or a folder mail_gateway/2026-W07/ with files in it."
)


@dataclass(frozen=True, kw_only=True)
class FoundSource:
    """One source, as its files show it.

    Attributes:
        uri: With `{week}` in it.
        weeks: Week to its delivery, a file or a folder; oldest first.
        columns: Of its newest file.
        largest: Bytes and rows of its largest week; and rows of the smallest.
    """

    name: str
    uri: str
    format: Format
    weeks: dict[str, Path]
    columns: tuple[str, ...]
    max_bytes: int
    max_rows: int
    min_rows: int


def find_sources(inbox: Path, home: Path) -> list[FoundSource]:
    """Look at every folder of `inbox`.

    Raises:
        ConfigError: There is none, or a folder mixes file types or layouts.
    """
    if not inbox.is_dir():
        raise ConfigError(f"{inbox} is no folder. {_LAYOUT}")
    folders = sorted(p for p in inbox.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [source for folder in folders if (source := _source(folder, home))]
    if not found:
        raise ConfigError(f"{inbox} holds no weekly files. {_LAYOUT}")
    names = [source.name for source in found]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"{inbox}: two folders would both be called as one of {names}. Rename one."
        )
    return found


def _source(folder: Path, home: Path) -> FoundSource | None:
    weeks: dict[str, Path] = {}
    kinds: set[str] = set()
    for path in sorted(folder.iterdir()):
        stem = path.name if path.is_dir() else path.stem
        if not _WEEK.fullmatch(stem) or not (path.is_dir() or path.suffix in SUFFIXES):
            continue
        weeks[stem] = path
        kinds.add("" if path.is_dir() else path.suffix)
    if not weeks:
        return None
    if len(kinds) > 1:
        shown = sorted(kind or "folders" for kind in kinds)
        raise ConfigError(f"{folder} mixes {shown}. {_LAYOUT}")
    files = {week: data_files(path) for week, path in weeks.items()}
    if empty := [week for week, inside in files.items() if not inside]:
        raise ConfigError(f"{folder}: no .parquet or .csv file in {empty}. {_LAYOUT}")
    newest = read_table(files[max(files)][0])
    rows = [sum(count_rows(file) for file in inside) for inside in files.values()]
    sizes = [sum(file.stat().st_size for file in inside) for inside in files.values()]
    inside_home = folder.is_relative_to(home)
    base = folder.relative_to(home).as_posix() if inside_home else folder.as_posix()
    return FoundSource(
        name=_name(folder.name),
        uri=f"{base}/{{week}}{kinds.pop()}",
        format=newest.format,
        weeks=weeks,
        columns=tuple(newest.raw.column_names),
        max_bytes=max(sizes),
        max_rows=max(rows),
        min_rows=min(rows),
    )


def data_files(delivery: Path) -> list[Path]:
    """The data files of one week's delivery, sorted."""
    if delivery.is_file():
        return [delivery]
    return sorted(p for p in delivery.rglob("*") if p.is_file() and p.suffix in SUFFIXES)


def _name(text: str) -> str:
    slug = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")
    return slug if re.match(r"[a-z]", slug) else f"source_{slug}"
