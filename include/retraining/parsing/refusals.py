"""What every reader refuses in the same words. No message quotes a value.

Arrow's own messages quote the row that they stumbled over, so they are read here and never passed
on; names that a file states are shown short, few and printable.
"""

import errno
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

import pyarrow as pa

from retraining.errors import BatchRefusedError
from retraining.spec import Table

_MAX_NAMES_SHOWN = 5
_ASK = "Ask the provider to correct the export."


def check_names(
    file: str, found: Sequence[str], table: Table, *, may_lack_header: bool = False
) -> None:
    """Refuse columns that stand twice, are missing, or are not declared.

    Args:
        file: Its name, for messages.
        found: Its column names, in its order, which is free.
        table: What is declared.
        may_lack_header: Then values may stand where names are expected: unless a declared name is
            among them, none is shown.
    """
    counts, declared = Counter(found), set(table.columns)
    if twice := [name for name in table.columns if counts[name] > 1]:
        raise BatchRefusedError(
            "duplicate_columns",
            f"{file} has several columns named {show_names(twice)}; expected each once. {_ASK}",
        )
    missing = [n for n in table.columns if n not in counts and n not in table.optional]
    extra = [name for name in counts if name not in declared]
    if not missing and not extra:
        return
    parts = [f"missing {show_names(missing)}"] if missing else []
    if extra and may_lack_header and not declared & set(counts):
        parts.append(f"found {len(extra)} others instead (perhaps there is no header)")
    elif extra:
        parts.append(f"not declared {show_names(extra)}")
    raise BatchRefusedError(
        "wrong_columns",
        f"{file} has other columns than the pipeline file declares: {'; '.join(parts)}. {_ASK}",
    )


def show_file(name: str) -> str:
    """A file's name for a message: one printable line, whatever the provider called it."""
    return ascii(name)[1:-1][:200]


def show_names(names: Sequence[str]) -> str:
    """Column names for a message: few, short and printable."""
    shown = ", ".join(ascii(name[:60]) for name in names[:_MAX_NAMES_SHOWN])
    more = len(names) - _MAX_NAMES_SHOWN
    return shown + (f" and {more} more" if more > 0 else "")


def parsed(file: str, batches: Callable[[], Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Yield what `batches()` yields; what Arrow says of a file it cannot read is a refusal."""
    try:
        yield from batches()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise MemoryError from error
        refuse_unparsable(file, str(error))


def check_text(file: str, batch: pa.RecordBatch) -> None:
    """Refuse text that is not UTF-8, and arrays that do not fit together; Arrow trusts files."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if not pa.types.is_string(column.type):
                refuse_unparsable(file, str(error))
            raise BatchRefusedError(
                "encoding", f"{file} has text in {show_names([name])} that is not UTF-8. {_ASK}"
            ) from None


def refuse_unparsable(file: str, said: str) -> NoReturn:
    """Raise what Arrow's message `said` means, without what it quotes."""
    if ragged := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", said):
        line, expected, got = ragged.groups()
        refuse_line("ragged_csv", file, int(line), f"has {got} fields, expected {expected}")
    if "straddling" in said or "out of sync" in said:
        raise BatchRefusedError("ragged_csv", f"{file} has a quote that is left open. {_ASK}")
    raise BatchRefusedError(
        "unreadable",
        f"{file} cannot be parsed: its content is damaged, or uses what this reader does not know."
        " Ask the provider to deliver it again.",
    )


def refuse_line(code: str, file: str, line: int, found: str) -> NoReturn:
    """Refuse a file for one line of it; blank lines may not have been counted."""
    raise BatchRefusedError(code, f"{file}: line {line} {found}. {_ASK}")


def refuse_rows(file: str) -> NoReturn:
    """Refuse a file that takes the batch over its limit on rows."""
    raise BatchRefusedError(
        "too_many_rows",
        f"{file} takes the batch over the source's limit on rows (max_rows). Ask the provider to"
        " deliver less, or raise the limit.",
    )
