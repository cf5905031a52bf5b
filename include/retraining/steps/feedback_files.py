"""Reads what users said in a window of weeks, and what the serving model was asked meanwhile.

Bytes go into the store first, under limits, and are parsed in a child, as a provider's are. A file
that cannot be used is named and left out; a line that cannot be used is a fault of that line.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest
from retraining.errors import BatchRefusedError
from retraining.parsing import ParsedRows, parse_files, row_schema
from retraining.records import Refusal, StoredFile
from retraining.spec import CsvFormat, FeedbackPolicy, PipelineSpec, Table
from retraining.steps.traffic import Role, Traffic, read_traffic
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NO_FEEDBACK = {"missing", "empty"}  # nobody said anything, and that is fine
_TEXTS = ("item", "user", "label", "verified")  # read as categories: few names, very many lines


@dataclass
class Lines:
    """The lines of a window.

    Attributes:
        files: What was read, named `<week>/<file>`.
        refused: What could not be used.
        good, faults: As `feedback.close_batch` takes them.
    """

    files: list[StoredFile] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    good: "pd.DataFrame" = field(init=False)
    faults: "pd.DataFrame" = field(init=False)


@dataclass(frozen=True)
class Asked:
    """What the serving model was asked, of those items that users speak of, and what became known.

    Attributes:
        items: Rows by row id.
        audited: True labels by row id.
        files: What was read, named `<role>/<day>/<file>`.
        refused: What could not be used.
    """

    items: "pd.DataFrame"
    audited: "pd.Series[str]"
    files: tuple[StoredFile, ...]
    refused: tuple[Refusal, ...]


def read_lines(
    bench: Workbench,
    policy: FeedbackPolicy,
    table: Table,
    weeks: Sequence[str],
    workdir: Path,
) -> Lines:
    """Read every file of some weeks, oldest week first.

    Raises:
        StoreUnreachableError: Trying again can help.
    """
    import pandas as pd

    lines, parts, faults = Lines(), [], []
    first_names: dict[Digest, str] = {}
    rows_of: dict[str, int] = {}
    copies: list[tuple[str, str]] = []
    for week in weeks:
        new = []
        for file in _keep(bench, policy, week, lines):
            if file.digest in first_names:
                copies.append((file.name, first_names[file.digest]))
            else:
                first_names[file.digest] = file.name
                new.append(file)
        for parsed, group in _parse(bench, policy, table, week, new, lines, workdir):
            rows_of |= {f.name: n for f, n in zip(group, parsed.rows_of_files, strict=True)}
            good, bad = _numbered(parsed, group, week)
            parts.append(good)
            faults.append(bad)
    for name, original in copies:
        n_lines = rows_of.get(original, 0)
        copied = {"file": name, "number": range(1, n_lines + 1), "reason": "duplicate_file"}
        faults.append(pd.DataFrame(copied))
    lines.good = _joined(parts, table)
    none = pd.DataFrame({"file": [], "number": [], "reason": []})
    lines.faults = pd.concat([none, *(f for f in faults if len(f))], ignore_index=True)
    return lines


def read_asked(
    bench: Workbench,
    spec: PipelineSpec,
    days: Sequence[str],
    voted: "pd.Index[str]",
    workdir: Path,
) -> Asked:
    """Read the traffic of some days, and keep the items that somebody voted on.

    One day at a time: all of them at once may not fit into memory.

    Raises:
        StoreUnreachableError: Trying again can help.
    """
    import pandas as pd

    parts: dict[Role, list[pd.DataFrame]] = {"predictions": [], "labels": []}
    files, refused = list[StoredFile](), list[Refusal]()
    for role, frames in parts.items():
        for day in [None, *(day for day in days if _has_files(bench, spec, role, day))]:
            folder = workdir / "traffic"
            folder.mkdir()
            read = read_traffic(bench, spec, role, [day] if day else [], folder)
            shutil.rmtree(folder)
            frames.append(read.frame[read.frame[spec.row_id].isin(voted)])
            files += [f.model_copy(update={"name": f"{role}/{f.name}"}) for f in read.files]
            refused += _refusals(role, read)
    items, audited = (_newest(frames, spec.row_id) for frames in parts.values())
    columns = [name for name in spec.table.columns if name in items]
    return Asked(
        items=items[columns],
        audited=audited[spec.label.column],
        files=tuple(files),
        refused=tuple(refused),
    )


def _newest(parts: "Sequence[pd.DataFrame]", row_id: str) -> "pd.DataFrame":
    """One row per id, the newest."""
    import pandas as pd

    frame = pd.concat(parts, ignore_index=True)
    return frame.drop_duplicates(row_id, keep="last").set_index(row_id)


def _has_files(bench: Workbench, spec: PipelineSpec, role: Role, day: str) -> bool:
    """Whether anything lies there for `day`; a window reaches further back than most traffic."""
    assert spec.traffic is not None  # noqa: S101 - for the type checker
    uri = bench.settings.resolve(getattr(spec.traffic, role).uri)
    try:
        return bool(bench.inbox(uri, day, part="{day}").files())
    except BatchRefusedError as refused:
        return refused.code != "missing"


def _refusals(role: Role, read: Traffic) -> Iterator[Refusal]:
    for refused in read.refused:
        place = "/".join(part for part in (role, refused.day, refused.name) if part)
        yield Refusal(code=refused.code, sentence=f"{_shown(place)}: {refused.sentence}")


# --- the lines of one week ------------------------------------------------------------------


def _keep(bench: Workbench, policy: FeedbackPolicy, week: str, lines: Lines) -> list[StoredFile]:
    """Bring the bytes of a week into the store, unparsed."""
    found: list[StoredFile] = []
    try:
        inbox = bench.inbox(bench.settings.resolve(policy.uri), week)
        listed = inbox.files()
    except BatchRefusedError as refused:
        _refuse(bench, lines, week, refused)
        return found
    left, suffixes = policy.max_bytes, _suffixes(policy)
    for file in listed:
        try:
            if not file.name.lower().endswith(suffixes):
                raise BatchRefusedError(
                    "wrong_format",
                    f"The file does not end in {' or '.join(suffixes)}, as feedback.format has it."
                    " Correct the export or the pipeline file.",
                )
            if file.size > left:
                raise BatchRefusedError(
                    "too_large",
                    f"The files of {week} have more than {policy.max_bytes} bytes together"
                    " (max_bytes), so this one was not read. Export less, or raise the limit.",
                )
            digest, size = bench.store.put_stream(inbox.stream(file.name), max_bytes=left)
        except BatchRefusedError as refused:
            _refuse(bench, lines, f"{week}/{file.name}", refused)
        else:
            left -= size
            found.append(StoredFile(name=f"{week}/{file.name}", digest=digest, n_bytes=size))
    lines.files += found
    return found


def _suffixes(policy: FeedbackPolicy) -> tuple[str, ...]:
    if isinstance(policy.format, CsvFormat):
        return (".csv",)
    return (".parquet",) if policy.format == "parquet" else (".jsonl", ".ndjson", ".json")


def _parse(
    bench: Workbench,
    policy: FeedbackPolicy,
    table: Table,
    week: str,
    files: Sequence[StoredFile],
    lines: Lines,
    workdir: Path,
) -> Iterator[tuple[ParsedRows, Sequence[StoredFile]]]:
    """Parse all files of a week at once, or each alone if one of them spoils the others."""
    left = policy.max_lines
    groups = [list(files)] if files else []
    while groups:
        group = groups.pop(0)
        folder = workdir / f"lines-{week}-{len(list(workdir.iterdir()))}"
        folder.mkdir()
        named = []
        for number, file in enumerate(group):
            bench.store.fetch(file.digest, folder / f"raw-{number}")
            named.append((file.name, folder / f"raw-{number}"))
        try:
            parsed = parse_files(
                named,
                table=table,
                file_format=policy.format,
                max_rows=max(left, 1),
                workdir=folder,
            )
        except BatchRefusedError as refused:
            if len(group) > 1:
                groups = [[file] for file in group]
            else:
                _refuse(bench, lines, group[0].name, refused)
        else:
            left -= parsed.n_rows
            yield parsed, group
        shutil.rmtree(folder)


def _numbered(
    parsed: ParsedRows, files: Sequence[StoredFile], week: str
) -> "tuple[pa.Table, pd.DataFrame]":
    """The rows with week, file and number of each, and the faults with their first reason."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    faults = pq.read_table(parsed.faults, columns=["file", "line", "reasons"]).to_pandas()
    bad = faults[["file"]].assign(
        number=faults["line"], reason=[reasons[0] for reasons in faults["reasons"]]
    )
    numbers, of_file = [], []
    for position, (file, n_rows) in enumerate(zip(files, parsed.rows_of_files, strict=True)):
        at_fault = bad.loc[bad["file"] == file.name, "number"].to_numpy(np.int64)
        numbers.append(np.setdiff1d(np.arange(1, n_rows + 1), at_fault, assume_unique=True))
        of_file.append(np.full(len(numbers[-1]), position, dtype=np.int32))
    good = pq.read_table(parsed.rows, read_dictionary=list(_TEXTS))
    names = pa.array([file.name for file in files], pa.string())
    index = pa.array(np.concatenate(of_file))
    return (
        good.append_column("week", pa.array([week] * good.num_rows).dictionary_encode())
        .append_column("file", pa.DictionaryArray.from_arrays(index, names))
        .append_column("number", pa.array(np.concatenate(numbers), pa.int64())),
        bad,
    )


def _joined(parts: "Sequence[pa.Table]", table: Table) -> "pd.DataFrame":
    import pyarrow as pa

    if not parts:
        frame: pd.DataFrame = row_schema(table).empty_table().to_pandas()
        return frame.assign(week="", file="", number=0)
    joined: pd.DataFrame = pa.concat_tables(parts).unify_dictionaries().to_pandas()
    return joined


def _refuse(bench: Workbench, lines: Lines, place: str, refused: BatchRefusedError) -> None:
    if refused.code in _NO_FEEDBACK:
        return
    sentence = f"{_shown(place)}: {refused.sentence}"
    lines.refused.append(Refusal(code=refused.code, sentence=sentence))
    bench.log(f"feedback refused ({refused.code}): {sentence}")


def _shown(place: str) -> str:
    return ascii(place[:200])[1:-1]
