"""Our side of the first parse: start the child, wait, read its answer strictly."""

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.children import ChildLimits, allow_listed_env, watch_child
from retraining.errors import BatchRefusedError, ChildError, ConfigError, EvidenceError
from retraining.parsing.contract import ANSWER, FAULTS, REQUEST, ROWS, ParseAnswer, ParseRequest
from retraining.spec import FeedbackFormat, Format, PipelineSpec, Table

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_LIMITS = ChildLimits(seconds=900, memory_mib=2048)
_MAX_ANSWER_BYTES = 1 << 20
_MAX_PINNED_ROWS = 10_000_000
# Signals by which a parser dies of what it reads. Not SIGKILL: that is the machine's doing.
_DEATHS = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}


@dataclass(frozen=True, kw_only=True)
class ParsedRows:
    """What the child made of a batch.

    Attributes:
        rows: Parquet of the rows without fault, in the order of delivery; see `row_schema`.
        faults: Parquet of the others: row_id (may be null), file, line (number of the row in its
            file, from 1), reasons (list of text).
        n_rows: All rows that were delivered, faulty ones included.
        rows_of_files: The same per file, in their order.
        n_faulty: Rows of `faults`.
        fault_counts: Faulty rows per reason; one row may have several.
    """

    rows: Path
    faults: Path
    n_rows: int
    rows_of_files: tuple[int, ...] = ()
    n_faulty: int
    fault_counts: Mapping[str, int]


def parse_files(
    files: Sequence[tuple[str, Path]],
    *,
    table: Table,
    file_format: FeedbackFormat,
    max_rows: int,
    workdir: Path,
    limits: ChildLimits = DEFAULT_LIMITS,
) -> ParsedRows:
    """Parse files that nobody has looked into yet.

    The same bytes under the same table give the same two files, byte for byte.

    Args:
        files: Name and path of each, in the order in which their rows are to stand.
        table: What a row has to be.
        file_format: As the source declares it; nothing is guessed. With `json_lines`, a line that
            cannot be read is a fault of its row.
        max_rows: Of all files together.
        workdir: A folder for the child; the result lies there.
        limits: Of the child.

    Raises:
        BatchRefusedError: A fault of structure: the batch cannot be used as a whole. Codes: empty,
            unreadable, wrong_columns, duplicate_columns, wrong_type, nested_types, encoding,
            nul_bytes, bad_line_end, line_too_long, ragged_csv, too_many_rows, ratio, memory,
            timeout, parser_died.
        ChildError: The parser broke for a reason that is not the batch's.
    """
    request = ParseRequest(
        table=table,
        files=tuple((name, str(path.absolute())) for name, path in files),
        format=file_format,
        max_rows=max_rows,
    )
    (workdir / REQUEST).write_bytes(request.to_json())
    try:
        answer = _ask_child(workdir, limits)
        if answer.refusal is not None:
            raise BatchRefusedError(answer.refusal.code, answer.refusal.sentence)
    except BaseException:
        for name in (ROWS, FAULTS):
            (workdir / name).unlink(missing_ok=True)  # half of a batch is none
        raise
    finally:
        for name in (REQUEST, ANSWER):
            (workdir / name).unlink(missing_ok=True)
    return ParsedRows(
        rows=workdir / ROWS,
        faults=workdir / FAULTS,
        n_rows=answer.n_rows,
        rows_of_files=answer.rows_of_files,
        n_faulty=answer.n_faulty,
        fault_counts=answer.fault_counts,
    )


def read_pinned(
    path: Path,
    *,
    name: str,
    spec: PipelineSpec,
    file_format: Format,
    workdir: Path,
    limits: ChildLimits = DEFAULT_LIMITS,
) -> "pd.DataFrame":
    """Read vetted data, such as the reference set; here one faulty row is too many.

    Args:
        path: The file, already checked against its pinned digest.
        name: What it is called in messages, such as `reference`.
        spec: What its rows have to be.
        file_format: Of the file; the rest as for `parse_files`.
        workdir: A folder for the child.
        limits: Of the child.

    Raises:
        ConfigError: The file has faults; says how many rows and why.
        ChildError: As for `parse_files`.
    """
    import pandas as pd  # the child, which imports this package, does without

    try:
        found = parse_files(
            [(name, path)],
            table=spec.table,
            file_format=file_format,
            max_rows=_MAX_PINNED_ROWS,
            workdir=workdir,
            limits=limits,
        )
    except BatchRefusedError as refused:
        raise ConfigError(
            f"{spec.model}: the {name} data cannot be used ({refused.code}). {refused.sentence}"
        ) from refused
    if found.n_faulty:
        reasons = ", ".join(f"{n} {reason}" for reason, n in found.fault_counts.items())
        raise ConfigError(
            f"{spec.model}: the {name} data has {found.n_faulty} faulty rows of {found.n_rows}"
            f" ({reasons}); expected none. Correct the file, and pin its new digest in the pipeline"
            " file."
        )
    return pd.read_parquet(found.rows)


def _ask_child(workdir: Path, limits: ChildLimits) -> ParseAnswer:
    env = allow_listed_env(
        HOME=workdir,
        TMPDIR=workdir,
        # One thread, one allocator arena: else address space, which is limited, is reserved
        # per thread and core.
        OMP_NUM_THREADS="1",
        MALLOC_ARENA_MAX="1",
        ARROW_DEFAULT_MEMORY_POOL="system",
    )
    outcome = watch_child(
        [sys.executable, "-I", "-m", "retraining.parsing.child"],
        cwd=workdir,
        env=env,
        limits=limits,
        on_line=lambda _line: None,  # it has nothing to say there
    )
    if outcome.timed_out or outcome.returncode == -signal.SIGXCPU:
        raise BatchRefusedError(
            "timeout",
            f"The files could not be parsed within {limits.seconds:g} seconds. Ask the provider to"
            " deliver less, or in fewer row groups.",
        )
    if outcome.returncode in _DEATHS:
        raise BatchRefusedError(
            "parser_died",
            f"The parser died of the files (signal {-outcome.returncode}, with"
            f" {limits.memory_mib} MiB). Keep them for inspection; ask the provider for others.",
        )
    if outcome.returncode != 0:
        said = outcome.stderr_tail.strip().splitlines()[-1:] or ["nothing"]
        raise ChildError(
            f"The parser exited with status {outcome.returncode} and said: {said[0][:200]}."
            " This is not about the files; check memory and disk, then try again."
        )
    return _read_answer(workdir / ANSWER)


def _read_answer(path: Path) -> ParseAnswer:
    try:
        if path.stat().st_size > _MAX_ANSWER_BYTES:
            raise EvidenceError(f"more than {_MAX_ANSWER_BYTES} bytes")
        return ParseAnswer.from_json(path.read_bytes())
    except (OSError, EvidenceError) as error:
        raise ChildError(f"The parser left no answer that can be read ({error}).") from error
