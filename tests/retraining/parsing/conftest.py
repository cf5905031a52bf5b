"""Runs of the parser for tests: each delivery in a folder of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retraining.parsing import ParsedRows, child, parse_files
from retraining.parsing.contract import FAULTS, ROWS, ParseRequest
from retraining.spec import Format, PipelineSpec, Table
from tests.retraining.deliveries import a_spec

Parse = Callable[..., ParsedRows]


@dataclass
class Runs:
    """Writes each delivery to a folder of its own, and parses it there."""

    root: Path
    count: int = 0

    def lay_out(self, contents: Sequence[pa.Table | bytes]) -> tuple[Path, list[tuple[str, Path]]]:
        self.count += 1
        folder = self.root / f"run{self.count}"
        work = folder / "work"
        work.mkdir(parents=True)
        files = []
        for number, content in enumerate(contents):
            path = folder / f"part-{number}"
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                pq.write_table(content, path)
            files.append((path.name, path))
        return work, files

    def leftovers(self) -> list[Path]:
        return list(self.root.glob("run*/work/*"))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture
def parse(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Parse in this process, which is fast: bytes, or tables that are written as Parquet."""

    def run(
        *contents: pa.Table | bytes,
        spec: PipelineSpec | None = None,
        table: Table | None = None,
        file_format: Format = "parquet",
        max_rows: int = 500_000,
    ) -> ParsedRows:
        work, files = runs.lay_out(contents)
        monkeypatch.chdir(work)
        request = ParseRequest(
            table=table or (spec or a_spec()).table,
            files=tuple((name, str(path)) for name, path in files),
            format=file_format,
            max_rows=max_rows,
        )
        answer = child.parse(request)
        return ParsedRows(
            rows=work / ROWS,
            faults=work / FAULTS,
            n_rows=answer.n_rows,
            rows_of_files=answer.rows_of_files,
            n_faulty=answer.n_faulty,
            fault_counts=answer.fault_counts,
        )

    return run


@pytest.fixture
def parse_in_child(runs: Runs) -> Parse:
    """Parse as it is always done, in a child."""

    def run(*contents: pa.Table | bytes, **options: Any) -> ParsedRows:
        work, files = runs.lay_out(contents)
        asked: dict[str, Any] = {
            "table": a_spec().table,
            "file_format": "parquet",
            "max_rows": 500_000,
        }
        return parse_files(files, workdir=work, **asked | options)

    return run
