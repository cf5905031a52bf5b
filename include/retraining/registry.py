"""The registry of one model: all state between weeks is derived from here, and from nothing else.

Every concluded run, and every rollback, appends one signed entry. Rows become accepted history only
by PROMOTE, and stop being it only when a rollback convicts the version that they made; the champion
is that of the newest entry; a pointer anywhere else is only a cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import ChainBrokenError
from retraining.records import Block, RegisteredBatch, RegistryEntry
from retraining.signed_chain import Link


@dataclass(frozen=True)
class Registry:
    """The verified entries of one model's registry, oldest first."""

    model: str
    links: tuple[Link[RegistryEntry], ...]

    @property
    def entries(self) -> list[RegistryEntry]:
        """The entries without their envelopes."""
        return [link.record for link in self.links]

    @property
    def head(self) -> Digest | None:
        """Payload digest of the newest entry."""
        return self.links[-1].digest if self.links else None

    @property
    def champion(self) -> Digest | None:
        """Manifest digest of the model that serves now."""
        return self.links[-1].record.champion if self.links else None

    @property
    def version(self) -> int:
        """Number of the promotion that made the champion; 0 when none serves."""
        return self.links[-1].record.version if self.links else 0

    @property
    def promotions(self) -> dict[int, Link[RegistryEntry]]:
        """The entry that promoted each version, oldest first, whether it serves or not."""
        promoted = (link for link in self.links if link.record.verdict == "PROMOTE")
        return dict(enumerate(promoted, start=1))

    @property
    def serving(self) -> Link[RegistryEntry] | None:
        """The entry that promoted the model that serves now, whenever that was."""
        return self.promotions.get(self.version)

    @property
    def withdrawn(self) -> Link[RegistryEntry] | None:
        """The entry that promoted the version that was withdrawn, until another one serves."""
        served = [entry.version for entry in self.entries if entry.version]
        return self.promotions[served[-1]] if served and not self.version else None

    @property
    def convicted(self) -> dict[int, Link[RegistryEntry]]:
        """Versions that a rollback convicted of poison, and the entry that did."""
        return {number: link for link in self.links for number in link.record.convicted}

    @property
    def standing(self) -> tuple[int, ...]:
        """Versions that may serve: every promoted one that was not convicted."""
        convicted = self.convicted
        return tuple(number for number in self.promotions if number not in convicted)

    @property
    def last_promoted_week(self) -> str | None:
        """The newest week that was ever promoted.

        It stays concluded when its version is convicted: its batches are never looked at again.
        """
        return max((e.week for e in self.entries if e.verdict == "PROMOTE"), default=None)

    def before(self, head: Digest | None) -> "Registry":
        """The registry as it was when `head` was its newest entry; raises ChainBrokenError."""
        if head is None:
            return Registry(self.model, ())
        for position, link in enumerate(self.links, start=1):
            if link.digest == head:
                return Registry(self.model, self.links[:position])
        raise ChainBrokenError(
            f"The registry of {self.model} has no entry {head}. It was shortened or exchanged"
            " since the run was pinned; restore it before anything is promoted."
        )

    def attempt(self, week: str) -> int:
        """Number of the next run of `week`, from 1; a rollback is no run of a week."""
        return 1 + sum(e.week == week and e.verdict != "ROLLBACK" for e in self.entries)

    def pending_weeks(self, week: str, *, window_weeks: int) -> tuple[str, ...]:
        """Weeks whose batches a run of `week` has to look at, oldest first.

        All weeks since the last promoted one (or since the first that anybody tried), so that a
        held or a missed week is looked at again; at most `window_weeks`, the newest.
        """
        last = self.last_promoted_week
        first = next_week(last) if last else min((e.week for e in self.entries), default=week)
        weeks = [week]
        while weeks[0] > first and len(weeks) < window_weeks:
            weeks.insert(0, previous_week(weeks[0]))
        return tuple(weeks)

    def accepted_blocks(self, week: str, *, window_weeks: int) -> tuple[Block, ...]:
        """Accepted rows that the window of `week` still reaches: one Parquet per batch.

        What a convicted version added is left out.
        """
        convicted = self.convicted
        oldest = week
        for _ in range(window_weeks - 1):
            oldest = previous_week(oldest)
        return tuple(
            Block(batch=batch.batch, rows=batch.accepted)
            for number, link in self.promotions.items()
            if number not in convicted
            for batch in link.record.batches
            if batch.accepted is not None and batch.batch.week >= oldest
        )

    def history_of(self, source: str) -> list[RegisteredBatch]:
        """What `source` delivered in all concluded runs, oldest first."""
        return [b for e in self.entries for b in e.batches if b.batch.source == source]


@dataclass(frozen=True)
class HeadMemory:
    """The highest registry head that this machine has seen, kept outside the store.

    A chain cannot show that its last entries were deleted; only a memory elsewhere can.
    """

    folder: Path

    def check(self, registry: Registry) -> None:
        """Raise ChainBrokenError when the registry no longer contains the remembered head."""
        try:
            remembered = parse_json(self._file(registry.model).read_bytes())
        except FileNotFoundError:
            return
        number = int(remembered["sequence"])
        links: Sequence[Link[RegistryEntry]] = registry.links
        if len(links) < number or links[number - 1].digest != remembered["digest"]:
            raise ChainBrokenError(
                f"The registry of {registry.model} has {len(links)} entries and not the entry"
                f" {number} that this machine has seen ({remembered['digest']}). It was shortened"
                f" or exchanged; restore it. If it was moved on purpose, remove"
                f" {self._file(registry.model)}."
            )

    def remember(self, registry: Registry) -> None:
        """Keep the newest entry of a verified registry."""
        if not registry.links:
            return
        newest = registry.links[-1]
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self._file(registry.model).with_suffix(f".{newest.record.sequence}.part")
        temporary.write_bytes(
            canonical_json({"sequence": newest.record.sequence, "digest": newest.digest})
        )
        temporary.replace(self._file(registry.model))

    def _file(self, model: str) -> Path:
        return self.folder / f"{model}.head.json"


def previous_week(week: str) -> str:
    """The ISO week before, such as 2025-W52 for 2026-W01."""
    return week_of(_monday(week) - timedelta(weeks=1))


def next_week(week: str) -> str:
    """The ISO week after."""
    return week_of(_monday(week) + timedelta(weeks=1))


def week_of(day: date) -> str:
    """The ISO week that contains `day`."""
    year, number, _ = day.isocalendar()
    return f"{year:04d}-W{number:02d}"


def _monday(week: str) -> date:
    return date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
