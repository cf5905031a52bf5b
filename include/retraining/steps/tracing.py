"""Where rows went: the batches that brought them, what was decided, and who learned from them.

Everything is read from signed records: what each concluded run accepted, quarantined and purged,
what reviewers said, and what each version was trained on.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.digests import Digest, parse_json
from retraining.errors import ConfigError, ReviewRefusedError
from retraining.recording import open_result
from retraining.records import (
    BatchId,
    GateDecision,
    Pattern,
    PinnedRun,
    ProvenanceReport,
    RegistryEntry,
    ReviewEntry,
    ScreenedBatch,
    ScreeningReport,
    SourceUser,
)
from retraining.registry import Registry
from retraining.reviews import carriers, rows_of_users
from retraining.signed_chain import Link
from retraining.spec import parse_spec
from retraining.step_requests import PinnedContext
from retraining.steps.screening import parse_batch
from retraining.steps.workbench import Workbench
from retraining.verify.window import TrainedVersions

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What is traced: rows by id, a source (and week), one of its users, or a pattern's rows."""

    row_ids: frozenset[str] = frozenset()
    source: str = ""
    week: str = ""
    pattern: Pattern | None = None
    user: str = ""  # of that source

    def includes(self, batch: BatchId) -> bool:
        """Whether rows of this batch can be meant at all."""
        return self.source in ("", batch.source) and self.week in ("", batch.week)


@dataclass(frozen=True, kw_only=True)
class TracedBatch:
    """What one concluded run did with the traced rows of one batch.

    Attributes:
        accepted: Traced rows that it accepted.
        quarantined: Traced rows that it quarantined, by reason; one row may have several.
        purged: Traced rows of accepted history that it trained on no longer.
        refusal: Code of the reason why it used no row of the batch; empty when it did.
    """

    entry: RegistryEntry
    batch: BatchId
    accepted: int = 0
    quarantined: dict[str, int]
    purged: int = 0
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The whole way of the traced rows, oldest first.

    Attributes:
        versions: Versions that were trained on any of them.
        serving: The version that serves now.
        convicted: Versions that a rollback convicted of poison.
    """

    batches: tuple[TracedBatch, ...]
    reviews: tuple[Link[ReviewEntry], ...]
    versions: tuple[int, ...]
    serving: int
    convicted: tuple[int, ...]


def trace(bench: Workbench, model: str, what: Traced) -> Trace:
    """Follow rows through all concluded runs, reviews and versions of a model.

    Raises:
        ConfigError: Nothing is given to trace, or the pattern is about other columns.
        ReviewRefusedError: No concluded run read a row of that user; see `require_seen`.
    """
    if not (what.row_ids or what.source or what.pattern):
        raise ConfigError("Nothing to trace: give row ids, a source, or a pattern.")
    if what.user:
        require_seen(bench, model, SourceUser(source=what.source, user=what.user))
    registry = bench.registry(model)
    learned = TrainedVersions(bench.store, bench.trust, registry)
    batches: list[TracedBatch] = []
    versions: set[int] = set()
    seen: set[str] = set(what.row_ids)
    with bench.workdir("trace") as workdir:
        for entry in _concluded(registry):
            run = _Run(bench, entry, workdir)
            for batch, ids in run.traced(what):
                seen |= ids
                batches.append(batch)
                accepted = run.accepted_rows(batch.batch)
                if accepted and entry.verdict == "PROMOTE":
                    row_id = run.pinned.spec.row_id
                    versions |= {*learned.that_read(batch.batch, accepted, ids, row_id)}
            batches += run.purges(what, seen)
    return Trace(
        batches=tuple(batches),
        reviews=tuple(k for k in bench.reviews(model).links if _touches(k.record, what, seen)),
        versions=tuple(sorted(versions)),
        serving=registry.version,
        convicted=tuple(registry.convicted),
    )


def require_seen(bench: Workbench, model: str, of: SourceUser) -> None:
    """Raise unless a concluded run read a row of that user: a slip of the pen is nobody's name.

    Raises:
        ReviewRefusedError: None did, as far as it read the source at all.
    """
    what = Traced(source=of.source, user=of.user)
    looked_at: set[BatchId] = set()
    with bench.workdir("trace") as workdir:
        for entry in reversed(_concluded(bench.registry(model))):
            run = _Run(bench, entry, workdir)
            for screened in run.batches(what):
                if run.ids_meant(what, screened):
                    return
                looked_at.add(screened.batch)
    n = len(looked_at)
    raise ReviewRefusedError(
        f"No row of {of.source} was ever handed in by {of.user!r}: found none in the"
        f" {n} batch{'es' * (n != 1)} of it that concluded runs of {model} took, expected at least"
        " one. Nothing was signed. Compare the name, letter for letter, with the column `user` of"
        " the pipeline file in what was delivered, and the source with `retraining trace`. A user"
        " who is new can be confirmed once a run of that week was concluded."
    )


def _concluded(registry: Registry) -> list[RegistryEntry]:
    """The runs on record, oldest first; a rollback is none."""
    return [entry for entry in registry.entries if entry.verdict != "ROLLBACK"]


def _touches(entry: ReviewEntry, what: Traced, ids: Collection[str]) -> bool:
    about = entry.about
    if about.batch is not None:
        return bool(what.source) and what.includes(about.batch)
    if about.pattern is not None:
        return about.pattern == what.pattern
    if about.user is not None:
        return what.source == about.user.source and what.user in ("", about.user.user)
    return not set(ids).isdisjoint(about.row_ids)


class _Run:
    """The records of one concluded run."""

    def __init__(self, bench: Workbench, entry: RegistryEntry, workdir: Path) -> None:
        self._bench = bench
        self._entry = entry
        self._workdir = workdir
        self._trust = bench.trust.named(entry.trust_list)
        gate = open_result(bench.store, self._trust, "gate", entry.decision).expect(GateDecision)
        self._inputs = gate.attestation.inputs
        pin = open_result(bench.store, self._trust, "pin", self._inputs["pin"]).expect(PinnedRun)
        spec = parse_spec(parse_json(bench.store.get(pin.report.spec)), origin=pin.report.spec)
        self.pinned = PinnedContext(self._inputs["pin"], pin.report, spec)
        screened = open_result(bench.store, self._trust, "screening", self._inputs["screening"])
        self._report = screened.expect(ScreeningReport).report

    def accepted_rows(self, batch: BatchId) -> Digest | None:
        """What the run accepted of that batch."""
        return next((b.accepted for b in self._report.batches if b.batch == batch), None)

    def batches(self, what: Traced) -> Iterator[ScreenedBatch]:
        """What the run took of the week, as far as traced rows can lie in it."""
        return (batch for batch in self._report.batches if what.includes(batch.batch))

    def traced(self, what: Traced) -> Iterator[tuple[TracedBatch, set[str]]]:
        """Each batch that brought traced rows, and the ids of those that were accepted."""
        suspicious = self._suspicious()
        for screened in self.batches(what):
            meant = self.ids_meant(what, screened)
            accepted = self._ids(screened.accepted)
            held = [
                reasons
                for name, batch, reasons in suspicious
                if batch == (screened.batch.source, screened.batch.week)
                and (meant is None or name in meant)
            ]
            found = accepted if meant is None else accepted & meant
            if found or held or meant is None:
                reasons = Counter(reason for said in held for reason in set(said.split("; ")))
                refusal = screened.refusal.code if screened.refusal else ""
                yield (
                    TracedBatch(
                        entry=self._entry,
                        batch=screened.batch,
                        accepted=len(found),
                        quarantined=dict(sorted(reasons.items())),
                        refusal=refusal,
                    ),
                    found,
                )

    def purges(self, what: Traced, ids: Collection[str]) -> Iterator[TracedBatch]:
        """Traced rows of accepted history that the run took out."""
        for left in self._report.window:
            if not left.n_purged or not what.includes(left.batch):
                continue
            gone = self._ids(left.before) - self._ids(left.rows)
            if n_gone := len(gone.intersection(ids)):
                yield TracedBatch(
                    entry=self._entry, batch=left.batch, quarantined={}, purged=n_gone
                )

    def ids_meant(self, what: Traced, screened: ScreenedBatch) -> set[str] | None:
        """Ids that are traced in this batch; None for all of them."""
        if what.pattern is None and not what.user:
            return set(what.row_ids) if what.row_ids else None
        source, week = screened.batch.source, screened.batch.week
        named = self._inputs[f"provenance/{source}/{week}"]
        verified = open_result(self._bench.store, self._trust, "provenance", named)
        folder = self._workdir / f"entry-{self._entry.sequence}"
        folder.mkdir(exist_ok=True)
        report = verified.expect(ProvenanceReport).report
        rows = parse_batch(self._bench, self.pinned, report, folder).rows
        if rows is None:
            return set()
        spec = self.pinned.spec
        if what.pattern is not None:
            mask = carriers(what.pattern, rows.values, spec=spec)
        elif spec.user is None:
            return set()  # in that run's days nobody said whose a row was
        else:
            mask = rows_of_users({what.user}, rows.values, n_rows=len(rows), spec=spec)
        return set(rows.column(spec.row_id)[mask].astype(str))

    def _suspicious(self) -> list[tuple[str | None, tuple[str, str], str]]:
        if self._report.suspicious_parquet is None:
            return []
        columns = ["row_id", "source", "week", "reasons"]
        rows = self._table(self._report.suspicious_parquet, columns).to_pylist()
        return [(row["row_id"], (row["source"], row["week"]), row["reasons"]) for row in rows]

    def _ids(self, rows: Digest | None) -> set[str]:
        if rows is None:
            return set()
        name = self.pinned.spec.row_id
        return {str(value) for value in self._table(rows, [name])[name].to_pylist()}

    def _table(self, digest: Digest, columns: list[str]) -> "pa.Table":
        import pyarrow.parquet as pq

        path = self._workdir / f"{digest.hex}.parquet"
        if not path.exists():
            self._bench.store.fetch(digest, path)
        return pq.read_table(path, columns=columns)
