"""Ingest: the bytes of one batch, unchanged, into the store. Nothing is parsed here.

Limits are enforced on the listing, before a byte is read, and again on every byte that streams in,
because a listing is only what somebody said a moment ago. From here on nobody looks at the inbox
again: every later step reads this copy, by digest.
"""

from collections.abc import Sequence

from retraining.errors import BatchRefusedError
from retraining.records import BatchId, IngestReport, Refusal, StoredFile
from retraining.spec import SourceSpec
from retraining.store import Inbox, InboxFile, Store


def ingest(source: SourceSpec, week: str, *, inbox: Inbox, store: Store) -> IngestReport:
    """Keep what `source` delivered for `week`.

    Args:
        source: Its format and limits.
        week: ISO week, such as 2026-W07.
        inbox: Where the batch lies.
        store: Where it is kept.

    Returns:
        Name, digest and size of every file, and of the manifest; or a refusal, and then no files.
        Codes: those of `Inbox`, and `empty`, `wrong_format`, `too_large`.

    Raises:
        StoreUnreachableError: Inbox or store did not answer; trying again can help.
    """
    batch = BatchId(source=source.name, week=week)
    try:
        listed = inbox.files()
        _check_listing(source, listed, inbox.uri)
        manifest = inbox.manifest()
        return IngestReport(
            batch=batch,
            files=_keep(source, listed, inbox, store),
            manifest=None if manifest is None else store.put(manifest),
        )
    except BatchRefusedError as refused:
        refusal = Refusal(code=refused.code, sentence=refused.sentence)
        return IngestReport(batch=batch, refusal=refusal)


def _check_listing(source: SourceSpec, listed: Sequence[InboxFile], uri: str) -> None:
    if not listed:
        raise BatchRefusedError(
            "empty",
            f"{uri} holds no data file. Ask the provider to deliver, or leave the source out.",
        )
    if empty := [file.name for file in listed if file.size == 0]:
        raise BatchRefusedError(
            "empty",
            f"{len(empty)} of {len(listed)} files have no bytes, {_shown(empty[0])} for one."
            " Ask the provider to deliver them again.",
        )
    suffix = ".parquet" if source.format == "parquet" else ".csv"
    if other := [file.name for file in listed if not file.name.lower().endswith(suffix)]:
        raise BatchRefusedError(
            "wrong_format",
            f"{len(other)} of {len(listed)} files do not end in {suffix}, {_shown(other[0])} for"
            " one. Ask the provider to deliver nothing else, or correct the source's format.",
        )
    if (total := sum(file.size for file in listed)) > source.max_bytes:
        _refuse_size(source, f"{len(listed)} files have {total} bytes together")


def _keep(
    source: SourceSpec, listed: Sequence[InboxFile], inbox: Inbox, store: Store
) -> tuple[StoredFile, ...]:
    kept: list[StoredFile] = []
    left = source.max_bytes
    for file in listed:
        try:
            digest, size = store.put_stream(inbox.stream(file.name), max_bytes=left)
        except BatchRefusedError as refused:
            if refused.code != "too_large":
                raise
            _refuse_size(source, f"{_shown(file.name)} grew while it was read, past the limit")
        kept.append(StoredFile(name=file.name, digest=digest, n_bytes=size))
        left -= size
    return tuple(kept)


def _refuse_size(source: SourceSpec, found: str) -> None:
    raise BatchRefusedError(
        "too_large",
        f"{found}; expected at most {source.max_bytes} bytes (max_bytes). Ask the provider to"
        " deliver less, or raise the limit.",
    )


def _shown(name: str) -> str:
    return ascii(name[:100])
