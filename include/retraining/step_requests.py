"""What exactly a step is asked, as one digest per step.

A finished step is reused only if its whole request matches, and the verifier computes the same
digests again: so a record made under another spec, policy, code, trust list or input is noticed
both by the next run and by an auditor. Pure functions of the pinned run.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from retraining.digests import Digest, canonical_json
from retraining.errors import ConfigError
from retraining.records import (
    BatchId,
    Block,
    PinnedRun,
    PurgeReport,
    RegisteredBatch,
    ScreeningReport,
    Step,
)
from retraining.spec import PipelineSpec

_INCLUDE = Path(__file__).resolve().parents[1]
_CODE = ("retraining", "dp_trainer")
_SOURCES = (".py", ".j2", ".css")  # with templates: the gate report is made of them
_LOCKS = ("requirements.lock", "requirements-trainer.lock")


@cache
def code_version() -> Digest:
    """SHA-256 over our sources and both lock files: what "the same code" means."""
    found = (path for package in _CODE for path in sorted((_INCLUDE / package).rglob("*")))
    files = [path for path in found if path.suffix in _SOURCES]
    files += [_INCLUDE.parent / name for name in _LOCKS]
    digest = hashlib.sha256()
    for path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{path} is missing: the lock files belong beside include/, as in the repository."
            ) from error
        name = path.relative_to(_INCLUDE.parent).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return Digest.from_hex(digest.hexdigest())


def trained_blocks(screening: ScreeningReport) -> tuple[Block, ...]:
    """Rows that a run trains on: what is left of the history, then the accepted new ones."""
    left = [(block.batch, block.rows) for block in screening.window]
    new = [(screened.batch, screened.accepted) for screened in screening.batches]
    return tuple(Block(batch=batch, rows=rows) for batch, rows in (*left, *new) if rows is not None)


def input_of(number: int, *, judged: int) -> Callable[[str], str]:
    """Under which name the gate lists a record of the run's challenger of that number.

    The one that it judged has the plain names: whoever follows a promotion back needs only these.
    """
    return lambda step: step if number == judged else f"{step}/{number}"


def blocks_left(purge: PurgeReport) -> tuple[Block, ...]:
    """Rows that a run trains on again, after a purge."""
    return tuple(
        Block(batch=left.batch, rows=left.rows) for left in purge.blocks if left.rows is not None
    )


def batches_of(blocks: Sequence[Block]) -> tuple[str, ...]:
    """The batches that the privacy ledger charges when these rows are read.

    By batch and not by digest: what is left of a batch after a purge holds the same people's rows,
    and has no fresh budget. Nothing is given back for rows that are read no more, either.
    """
    return tuple(str(block.batch) for block in blocks)


@dataclass(frozen=True)
class PinnedContext:
    """A pinned run, opened: its attestation's digest, its report and the spec that it names."""

    digest: Digest
    run: PinnedRun
    spec: PipelineSpec

    def batches(self) -> list[BatchId]:
        """Every batch that the run has to look at, sources left out by hand excepted."""
        left_out = set(self.run.left_out)
        return [
            BatchId(source=source.name, week=week)
            for week in self.run.weeks
            for source in self.spec.sources
            if not {source.name, f"{source.name}@{week}"} & left_out
        ]

    def of(self, step: Step, **parts: Any) -> Digest:
        """Digest of a request of `step`: the parts, and what every step depends on."""
        return Digest.of(
            canonical_json(
                {
                    "step": step,
                    "model": self.run.model,
                    "code": self.run.code_version,
                    "trust_list": self.run.trust_list,
                    **parts,
                }
            )
        )

    def ingest(self, batch: BatchId, report: Digest) -> Digest:
        """The inbox lies outside our control, so what was found there is part of the request."""
        source = self.spec.source(batch.source).model_dump(mode="json")
        return self.of("ingest", week=batch.week, source=source, found=report)

    def provenance(
        self, batch: BatchId, ingested: Digest, history: Sequence[RegisteredBatch]
    ) -> Digest:
        """Provenance of one batch, given what its source delivered before."""
        return self.of(
            "provenance",
            week=batch.week,
            source=self.spec.source(batch.source).model_dump(mode="json"),
            ingested=ingested,
            history=[item.model_dump(mode="json") for item in history],
        )

    def screening(self, provenance: Mapping[str, Digest], blocks: Sequence[Block]) -> Digest:
        """Screening of all batches against reference set, accepted history and reviews."""
        return self.of(
            "screening",
            spec=self.run.spec,
            week=self.run.week,
            weeks=list(self.run.weeks),
            reference=self.run.reference,
            holdout=self.run.holdout,
            provenance=dict(provenance),
            blocks=[block.model_dump(mode="json") for block in blocks],
            reviews=self.run.reviews_head,
        )

    def screening_shard(self, screening: Digest, shard: int) -> Digest:
        """One shard of a screening's rows; how many there are stands in the spec."""
        return self.of("screening_shard", screening=screening, shard=shard)

    def training(
        self, screening: Digest, blocks: Sequence[Block], purge: Digest | None = None
    ) -> Digest:
        """Training on the new and the window's accepted rows, or on what a purge left of them."""
        return self.of(
            "training",
            spec=self.run.spec,
            reference=self.run.reference,
            screening=screening,
            blocks=[block.model_dump(mode="json") for block in blocks],
            **({"purge": purge} if purge else {}),
        )

    def validation(self, training: Digest) -> Digest:
        """Validation of one challenger against the pinned champion, and what reviews confirmed."""
        return self.of(
            "validation",
            spec=self.run.spec,
            training=training,
            champion=self.run.champion,
            reference=self.run.reference,
            holdout=self.run.holdout,
            reviews=self.run.reviews_head,
        )

    def purge(self, validation: Digest) -> Digest:
        """Tracing what taught the challenger of a validation."""
        return self.of(
            "purge",
            spec=self.run.spec,
            validation=validation,
            reference=self.run.reference,
            holdout=self.run.holdout,
        )

    def gate(self, inputs: Mapping[str, Digest]) -> Digest:
        """The gate's decision on everything above."""
        return self.of("gate", inputs=dict(inputs))
