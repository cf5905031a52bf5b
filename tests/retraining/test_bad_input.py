"""Bad input: whatever is handed in, it ends in one clear line, and the corrected delivery works.

`CASES` is a table of ways to spoil a good delivery, each with the code of the refusal, or with the
reason for which rows are quarantined, that it has to end in. The cases know only a `Batch`, so the
same table can be run through the modules, as here, or through the whole pipeline.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from retraining.digests import Digest
from retraining.errors import BatchRefusedError, StoreUnreachableError
from retraining.evidence import (
    DATASET_BATCH,
    Statement,
    TrustedKey,
    public_key_of,
    sign,
    sign_trust_list,
    signer_from_file,
)
from retraining.ingest import ingest
from retraining.parsing import ParsedRows, child, parse_files
from retraining.parsing.contract import ParseRequest
from retraining.provenance import batch_digest, verify_provenance
from retraining.records import BatchId, ProvenanceReport, RegisteredBatch
from retraining.spec import PipelineSpec, load_spec
from retraining.store import Store, open_inbox, open_store
from retraining.trust_history import TrustHistory
from tests.fixtures.workspace import Workspace, make_rows, make_workspace

WEEK, LAST_WEEK = "2026-W06", "2026-W05"
SECRET = "s3cret-value"  # stands in spoiled rows; may appear in no message
N_ROWS = 60


@dataclass
class Batch:
    """One good delivery that a case spoils.

    Attributes:
        source: `gateway` delivers Parquet, `feed` CSV with `;`.
        history: What the registry knows of the source.
    """

    workspace: Workspace
    source: str
    history: list[RegisteredBatch] = field(default_factory=list)
    rows: pd.DataFrame = field(default_factory=lambda: make_rows(N_ROWS, seed="bad input"))

    @property
    def folder(self) -> Path:
        return self.workspace.folder(self.source, WEEK)

    @property
    def file(self) -> Path:
        return self.folder / ("rows.parquet" if self.source == "gateway" else "rows.csv")

    @property
    def manifest(self) -> Path:
        return self.folder / "batch.dsse.json"

    def deliver(self) -> None:
        """Lay down the good rows, signed."""
        if self.folder.is_symlink():
            self.folder.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.workspace.write(self.source, WEEK, self.rows)
        self.sign()

    def sign(self, **options: Any) -> None:
        self.workspace.sign(self.source, WEEK, **options)

    def write(self, rows: pd.DataFrame | pa.Table | bytes, **options: Any) -> None:
        """Replace the file, and sign it: so only its content is at fault."""
        if isinstance(rows, pd.DataFrame):
            self.workspace.write(self.source, WEEK, rows)
        elif isinstance(rows, bytes):
            self.file.write_bytes(rows)
        else:
            pq.write_table(rows, self.file, **options)
        self.sign()

    def with_value(self, column: str, value: Any, *, row: int = 7) -> pd.DataFrame:
        rows = self.rows.copy()
        if isinstance(value, str):
            rows[column] = rows[column].astype(object)
        rows.loc[row, column] = value
        return rows

    def table(self) -> pa.Table:
        return pa.Table.from_pandas(self.rows, preserve_index=False)

    def edit_source(self, **changes: Any) -> None:
        """Change the source's entry in the pipeline file."""
        sources = yaml.safe_load(self.workspace.spec_file.read_text())["sources"]
        for entry in sources:
            if entry["name"] == self.source:
                entry |= changes
        self.workspace.edit_spec({"sources": sources})


@dataclass(frozen=True)
class Case:
    """One way to spoil a delivery.

    Attributes:
        code: Of the refusal that has to follow; empty if rows are quarantined instead.
        reason: For which rows are quarantined.
        n_faulty: How many of them.
    """

    name: str
    source: str
    spoil: Callable[[Batch], None]
    code: str = ""
    reason: str = ""
    n_faulty: int = 1


# --- files ----------------------------------------------------------------------------------


def _empty_file(batch: Batch) -> None:
    batch.write(b"")


def _no_file(batch: Batch) -> None:
    batch.file.unlink()


def _no_folder(batch: Batch) -> None:
    shutil.rmtree(batch.folder)


def _another_format(batch: Batch) -> None:
    batch.file.rename(batch.folder / "rows.pkl")
    batch.sign()


def _too_many_bytes(batch: Batch) -> None:
    batch.edit_source(max_bytes=batch.file.stat().st_size - 1)


def _link_to_a_file_outside(batch: Batch) -> None:
    outside = batch.workspace.home / "keys" / "pipeline.pem"
    batch.file.unlink()
    batch.file.symlink_to(outside)


def _link_instead_of_the_folder(batch: Batch) -> None:
    elsewhere = batch.workspace.home / "elsewhere"
    batch.folder.rename(elsewhere)
    batch.folder.symlink_to(elsewhere)


def _pipe(batch: Batch) -> None:
    os.mkfifo(batch.folder / "pipe.parquet")


def _name_with_a_line_break(batch: Batch) -> None:
    batch.file.rename(batch.folder / "a\nPROMOTE everything.parquet")


def _name_that_is_not_utf8(batch: Batch) -> None:
    (batch.folder / os.fsdecode(b"\xff.parquet")).write_bytes(b"x")


# --- who signed what ------------------------------------------------------------------------


def _no_manifest(batch: Batch) -> None:
    batch.manifest.unlink()


def _key_of_another_provider(batch: Batch) -> None:
    batch.sign(key="feed")


def _altered_manifest(batch: Batch) -> None:
    raw = batch.manifest.read_text()
    batch.manifest.write_text(raw.replace('"payload":"', '"payload":"AAAA'))


def _manifest_that_is_no_json(batch: Batch) -> None:
    batch.manifest.write_bytes(b"\xff\x00 not json")


def _manifest_with_a_key_twice(batch: Batch) -> None:
    raw = batch.manifest.read_text()
    batch.manifest.write_text(raw.replace('"payload":"', '"payload":"AAAA","payload":"'))


def _sign_other_words(lying: Batch, *, predicate_type: str = DATASET_BATCH, **said: Any) -> None:
    predicate = {
        "provider": lying.source,
        "dataset": lying.source,
        "batch": WEEK,
        "sequence": 5,
        "createdAt": "2026-02-09T00:00:00Z",
    } | said
    statement = Statement(
        subjects=((lying.file.name, Digest.of(lying.file.read_bytes())),),
        predicate_type=predicate_type,
        predicate=predicate,
    )
    signer = signer_from_file(lying.workspace.provider_key(lying.source), lying.source)
    lying.manifest.write_bytes(sign(statement, signer)[0])


def _another_kind_of_record(batch: Batch) -> None:
    _sign_other_words(batch, predicate_type="https://secure-retraining.dev/registry-entry/v1")


def _sequence_that_is_no_number(batch: Batch) -> None:
    _sign_other_words(batch, sequence=True)


def _batch_of_another_week(batch: Batch) -> None:
    _sign_other_words(batch, batch=LAST_WEEK)


def _batch_of_another_source(batch: Batch) -> None:
    _sign_other_words(batch, dataset="feed")


def _key_taken_off_the_list(batch: Batch) -> None:
    _publish_trust(batch.workspace, without=batch.source)


def _extra_file(batch: Batch) -> None:
    shutil.copy(batch.file, batch.file.with_name(f"extra{batch.file.suffix}"))


def _missing_file(batch: Batch) -> None:
    second = batch.file.with_name(f"second{batch.file.suffix}")
    shutil.copy(batch.file, second)
    batch.sign()
    second.unlink()


def _file_changed_after_signing(batch: Batch) -> None:
    batch.workspace.write(batch.source, WEEK, batch.with_value("amount", 99.5))


def _known(batch: Batch, week: str, sequence: int, digest: Digest) -> RegisteredBatch:
    return RegisteredBatch(
        batch=BatchId(source=batch.source, week=week),
        batch_digest=digest,
        sequence=sequence,
        n_rows=N_ROWS,
        n_quarantined=0,
        accepted=Digest.of(b"accepted rows"),
        refusal_code=None,
    )


def _sequence_of_last_week(batch: Batch) -> None:
    batch.sign(sequence=1)
    batch.history.append(_known(batch, LAST_WEEK, 1, Digest.of(b"last week's files")))


def _files_of_last_week(batch: Batch) -> None:
    """Signed again, with a new number, by a provider who has no new rows."""
    spec = load_spec(batch.workspace.spec_file).source(batch.source)
    found = ingest(spec, WEEK, inbox=open_inbox(batch.folder), store=_store(batch))
    batch.history.append(_known(batch, LAST_WEEK, 1, batch_digest(found.files)))
    batch.sign(sequence=2)


# --- structure of the content ---------------------------------------------------------------


def _no_rows(batch: Batch) -> None:
    batch.write(batch.rows.head(0))


def _truncated(batch: Batch) -> None:
    batch.write(batch.file.read_bytes()[:-100])


def _text_that_claims_to_be_parquet(batch: Batch) -> None:
    batch.write(f"row_id,label\n{SECRET},spam\n".encode())


def _damaged_pages(batch: Batch) -> None:
    data = bytearray(batch.file.read_bytes())
    data[8:2000] = b"\xa5" * 1992
    batch.write(bytes(data))


def _missing_column(batch: Batch) -> None:
    batch.write(batch.rows.drop(columns="capitals"))


def _extra_column(batch: Batch) -> None:
    batch.write(batch.rows.assign(customer=SECRET))


def _column_twice_in_parquet(batch: Batch) -> None:
    table = batch.table()
    batch.write(table.append_column("links", table["links"]))


def _column_twice_in_csv(batch: Batch) -> None:
    lines = batch.file.read_text().splitlines()
    batch.write("\n".join([lines[0] + ";links", *(f"{line};1" for line in lines[1:])]).encode())


def _numbers_as_text(batch: Batch) -> None:
    batch.write(batch.rows.assign(links=SECRET))


def _numbers_as_booleans(batch: Batch) -> None:
    batch.write(batch.rows.assign(links=True))


def _nested_values(batch: Batch) -> None:
    batch.write(batch.rows.assign(links=[[1.0, 2.0]] * len(batch.rows)))


def _text_that_is_not_utf8(batch: Batch) -> None:
    broken = pa.array([b"\xff\xfe" + SECRET.encode()] * N_ROWS, pa.binary()).view(pa.string())
    table = batch.table()
    batch.write(table.set_column(table.schema.get_field_index("label"), "label", broken))


def _unpacks_to_a_thousand_times_its_size(batch: Batch) -> None:
    table = batch.table().set_column(4, "label", pa.array(["x" * 1_000_000] * N_ROWS))
    batch.write(table, use_dictionary=False, compression="zstd")
    assert batch.file.stat().st_size < 100_000


def _repeats_one_huge_value(batch: Batch) -> None:
    n = 20_000
    rows = pa.Table.from_pandas(make_rows(n, seed="large"), preserve_index=False)
    huge = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), ["x" * 2_000_000])
    batch.write(rows.set_column(4, "label", huge))
    assert batch.file.stat().st_size < 4_000_000


def _more_rows_than_allowed(batch: Batch) -> None:
    batch.edit_source(max_rows=N_ROWS - 1)


def _nul_bytes(batch: Batch) -> None:
    batch.write(batch.file.read_bytes().replace(b"ham", b"ham\0" + SECRET.encode(), 1))


def _another_encoding(batch: Batch) -> None:
    batch.write(batch.file.read_bytes().replace(b"ham", "häm".encode("latin-1"), 1))


def _utf16(batch: Batch) -> None:
    batch.write(batch.file.read_text().encode("utf-16"))


def _one_field_too_many(batch: Batch) -> None:
    batch.write(batch.file.read_bytes().replace(b";ham\n", b";ham;" + SECRET.encode() + b"\n", 1))


def _quote_left_open(batch: Batch) -> None:
    batch.write(batch.file.read_bytes().replace(b";ham\n", b';"ham\n', 1))


def _line_without_end(batch: Batch) -> None:
    batch.write(batch.file.read_bytes() + SECRET.encode() * 200_000)


def _carriage_returns_alone(batch: Batch) -> None:
    batch.write(batch.file.read_bytes().replace(b"\n", b"\r"))


def _no_header(batch: Batch) -> None:
    batch.write(batch.file.read_bytes().split(b"\n", 1)[1])


def _another_delimiter(batch: Batch) -> None:
    batch.write(batch.file.read_bytes().replace(b";", b"\t"))


# --- values ---------------------------------------------------------------------------------


def _values(column: str, value: Any) -> Callable[[Batch], None]:
    def spoil(batch: Batch) -> None:
        batch.write(batch.with_value(column, value))

    return spoil


def _row_twice(batch: Batch) -> None:
    batch.write(pd.concat([batch.rows, batch.rows.iloc[[3]]]))


CASES = (
    Case("a file without bytes", "gateway", _empty_file, "empty"),
    Case("no file beside the manifest", "gateway", _no_file, "empty"),
    Case("no folder", "gateway", _no_folder, "missing"),
    Case("another format", "gateway", _another_format, "wrong_format"),
    Case("too many bytes", "gateway", _too_many_bytes, "too_large"),
    Case("a link to a file outside", "gateway", _link_to_a_file_outside, "symlink"),
    Case("a link instead of the folder", "gateway", _link_instead_of_the_folder, "symlink"),
    Case("a pipe", "gateway", _pipe, "special_file"),
    Case("a name with a line break", "gateway", _name_with_a_line_break, "bad_name"),
    Case("a name that is not UTF-8", "gateway", _name_that_is_not_utf8, "bad_name"),
    Case("no manifest", "gateway", _no_manifest, "unsigned"),
    Case("wrong key", "gateway", _key_of_another_provider, "bad_signature"),
    Case("an altered manifest", "gateway", _altered_manifest, "bad_signature"),
    Case("a manifest that is no JSON", "gateway", _manifest_that_is_no_json, "bad_manifest"),
    Case("a manifest with a key twice", "gateway", _manifest_with_a_key_twice, "bad_manifest"),
    Case("another kind of record", "gateway", _another_kind_of_record, "bad_manifest"),
    Case("a sequence that is no number", "gateway", _sequence_that_is_no_number, "bad_manifest"),
    Case("a batch of another week", "gateway", _batch_of_another_week, "wrong_week"),
    Case("a batch of another source", "gateway", _batch_of_another_source, "wrong_source"),
    Case("a key taken off the list", "gateway", _key_taken_off_the_list, "unknown_key"),
    Case("an extra file", "gateway", _extra_file, "extra_files"),
    Case("a missing file", "gateway", _missing_file, "missing_files"),
    Case("a file changed after signing", "feed", _file_changed_after_signing, "changed_files"),
    Case("a replayed sequence", "gateway", _sequence_of_last_week, "replayed_sequence"),
    Case("last week's files again", "gateway", _files_of_last_week, "replayed_batch"),
    Case("no rows", "gateway", _no_rows, "empty"),
    Case("no rows in CSV", "feed", _no_rows, "empty"),
    Case("a truncated file", "gateway", _truncated, "unreadable"),
    Case("text as Parquet", "gateway", _text_that_claims_to_be_parquet, "unreadable"),
    Case("damaged pages", "gateway", _damaged_pages, "unreadable"),
    Case("a missing column", "gateway", _missing_column, "wrong_columns"),
    Case("an extra column", "feed", _extra_column, "wrong_columns"),
    Case("a column twice", "gateway", _column_twice_in_parquet, "duplicate_columns"),
    Case("a column twice in CSV", "feed", _column_twice_in_csv, "duplicate_columns"),
    Case("numbers as text", "gateway", _numbers_as_text, "wrong_type"),
    Case("numbers as booleans", "gateway", _numbers_as_booleans, "wrong_type"),
    Case("nested values", "gateway", _nested_values, "nested_types"),
    Case("text that is not UTF-8", "gateway", _text_that_is_not_utf8, "encoding"),
    Case("a zip bomb", "gateway", _unpacks_to_a_thousand_times_its_size, "ratio"),
    Case("a dictionary bomb", "gateway", _repeats_one_huge_value, "memory"),
    Case("too many rows", "gateway", _more_rows_than_allowed, "too_many_rows"),
    Case("too many rows in CSV", "feed", _more_rows_than_allowed, "too_many_rows"),
    Case("NUL bytes", "feed", _nul_bytes, "nul_bytes"),
    Case("another encoding", "feed", _another_encoding, "encoding"),
    Case("UTF-16", "feed", _utf16, "nul_bytes"),
    Case("one field too many", "feed", _one_field_too_many, "ragged_csv"),
    Case("a quote left open", "feed", _quote_left_open, "ragged_csv"),
    Case("a line without end", "feed", _line_without_end, "line_too_long"),
    Case("carriage returns alone", "feed", _carriage_returns_alone, "bad_line_end"),
    Case("no header", "feed", _no_header, "wrong_columns"),
    Case("another delimiter", "feed", _another_delimiter, "wrong_columns"),
    Case("NaN", "gateway", _values("links", float("nan")), reason="missing:links"),
    Case("NaN in CSV", "feed", _values("links", "NaN"), reason="nan:links"),
    Case("infinity", "gateway", _values("links", float("inf")), reason="infinity:links"),
    Case("infinity in CSV", "feed", _values("amount", "-inf"), reason="infinity:amount"),
    Case("out of bounds", "gateway", _values("amount", -0.5), reason="out_of_bounds:amount"),
    Case("no number", "feed", _values("amount", SECRET), reason="bad_number:amount"),
    Case("an empty field", "feed", _values("amount", ""), reason="missing:amount"),
    Case("an unknown class", "gateway", _values("label", SECRET), reason="unknown_class"),
    Case("no class", "feed", _values("label", ""), reason="missing_label"),
    Case("no row id", "gateway", _values("row_id", None), reason="missing_row_id"),
    Case("a row id twice", "gateway", _row_twice, reason="duplicate_row_id"),
)


# --- how it ends ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Conclusion:
    """How a delivery ended: refused, or parsed."""

    code: str = ""
    sentence: str = ""
    parsed: ParsedRows | None = None


def conclude(batch: Batch, workdir: Path, *, in_child: bool = True) -> Conclusion:
    """Take a delivery through ingest, provenance and the first parse."""
    spec = load_spec(batch.workspace.spec_file)
    source, store = spec.source(batch.source), _store(batch)
    ingested = ingest(source, WEEK, inbox=open_inbox(batch.folder), store=store)
    checked = verify_provenance(
        ingested,
        source,
        manifest=store.get(ingested.manifest) if ingested.manifest else None,
        trust=_trust(batch.workspace).latest,
        history=batch.history,
    )
    if checked.refusal:
        return Conclusion(checked.refusal.code, checked.refusal.sentence)
    try:
        parse = _parse_in_child if in_child else _parse_here
        return Conclusion(parsed=parse(store, spec, checked, workdir))
    except BatchRefusedError as refused:
        return Conclusion(refused.code, refused.sentence)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_input_ends_in_one_clear_line_and_the_corrected_delivery_works(
    case, tmp_path, monkeypatch
):
    batch = Batch(make_workspace(tmp_path / "workspace"), case.source)
    batch.deliver()
    spec_before = batch.workspace.spec_file.read_text()
    work = [tmp_path / "first", tmp_path / "second"]
    for folder in work:
        folder.mkdir()

    case.spoil(batch)
    found = conclude(batch, work[0])

    assert found.code == case.code
    if case.code:
        _assert_one_clear_line(found.sentence, batch)
        assert not list(work[0].glob("*.parquet"))
    else:
        assert found.parsed is not None
        assert found.parsed.fault_counts == {case.reason: case.n_faulty}
        assert found.parsed.n_faulty == case.n_faulty
    assert not list(batch.workspace.home.rglob(".incoming-*"))

    batch.workspace.spec_file.write_text(spec_before)
    batch.rows = make_rows(N_ROWS, seed="corrected")
    _publish_trust(batch.workspace)
    batch.deliver()
    monkeypatch.chdir(work[1])
    corrected = conclude(batch, work[1], in_child=False)

    assert corrected.sentence == ""
    assert corrected.parsed is not None
    assert (corrected.parsed.n_rows, corrected.parsed.n_faulty) == (N_ROWS, 0)


@pytest.mark.parametrize("moment", ["ingest", "provenance"])
def test_a_store_that_is_away_is_no_fault_of_the_batch(tmp_path, moment):
    """It may be retried, nothing is refused, and afterwards everything goes on."""
    batch = Batch(make_workspace(tmp_path / "workspace"), "gateway")
    batch.deliver()
    source = load_spec(batch.workspace.spec_file).source("gateway")
    store, root = _store(batch), Path(batch.workspace.settings.store)
    inbox = open_inbox(batch.folder)
    away = root.with_name("unmounted")

    if moment == "ingest":
        root.rename(away)
        with pytest.raises(StoreUnreachableError) as raised:
            ingest(source, WEEK, inbox=inbox, store=store)
    else:
        ingested = ingest(source, WEEK, inbox=inbox, store=store)
        root.rename(away)
        with pytest.raises(StoreUnreachableError) as raised:
            store.get(ingested.manifest)

    assert raised.value.retryable
    assert str(raised.value).isprintable()
    away.rename(root)
    work = tmp_path / "work"
    work.mkdir()
    assert conclude(batch, work).parsed is not None


def _assert_one_clear_line(sentence: str, batch: Batch) -> None:
    assert sentence.isprintable()  # so it is one line, too
    assert 40 < len(sentence) < 600
    assert sentence.endswith(".")
    assert "Traceback" not in sentence
    values = [SECRET, *batch.rows["row_id"], *map(str, batch.rows["amount"])]
    assert [value for value in values if value in sentence] == []


def _store(batch: Batch) -> Store:
    return open_store(batch.workspace.settings.store)


def _trust(workspace: Workspace) -> TrustHistory:
    root = public_key_of(workspace.settings.root_key, "root")
    return TrustHistory.load(open_store(workspace.settings.store), root)


def _publish_trust(workspace: Workspace, *, without: str = "") -> None:
    """Sign the next trust list: both providers, but for one."""
    keys = {
        name: TrustedKey(
            key=public_key_of(
                workspace.provider_key(name).with_suffix(".pub.json"), name
            ).to_dict(),
            roles=("provider",),
        )
        for name in ("gateway", "feed")
        if name != without
    }
    version = _trust(workspace).latest.version + 1
    root = signer_from_file(workspace.settings.keys / "root.pem", "root")
    open_store(workspace.settings.store).create(
        f"trust/{version:010d}.dsse.json", sign_trust_list(version, keys, root)
    )


def _fetched(store: Store, checked: ProvenanceReport, workdir: Path) -> list[tuple[str, Path]]:
    files = []
    for number, file in enumerate(checked.files):
        store.fetch(file.digest, workdir / f"raw-{number}")
        files.append((file.name, workdir / f"raw-{number}"))
    return files


def _parse_in_child(
    store: Store, spec: PipelineSpec, checked: ProvenanceReport, workdir: Path
) -> ParsedRows:
    source = spec.source(checked.batch.source)
    return parse_files(
        _fetched(store, checked, workdir),
        table=spec.table,
        file_format=source.format,
        max_rows=source.max_rows,
        workdir=workdir,
    )


def _parse_here(
    store: Store, spec: PipelineSpec, checked: ProvenanceReport, workdir: Path
) -> ParsedRows:
    """The same parser without a process of its own, which takes half a second to start."""
    source = spec.source(checked.batch.source)
    files = tuple((name, str(path)) for name, path in _fetched(store, checked, workdir))
    answer = child.parse(
        ParseRequest(table=spec.table, files=files, format=source.format, max_rows=source.max_rows)
    )
    return ParsedRows(
        rows=workdir / "rows.parquet",
        faults=workdir / "faults.parquet",
        n_rows=answer.n_rows,
        n_faulty=answer.n_faulty,
        fault_counts=answer.fault_counts,
    )
