"""The first parse of bytes that somebody else wrote: in a child process, within limits.

A provider, or whoever got hold of its key, may hand in a file that makes a parser run code or eat
all memory. So the parse happens in a process that inherits none of our secrets, may use a fixed
amount of memory and time, and hands back two plain Parquet files.

What stays: a file that takes the parser over can make it hand back rows of its choosing, or a
Parquet file that attacks our reader; and as the process runs under the task's user, it may do what
that user may: read `/proc/<task>/environ`, write to a store in a directory.

`parse` is our side; `child` is the process, with one reader per format (`csv_reader` and so on) and
`refusals` for structure, and `values`; `contract` is what crosses between the two.
"""

from retraining.parsing.contract import MAX_ROW_ID_BYTES, row_schema
from retraining.parsing.parse import ParsedRows, parse_files, read_pinned

__all__ = ["MAX_ROW_ID_BYTES", "ParsedRows", "parse_files", "read_pinned", "row_schema"]
