"""Provenance: who delivered a batch, and whether what arrived is what they signed.

Pure. A manifest binds the files to one source, one week and a growing number, so that neither an
old batch, nor another source's, nor one file too many can pose as this week's.

The risk score is a sum of declared parts, cut at 1, so that everybody can add it up:

* trust tier: trusted 0.1, known 0.3, untrusted 0.6;
* 0.2 for a source that cannot sign;
* 0.3 times its record: the mean over its last 8 earlier weeks of the quarantined share of rows, a
  refused week counting as 1;
* 0.1 as long as fewer than 4 earlier weeks of it are on record.

A batch that is refused scores 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retraining.digests import Digest, canonical_json
from retraining.errors import BatchRefusedError, EvidenceError, SignatureError
from retraining.evidence import DATASET_BATCH, OpenedRecord, TrustList
from retraining.records import (
    BatchId,
    IngestReport,
    ProvenanceReport,
    Refusal,
    RegisteredBatch,
    StoredFile,
)
from retraining.spec import SourceSpec

_TIER_RISK = {"trusted": 0.1, "known": 0.3, "untrusted": 0.6}
_UNSIGNED_RISK = 0.2
_RECORD_RISK = 0.3
_RECORD_WEEKS = 8
_YOUNG_RISK = 0.1
_YOUNG_WEEKS = 4


@dataclass(frozen=True)
class _Manifest:
    """What a provider says about its batch, signature verified."""

    dataset: str
    week: str
    sequence: int
    files: Mapping[str, Digest]


def verify_provenance(
    ingested: IngestReport,
    source: SourceSpec,
    *,
    manifest: bytes | None,
    trust: TrustList,
    history: Sequence[RegisteredBatch],
) -> ProvenanceReport:
    """Check one batch against its manifest, its source and its source's history.

    Args:
        ingested: What arrived.
        source: Whose key has to have signed it, if the source can sign.
        manifest: Bytes of the manifest that arrived with it.
        trust: Whose signature counts.
        history: What the source delivered in all concluded runs, oldest first.

    Returns:
        The report; a refusal has one of the codes unsigned, bad_manifest, unknown_key,
        bad_signature, wrong_source, wrong_week, extra_files, missing_files, changed_files,
        replayed_sequence, replayed_batch, or is the one of ingest.
    """
    history = [known for known in history if known.batch.source == source.name]
    signs = source.signature == "required"
    digest, sequence, refusal = None, None, ingested.refusal
    if refusal is None:
        digest = batch_digest(ingested.files)
        try:
            if signs:
                opened = _open_manifest(source, manifest, trust)
                _check_address(opened, ingested.batch)
                _check_files(opened.files, ingested.files)
                _check_sequence(opened.sequence, ingested.batch, digest, history)
                sequence = opened.sequence
            _check_content_is_new(ingested.batch, digest, history)
        except BatchRefusedError as refused:
            # Nothing of a refused manifest is kept: a number of it could shut out later batches.
            refusal, sequence = Refusal(code=refused.code, sentence=refused.sentence), None
    score, reasons = _risk(source, ingested.batch, history, refusal)
    return ProvenanceReport(
        batch=ingested.batch,
        trust=source.trust,
        signature=("refused" if refusal else "verified") if signs else "none",
        key_id=source.key_id,
        batch_digest=digest,
        sequence=sequence,
        files=() if refusal else ingested.files,
        risk_score=score,
        risk_reasons=reasons,
        refusal=refusal,
    )


def batch_digest(files: Sequence[StoredFile]) -> Digest:
    """The identity of a batch: over the names and digests of all its files, sorted by name."""
    return Digest.of(canonical_json(sorted([file.name, file.digest] for file in files)))


# --- the manifest ---------------------------------------------------------------------------


def _open_manifest(source: SourceSpec, manifest: bytes | None, trust: TrustList) -> _Manifest:
    key_id = source.key_id
    if manifest is None:
        raise BatchRefusedError(
            "unsigned",
            f"The batch has no manifest; expected one signed by {key_id}. Ask the provider to sign"
            " it (`retraining sign-batch`).",
        )
    if not trust.keys_for(["provider"], key_id):
        raise BatchRefusedError(
            "unknown_key",
            f"Trust list version {trust.version} has no key {key_id!r} with role provider. Check"
            " the source's key_id, or have the root key's holder add the key.",
        )
    try:
        record = trust.open(
            manifest, predicate_type=DATASET_BATCH, roles=["provider"], key_id=key_id
        )
    except SignatureError as error:
        raise BatchRefusedError(
            "bad_signature",
            f"The manifest is not signed by {key_id}: it was altered, or signed with another"
            " key. Ask the provider over another channel, and have the batch signed again.",
        ) from error
    except EvidenceError as error:
        raise _bad_manifest(str(error)) from error
    return _read_manifest(record)


def _read_manifest(record: OpenedRecord) -> _Manifest:
    said = record.predicate
    texts = [said.get(name) for name in ("provider", "dataset", "batch", "createdAt")]
    sequence: Any = said.get("sequence")
    if not all(isinstance(text, str) for text in texts):
        raise _bad_manifest("Expected provider, dataset, batch and createdAt as text.")
    if type(sequence) is not int or not 0 < sequence < 2**63:  # True is an int, too
        raise _bad_manifest("Expected sequence as a whole number above 0.")
    return _Manifest(str(texts[1]), str(texts[2]), sequence, dict(record.subjects))


def _bad_manifest(found: str) -> BatchRefusedError:
    return BatchRefusedError(
        "bad_manifest", f"The manifest cannot be read: {found} Ask the provider to make it again."
    )


def _check_address(manifest: _Manifest, batch: BatchId) -> None:
    if manifest.dataset != batch.source:
        raise BatchRefusedError(
            "wrong_source",
            f"The manifest is for the source {_shown(manifest.dataset)}, expected {batch.source}."
            " Ask the provider to sign for this source, and find out how the batch came here.",
        )
    if manifest.week != batch.week:
        raise BatchRefusedError(
            "wrong_week",
            f"The manifest is for {_shown(manifest.week)}, expected {batch.week}. This may be an"
            " old batch handed in again; ask the provider for the week's own.",
        )


def _check_files(signed: Mapping[str, Digest], files: Sequence[StoredFile]) -> None:
    """Compare both ways: a file that nobody signed is as bad as one that is missing."""
    arrived = {file.name: file.digest for file in files}
    differences = {
        "extra_files": sorted(arrived.keys() - signed.keys()),
        "missing_files": sorted(signed.keys() - arrived.keys()),
        "changed_files": sorted(
            n for n in arrived.keys() & signed.keys() if arrived[n] != signed[n]
        ),
    }
    words = {"extra_files": "not signed", "missing_files": "missing", "changed_files": "changed"}
    found = [f"{len(n)} {words[code]} ({_shown(n[0])})" for code, n in differences.items() if n]
    if found:
        raise BatchRefusedError(
            next(code for code, names in differences.items() if names),
            f"The files are not those that the provider signed: {', '.join(found)}, of"
            f" {len(signed)} signed. Ask the provider to deliver exactly what is signed.",
        )


# --- history --------------------------------------------------------------------------------


def _check_sequence(
    sequence: int, batch: BatchId, digest: Digest, history: Sequence[RegisteredBatch]
) -> None:
    """A new number above those of earlier weeks, or the newest delivery of this week again."""
    numbered = [known for known in history if known.sequence is not None]
    newest = max(
        (known for known in numbered if known.batch == batch), key=_sequence_of, default=None
    )
    if newest and (newest.sequence, newest.batch_digest) == (sequence, digest):
        return
    for known in numbered:
        again = _sequence_of(known) == sequence
        behind = _sequence_of(known) > sequence and known.batch.week <= batch.week
        if again or behind:
            raise BatchRefusedError(
                "replayed_sequence",
                f"The manifest has sequence {sequence}, but another batch ({known.batch.week}) had"
                f" {known.sequence}; expected a higher number. This may be an old batch handed in"
                " again; ask the provider to sign with the next number.",
            )


def _sequence_of(known: RegisteredBatch) -> int:
    return known.sequence or 0


def _check_content_is_new(
    batch: BatchId, digest: Digest, history: Sequence[RegisteredBatch]
) -> None:
    """Rows that were used in one week are not new in another, whoever signs them again.

    For a source that cannot sign, this is the only sign of a replay.
    """
    for known in history:
        used = known.batch_digest == digest and known.accepted is not None
        if used and known.batch.week != batch.week:
            raise BatchRefusedError(
                "replayed_batch",
                f"The same files were delivered for {known.batch.week}; expected this week's. Ask"
                " the provider for new rows, or leave the source out.",
            )


def _risk(
    source: SourceSpec, batch: BatchId, history: Sequence[RegisteredBatch], refusal: Refusal | None
) -> tuple[float, tuple[str, ...]]:
    if refusal:
        return 1.0, (f"refused: {refusal.code}",)
    parts = [(_TIER_RISK[source.trust], f"trust tier {source.trust}")]
    if source.signature == "none":
        parts.append((_UNSIGNED_RISK, "the source cannot sign"))
    earlier = {known.batch.week: known for known in history if known.batch.week < batch.week}
    recent = [earlier[week] for week in sorted(earlier)[-_RECORD_WEEKS:]]
    if record := sum(map(_badness, recent)) / max(len(recent), 1):
        words = f"its last {len(recent)} weeks: {record:.0%} quarantined or refused"
        parts.append((round(_RECORD_RISK * record, 3), words))
    if len(earlier) < _YOUNG_WEEKS:
        parts.append((_YOUNG_RISK, f"only {len(earlier)} earlier weeks on record"))
    score = min(round(sum(risk for risk, _ in parts), 3), 1.0)
    return score, tuple(f"{risk:g} {reason}" for risk, reason in parts)


def _badness(known: RegisteredBatch) -> float:
    if known.refusal_code is not None:
        return 1.0
    return known.n_quarantined / max(known.n_rows, 1)


def _shown(text: str) -> str:
    return ascii(text[:100])
