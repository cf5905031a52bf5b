"""What the serving model was asked and what became known of it: a day's files, read.

The files come from our own services but pass through the same doors as a provider's: sizes first,
then the bytes into the store under their digest, then the parse in a child. Nothing of them is
signed, so nothing is ever trained on because of them alone.

What takes long to import is imported where it is used, as in `screening`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retraining.errors import BatchRefusedError, ConfigError
from retraining.parsing import parse_files, row_schema
from retraining.records import StoredFile
from retraining.spec import LabelSpec, NumberFeature, PipelineSpec, Table, TrafficSpec
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["predictions", "labels"]

_MAX_VERSION = 2**31


@dataclass(frozen=True)
class RefusedFile:
    """A file, or with name `""` a whole day, that could not be used; one clear line says why."""

    day: str
    name: str
    code: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The rows of one role over some days, each row id once.

    Attributes:
        frame: Rows without fault, oldest day first; columns as `traffic_table` has them, the
            version as a whole number.
        days: The day of each row of `frame`, by its folder.
        files: What was read, named `<day>/<file>`, refused files included if they could be kept.
        faults: Rows that are not in `frame`, by reason; one row may have several. A row id that
            stands again on a later day counts there, and here as `repeated_on_another_day`.
        n_faulty: Rows that are not what `traffic_table` declares.
        lines: Of the rows in `faults`, one line per reason: file, line (its number in the file,
            from 1, where known), row_id (null when it is missing or itself at fault), reason.
        refused: Files and days of which nothing was used; a day without files has code `missing`.
    """

    frame: "pd.DataFrame"
    days: "pd.Series[str]"
    files: tuple[StoredFile, ...]
    faults: Mapping[str, int]
    n_faulty: int
    lines: "pd.DataFrame"
    refused: tuple[RefusedFile, ...]


def traffic_of(spec: PipelineSpec) -> TrafficSpec:
    """Where the traffic lies; raises ConfigError when the pipeline file does not say."""
    if spec.traffic is None:
        raise ConfigError(f"{spec.model} says nothing of its traffic; add `traffic` to its file.")
    return spec.traffic


def traffic_table(spec: PipelineSpec, role: Role) -> Table:
    """What a row of predictions, or of labels, has to be."""
    traffic = traffic_of(spec)
    if role == "labels":
        return Table(row_id=spec.row_id, label=spec.label)
    version = NumberFeature(kind="number", name=traffic.version_column, min=1, max=_MAX_VERSION)
    predicted = LabelSpec(column=traffic.predicted_column, classes=spec.label.classes)
    return Table(
        row_id=spec.row_id,
        event_time=spec.event_time,
        features=(*spec.features, version),
        label=predicted,
    )


def read_traffic(
    bench: Workbench,
    spec: PipelineSpec,
    role: Role,
    days: Sequence[str],
    workdir: Path,
    *,
    features: bool = True,
    tell: bool = True,
) -> Traffic:
    """Read the predictions or the labels of some days.

    A file that cannot be used is left out and named, and the rest is kept: these files report on
    the champion, and half a report is better than none.

    Args:
        days: Such as 2026-02-14, oldest first.
        workdir: A private folder; parsed files lie there.
        features: Also read the features of predictions, which take the most memory.
        tell: Log one line per refused file or day.

    Raises:
        StoreUnreachableError: Trying again can help.
    """
    import numpy as np
    import pandas as pd

    table = traffic_table(spec, role)
    wanted = None
    if not features:
        left_out = {feature.name for feature in spec.features}
        wanted = [name for name in table.columns if name not in left_out]
    reader = _Reader(bench, spec, role, table, wanted, workdir, tell=tell)
    frames = [reader.read(day) for day in days]
    frame = pd.concat([reader.empty(), *(f for f in frames if len(f))], ignore_index=True)
    day_of = pd.Series(np.repeat(list(days), [len(part) for part in frames]), dtype=str)
    # Of a row that was asked about, or labelled, on several days the newest word counts.
    again = frame[spec.row_id].duplicated(keep="last")
    if again.any():
        reader.count(frame[again], "repeated_on_another_day")
        frame = frame[~again].reset_index(drop=True)
        day_of = day_of[~again].reset_index(drop=True)
    return Traffic(
        frame=frame,
        days=day_of,
        files=tuple(reader.files),
        faults=dict(sorted(reader.faults.items())),
        n_faulty=reader.n_faulty,
        lines=reader.lines(),
        refused=tuple(reader.refused),
    )


class _Reader:
    """Reads day by day and notes what it could not use."""

    def __init__(
        self,
        bench: Workbench,
        spec: PipelineSpec,
        role: Role,
        table: Table,
        wanted: list[str] | None,
        workdir: Path,
        *,
        tell: bool,
    ) -> None:
        self._bench = bench
        self._tell = tell
        self._spec = spec
        self._role = role
        self._table = table
        self._wanted = wanted
        self._workdir = workdir
        traffic = traffic_of(spec)
        self._source = traffic.predictions if role == "predictions" else traffic.labels
        self._version = traffic.version_column if role == "predictions" else None
        self.files: list[StoredFile] = []
        self.faults: Counter[str] = Counter()
        self.n_faulty = 0
        self._lines: list[pd.DataFrame] = []
        self.refused: list[RefusedFile] = []

    def empty(self) -> "pd.DataFrame":
        """No rows, with the columns and types of some."""
        frame: pd.DataFrame = row_schema(self._table).empty_table().to_pandas()
        return self._whole_versions(frame if self._wanted is None else frame[self._wanted])

    def read(self, day: str) -> "pd.DataFrame":
        """The rows of one day, each row id once."""
        import pandas as pd

        kept = self._keep(day)
        try:
            parts = [self._parse(kept, self._source.max_rows)] if kept else []
        except BatchRefusedError as refused:
            # Together they are refused for the fault of one of them, so each is asked alone.
            parts = self._parse_each(day, kept) if len(kept) > 1 else []
            if len(kept) == 1:
                self._refuse(day, kept[0].name, refused)
        frame = self._whole_versions(pd.concat([self.empty(), *parts], ignore_index=True))
        twice = frame[self._spec.row_id].duplicated()
        self.n_faulty += self.count(frame[twice], "duplicate_row_id")
        return frame[~twice]

    def count(self, rows: "pd.DataFrame", reason: str) -> int:
        """Note rows that the parser let through and that count for nothing."""
        import pandas as pd

        if len(rows):
            self.faults[reason] += len(rows)
            self._lines.append(pd.DataFrame({"row_id": rows[self._spec.row_id], "reason": reason}))
        return len(rows)

    def lines(self) -> "pd.DataFrame":
        """As `Traffic.lines`."""
        import pandas as pd

        columns = ["file", "line", "row_id", "reason"]
        if not self._lines:
            return pd.DataFrame(columns=columns)
        return pd.concat(self._lines, ignore_index=True).reindex(columns=columns)

    def _keep(self, day: str) -> list[StoredFile]:
        """Bring the bytes of a day into the store, unparsed."""
        source, found = self._source, []
        try:
            inbox = self._bench.inbox(self._bench.settings.resolve(source.uri), day, part="{day}")
            listed = inbox.files()
            if not listed:
                raise BatchRefusedError("missing", f"{inbox.uri} holds no file of {day}.")
        except BatchRefusedError as refused:
            self._refuse(day, "", refused)
            return []
        left = source.max_bytes
        suffix = ".parquet" if source.format == "parquet" else ".csv"
        for file in listed:
            try:
                if not file.name.lower().endswith(suffix):
                    raise BatchRefusedError(
                        "wrong_format",
                        f"The file does not end in {suffix}, as traffic.{self._role}.format has"
                        " it. Correct the export or the pipeline file.",
                    )
                if file.size > left:
                    raise BatchRefusedError(
                        "too_large",
                        f"The files of {day} have more than {source.max_bytes} bytes together"
                        " (max_bytes), so this one was not read. Export less, or raise the limit.",
                    )
                digest, size = self._bench.store.put_stream(inbox.stream(file.name), max_bytes=left)
            except BatchRefusedError as refused:
                self._refuse(day, file.name, refused)
            else:
                left -= size
                found.append(StoredFile(name=f"{day}/{file.name}", digest=digest, n_bytes=size))
        self.files += found
        return found

    def _parse_each(self, day: str, kept: Sequence[StoredFile]) -> "list[pd.DataFrame]":
        parts, left = [], self._source.max_rows
        for file in kept:
            try:
                if left <= 0:
                    raise BatchRefusedError(
                        "too_many_rows",
                        f"The files of {day} have more than {self._source.max_rows} rows together"
                        " (max_rows), so this one was not read. Export less, or raise the limit.",
                    )
                parts.append(self._parse([file], left))
                left -= len(parts[-1])
            except BatchRefusedError as refused:
                self._refuse(day, file.name, refused)
        return parts

    def _parse(self, files: Sequence[StoredFile], max_rows: int) -> "pd.DataFrame":
        import pandas as pd

        named = []
        for number, file in enumerate(files):
            path = self._workdir / f"raw-{number}"
            path.unlink(missing_ok=True)
            self._bench.store.fetch(file.digest, path)
            named.append((file.name, path))
        found = parse_files(
            named,
            table=self._table,
            file_format=self._source.format,
            max_rows=max_rows,
            workdir=self._workdir,
        )
        self.faults.update(found.fault_counts)
        self.n_faulty += found.n_faulty
        if found.n_faulty:
            faults = pd.read_parquet(found.faults).explode("reasons")
            self._lines.append(faults.rename(columns={"reasons": "reason"}))
        return pd.read_parquet(found.rows, columns=self._wanted)

    def _whole_versions(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Versions as whole numbers; what is none is a fault of its row."""
        if self._version is None:
            return frame
        whole = frame[self._version] % 1 == 0
        self.n_faulty += self.count(frame[~whole], "bad_version")
        return frame[whole].astype({self._version: "int64"})

    def _refuse(self, day: str, name: str, refused: BatchRefusedError) -> None:
        name = name.removeprefix(f"{day}/")
        self.refused.append(RefusedFile(day, name, refused.code, refused.sentence))
        if self._tell:
            shown = ascii(f"{day}/{name}" if name else day)[1:-1]
            self._bench.log(f"{self._role} {shown}: refused ({refused.code}): {refused.sentence}")
