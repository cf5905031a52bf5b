"""Puts a drafted pipeline in place: the file, reference set and holdout, keys, signatures."""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retraining.digests import Digest
from retraining.errors import BatchRefusedError, ConfigError
from retraining.evidence import public_key_of
from retraining.init_spec.columns import Columns, guess_columns
from retraining.init_spec.deliveries import FoundSource, data_files, find_sources
from retraining.init_spec.render import PinnedFile, render
from retraining.init_spec.tables import Table, read_table
from retraining.keyring import (
    NewKey,
    change_trust,
    create_provider_key,
    create_team_keys,
    provider_key,
    sign_delivery,
)
from retraining.parsing import parse_files
from retraining.settings import Settings
from retraining.spec import PipelineSpec, load_spec
from retraining.store import open_store
from retraining.trust_history import TrustHistory

_MIN_REFERENCE_ROWS = 40  # fewer neither scale features nor calibrate screening
_HOLDOUT_SHARE = 0.6  # of a reference set that has to serve as both


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """What `init` made.

    Attributes:
        notes: What a person should know before the first run, a sentence each.
        signed: Whether the files carry signatures now.
    """

    path: Path
    spec: PipelineSpec
    first_week: str
    notes: tuple[str, ...]
    signed: bool


def init_pipeline(
    settings: Settings,
    name: str,
    *,
    inbox: Path,
    reference: Path,
    label: str,
    holdout: Path | None = None,
    sign: bool = False,
) -> Drafted:
    """Draft `<pipelines>/<name>.yaml` and put everything in place that a first run needs.

    Args:
        inbox: One folder per source, with a file or folder per ISO week.
        reference: Rows that somebody vetted.
        label: Column that holds the truth.
        holdout: More vetted rows, from elsewhere; without it, most of the reference set.
        sign: Sign the files as their providers would, for a trial on one machine.

    Raises:
        ConfigError: Says what to change in the files; an existing pipeline file is never changed.
        SpecError: The name cannot be one.
    """
    path = settings.pipelines / f"{name}.yaml"
    if path.exists():
        raise ConfigError(f"{path} exists and is not overwritten. Choose another name, or move it.")
    table = read_table(reference)
    columns = guess_columns(table, label)
    sources = find_sources(inbox.resolve(), settings.home)
    _require_same_columns(table, sources)
    held = read_table(holdout) if holdout else None
    text, notes = _draft(settings, name, table, held, columns, sources)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        spec = load_spec(path)
    except BaseException:
        path.unlink()  # a draft that does not hold is of no use to anybody
        raise
    made = _ensure_keys(settings, [source.name for source in sources])
    if made:
        notes.append(
            f"Fresh keys in {settings.keys}: {', '.join(made)}. For a trial they lie together."
        )
    if sign:
        _sign(settings, sources)
    notes += [note for source in sources if (note := _look(spec, source))]
    return Drafted(
        path=path,
        spec=spec,
        first_week=min(week for source in sources for week in source.weeks),
        notes=tuple(notes),
        signed=sign,
    )


def _draft(
    settings: Settings,
    name: str,
    table: Table,
    held: Table | None,
    columns: Columns,
    sources: Sequence[FoundSource],
) -> tuple[str, list[str]]:
    notes = []
    rows = _in_hash_order(table, columns)
    dropped = table.raw.num_rows - len(rows)
    if dropped:
        notes.append(f"{dropped} reference rows lack a value and were left out.")
    if held is None:
        n_holdout = round(_HOLDOUT_SHARE * len(rows))
        held_table, held_rows, rows = table, rows[:n_holdout], rows[n_holdout:]
        notes.append(
            f"No holdout was given: {n_holdout} of the reference rows became one. Give your own"
            " (--holdout) for a verdict that you rely on."
        )
    else:
        _require_columns(held, table)
        held_columns = guess_columns(held, columns.label)
        if not set(held_columns.classes) <= set(columns.classes):
            raise ConfigError(f"{held.path}: has classes that {table.path} lacks.")
        held_table, held_rows = held, _in_hash_order(held, columns, held_columns.complete)
        if held.format != table.format:
            raise ConfigError(f"{held.path} and {table.path}: expected the same format in both.")
    if len(rows) < _MIN_REFERENCE_ROWS or not held_rows:
        raise ConfigError(
            f"{table.path}: {len(rows)} rows are left for the reference set, expected at least"
            f" {_MIN_REFERENCE_ROWS} without missing values. Vet more rows."
        )
    folder = settings.home / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    text = render(
        name,
        columns,
        sources,
        pinned_format=table.format,
        reference=_pin(table, rows, folder / f"reference{table.path.suffix}", settings),
        holdout=_pin(held_table, held_rows, folder / f"holdout{table.path.suffix}", settings),
    )
    return text, notes


def _in_hash_order(
    table: Table, columns: Columns, complete: Sequence[int] | None = None
) -> list[int]:
    """Positions of the complete rows, in an order that nobody chose: of a hash of their ids."""
    ids = table.texts(columns.row_id)
    positions = columns.complete if complete is None else complete
    return sorted(positions, key=lambda i: hashlib.sha256(str(ids.iloc[i]).encode()).digest())


def _pin(table: Table, rows: Sequence[int], path: Path, settings: Settings) -> PinnedFile:
    table.write(sorted(rows), path)
    uri = path.relative_to(settings.home).as_posix()
    return PinnedFile(uri, Digest.of(path.read_bytes()), len(rows))


def _require_same_columns(table: Table, sources: Sequence[FoundSource]) -> None:
    expected = set(table.raw.column_names)
    for source in sources:
        found = set(source.columns)
        if found != expected:
            raise ConfigError(
                f"{source.name}: its newest file has other columns than {table.path}: missing"
                f" {sorted(expected - found)}, more {sorted(found - expected)}. Expected the same."
            )


def _require_columns(held: Table, table: Table) -> None:
    if set(held.raw.column_names) != set(table.raw.column_names):
        raise ConfigError(f"{held.path}: expected the columns of {table.path}.")


def _ensure_keys(settings: Settings, providers: Sequence[str]) -> list[str]:
    """Make the keys that are missing; return their names."""
    store = open_store(settings.store)
    if not store.names("trust/"):
        return ["root", *create_team_keys(settings, providers=providers).keys]
    latest = TrustHistory.load(store, public_key_of(settings.root_key, "root")).latest
    missing = [name for name in providers if name not in latest.keys]
    if not missing:
        return []
    new = []
    for name in missing:
        private = provider_key(settings.keys, name)
        public = private.with_suffix(".pub.json")
        if not private.exists():
            create_provider_key(private.parent, name)
        new.append(NewKey(name, "provider", public, holder=name))
    change_trust(settings, add=new)
    return missing


def _sign(settings: Settings, sources: Sequence[FoundSource]) -> None:
    for source in sources:
        private = provider_key(settings.keys, source.name)
        for sequence, (week, delivery) in enumerate(sorted(source.weeks.items()), start=1):
            sign_delivery(delivery, key=private, dataset=source.name, batch=week, sequence=sequence)


def _look(spec: PipelineSpec, source: FoundSource) -> str:
    """Parse the newest delivery as a run would, and say what the draft would not let through."""
    week = max(source.weeks)
    files = [(file.name, file) for file in data_files(source.weeks[week])]
    where = f"{source.name} {week}"
    folder = Path(tempfile.mkdtemp(prefix="retraining-init-"))
    try:
        parsed = parse_files(
            files,
            table=spec.table,
            file_format=source.format,
            max_rows=spec.source(source.name).max_rows,
            workdir=folder,
        )
    except BatchRefusedError as refused:
        return f"{where} would be refused: {refused.sentence}"
    finally:
        shutil.rmtree(folder)
    if not parsed.n_faulty:
        return ""
    worst = sorted(parsed.fault_counts.items(), key=lambda item: -item[1])[:3]
    reasons = ", ".join(f"{reason} {count}" for reason, count in worst)
    return f"{where}: {parsed.n_faulty} of {parsed.n_rows} rows would be quarantined ({reasons})."
