"""The parser runs in a child with limits; what goes wrong there is told apart."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retraining.children import ChildLimits
from retraining.errors import BatchRefusedError, ChildError, ConfigError
from retraining.parsing import parse_files, read_pinned
from tests.retraining.deliveries import (
    a_spec,
    csv_format,
    good_columns,
    good_table,
    refused,
    replaced,
)


def test_a_parser_out_of_time_refuses_the_batch_and_leaves_nothing(parse_in_child, runs):
    refusal = refused(
        parse_in_child, good_table(20), limits=ChildLimits(seconds=0.05, memory_mib=2048)
    )

    assert refusal.code == "timeout"
    assert runs.leftovers() == []


def test_a_refusal_leaves_no_half_of_a_batch(parse_in_child, runs):
    refusal = refused(parse_in_child, good_table(20), good_table(20, label=None))

    assert refusal.code == "wrong_columns"
    assert runs.leftovers() == []


def test_the_child_gives_what_the_parser_gives(parse_in_child, parse):
    table = good_table(20, amount=pa.array([1.0] * 19 + [-1.0]))

    found, expected = parse_in_child(table), parse(table)

    assert found.rows.read_bytes() == expected.rows.read_bytes()
    assert found.faults.read_bytes() == expected.faults.read_bytes()
    assert (found.n_rows, found.n_faulty) == (20, 1)
    assert found.fault_counts == {"out_of_bounds:amount": 1}


def test_a_failure_of_the_machine_is_not_blamed_on_the_batch(parse_in_child):
    """An interpreter that does not even start says nothing about the files."""
    with pytest.raises(ChildError, match="not about the files"):
        parse_in_child(good_table(20), limits=ChildLimits(seconds=60, memory_mib=40))


def test_a_repeated_long_value_cannot_eat_the_memory_of_the_machine(parse_in_child):
    """A dictionary of one value unpacks to 20,000 times its size, and its footer looks small."""
    country = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 2_000_000])
    )

    refusal = refused(parse_in_child, good_table(20_000, country=country))

    assert refusal.code == "memory"


def test_a_batch_that_fits_is_parsed_within_a_tight_limit(parse_in_child):
    """Memory follows the batches of rows, not the file: 200,000 rows in half a gigabyte."""
    n = 200_000

    parsed = parse_in_child(good_table(n), limits=ChildLimits(seconds=60, memory_mib=640))

    assert parsed.n_rows == n


@pytest.fixture
def while_parsing(tmp_path) -> Callable[[Callable[[int], None]], None]:
    """Parse a file that never ends, and do something to the child meanwhile, by its process id.

    The function has to end it.
    """
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    done = threading.Event()

    def act(action: Callable[[int], None]) -> None:
        with endless.open("wb"):  # opens as soon as the child reads
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    arguments = (process / "cmdline").read_bytes()
                    ours = (process / "cwd").readlink() == tmp_path
                except OSError:
                    continue  # somebody else's, or gone
                if ours and b"retraining.parsing.child" in arguments:
                    action(int(process.name))
            done.wait(60)

    def run(action: Callable[[int], None]) -> None:
        threading.Thread(target=act, args=(action,), daemon=True).start()
        try:
            parse_files(
                [("endless", endless)],
                table=a_spec().table,
                file_format=csv_format(),
                max_rows=10,
                workdir=tmp_path,
                limits=ChildLimits(seconds=60, memory_mib=2048),
            )
        finally:
            done.set()

    return run


def test_the_parser_sees_no_secret_of_the_task(while_parsing, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "s3cret-fernet")
    found: list[bytes] = []

    def look(pid: int) -> None:
        found.append(Path(f"/proc/{pid}/environ").read_bytes())
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(ChildError):
        while_parsing(look)

    assert len(found) == 1
    assert b"PATH=" in found[0]
    assert b"s3cret" not in found[0]


def test_a_parser_that_crashes_on_a_file_refuses_the_batch(while_parsing):
    with pytest.raises(BatchRefusedError, match="died of the files") as raised:
        while_parsing(lambda pid: os.kill(pid, signal.SIGSEGV))

    assert raised.value.code == "parser_died"


def test_a_parser_that_somebody_killed_is_not_blamed_on_the_batch(while_parsing):
    with pytest.raises(ChildError, match="not about the files"):
        while_parsing(lambda pid: os.kill(pid, signal.SIGKILL))


# --- pinned data ----------------------------------------------------------------------------


def test_pinned_data_parses_without_fault_or_says_what_is_wrong(tmp_path):
    path = tmp_path / "raw"

    def read() -> pd.DataFrame:
        return read_pinned(
            path, name="reference", spec=a_spec(), file_format="parquet", workdir=tmp_path
        )

    pq.write_table(good_table(20), path)
    assert list(read()["row"]) == good_columns(20)["row"].to_pylist()

    columns = good_columns(20)
    pq.write_table(good_table(20, label=replaced(columns["label"], 3, "secret")), path)
    with pytest.raises(
        ConfigError, match=r"fraud: the reference data has 1 faulty rows of 20 \(1 unknown_class\)"
    ):
        read()

    pq.write_table(good_table(20, amount=None), path)
    with pytest.raises(
        ConfigError, match=r"the reference data cannot be used \(wrong_columns\).*'amount'"
    ):
        read()


def test_an_optional_text_may_be_missing_whole_or_in_single_rows(parse_in_child):
    table = a_spec(user="sender").table
    whole = parse_in_child(good_table(20), table=table)
    some = good_table(20).append_column("sender", pa.array(["ann", None] * 9 + ["", "x" * 300]))
    single = parse_in_child(some, table=table)

    assert (whole.n_rows, whole.n_faulty) == (20, 0)
    assert pd.read_parquet(whole.rows)["sender"].isna().all()
    assert single.fault_counts == {"bad_text:sender": 1}
