import shutil
from pathlib import Path
from typing import Any

import pytest

from retraining.chains import registry_chain
from retraining.digests import Digest
from retraining.errors import ChainBrokenError, ConfigError, EvidenceError, NameTakenError
from retraining.evidence import signer_from_file
from retraining.records import BatchId, Block, RegisteredBatch, RegistryEntry
from retraining.registry import HeadMemory, Registry, next_week, previous_week
from retraining.signed_chain import SignedChain
from retraining.store import DirectoryStore
from retraining.trust_history import TrustHistory
from tests.fixtures.evidence import KeyRing

ANY = Digest.of(b"any")


class Books:
    """A registry in a directory, with keys to write into it honestly or not."""

    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore(folder / "store")
        self.keys = KeyRing(folder / "keys")
        self.keys.publish(self.store, pipeline="pipeline", promoter="promoter")

    @property
    def trust(self) -> TrustHistory:
        return TrustHistory.load(self.store, self.keys.root)

    def chain(self, model: str = "spam") -> SignedChain[RegistryEntry]:
        return registry_chain(self.store, self.trust, model)

    def load(self) -> Registry:
        return Registry("spam", tuple(self.chain().load()))

    def entry(self, week: str, verdict: Any = "PROMOTE", **changes: Any) -> RegistryEntry:
        before, trust = self.load(), self.trust.latest
        values: dict[str, Any] = {
            "model": "spam",
            "sequence": len(before.links) + 1,
            "previous": before.head,
            "verdict": verdict,
            "week": week,
            "attempt": before.attempt(week),
            "decision": Digest.of(f"{week}{verdict}{len(before.links)}".encode()),
            "decision_report": ANY,
            "spec": ANY,
            "policy": ANY,
            "trust_list": trust.digest,
            "trust_version": trust.version,
            "batches": (),
            "ledger_head": None,
            "champion": Digest.of(week.encode()) if verdict == "PROMOTE" else before.champion,
            "version": before.version,
        }
        if verdict == "PROMOTE":
            values["version"] = len(before.promotions) + 1
        return RegistryEntry(**{**values, **changes})

    def rollback(self, to_version: int, *, convicted: tuple[int, ...] = ()) -> RegistryEntry:
        """The entry by which that version serves again."""
        restored = self.load().promotions[to_version].record
        return self.entry(
            restored.week,
            "ROLLBACK",
            attempt=restored.attempt,
            champion=restored.champion,
            version=to_version,
            convicted=convicted,
        )

    def append(self, entry: RegistryEntry, key: str = "promoter") -> None:
        self.chain().append(entry, signer_from_file(self.keys.folder / f"{key}.pem", key))

    def file(self, number: int, model: str = "spam") -> Path:
        return self.store.path_of_record(f"registry/{model}/{number:010d}.dsse.json")


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


@pytest.fixture
def three_weeks(books: Books) -> Books:
    books.append(books.entry("2026-W40"))
    books.append(books.entry("2026-W41"))
    books.append(books.entry("2026-W42", "REJECT"))
    return books


def test_the_champion_is_that_of_the_newest_entry(three_weeks: Books) -> None:
    registry = three_weeks.load()
    assert registry.champion == Digest.of(b"2026-W41")
    assert (registry.version, registry.last_promoted_week) == (2, "2026-W41")


def test_held_and_missed_weeks_are_looked_at_again(three_weeks: Books) -> None:
    registry = three_weeks.load()
    assert registry.pending_weeks("2026-W42", window_weeks=8) == ("2026-W42",)
    assert registry.pending_weeks("2026-W44", window_weeks=8) == (
        "2026-W42",
        "2026-W43",
        "2026-W44",
    )
    assert registry.pending_weeks("2026-W44", window_weeks=2) == ("2026-W43", "2026-W44")
    assert (registry.attempt("2026-W42"), registry.attempt("2026-W43")) == (2, 1)


def test_the_first_week_held_is_not_forgotten(books: Books) -> None:
    books.append(books.entry("2026-W40", "HOLD"))
    assert books.load().pending_weeks("2026-W41", window_weeks=8) == ("2026-W40", "2026-W41")


def test_weeks_follow_the_iso_calendar() -> None:
    assert next_week("2026-W53") == "2027-W01"
    assert previous_week("2026-W01") == "2025-W52"


def batch(week: str) -> RegisteredBatch:
    return RegisteredBatch(
        batch=BatchId(source="feed", week=week),
        batch_digest=ANY,
        sequence=1,
        n_rows=1,
        n_quarantined=0,
        accepted=Digest.of(b"rows" + week.encode()),
        refusal_code=None,
    )


def test_only_promoted_rows_in_the_window_become_history(books: Books) -> None:
    for week, verdict in (("2026-W40", "PROMOTE"), ("2026-W41", "HOLD"), ("2026-W42", "PROMOTE")):
        books.append(books.entry(week, verdict, batches=(batch(week),)))
    registry = books.load()
    rows = [
        Block(batch=BatchId(source="feed", week=week), rows=Digest.of(b"rows" + week.encode()))
        for week in ("2026-W40", "2026-W42")
    ]
    assert registry.accepted_blocks("2026-W43", window_weeks=4) == tuple(rows)
    assert registry.accepted_blocks("2026-W43", window_weeks=3) == tuple(rows[1:])
    assert len(registry.history_of("feed")) == 3


def test_a_deleted_middle_entry_is_noticed(three_weeks: Books) -> None:
    three_weeks.file(2).unlink()
    with pytest.raises(ChainBrokenError, match="taken out"):
        three_weeks.load()


def test_exchanged_entries_are_noticed(three_weeks: Books) -> None:
    first, second = three_weeks.file(1).read_bytes(), three_weeks.file(2).read_bytes()
    three_weeks.file(1).write_bytes(second)
    three_weeks.file(2).write_bytes(first)
    with pytest.raises(ChainBrokenError, match="exchanged"):
        three_weeks.load()


def test_an_entry_of_another_model_is_noticed(three_weeks: Books) -> None:
    three_weeks.file(1, "fraud").parent.mkdir(parents=True)
    shutil.copy(three_weeks.file(1), three_weeks.file(1, "fraud"))
    with pytest.raises(ChainBrokenError, match="belongs to the model 'spam'"):
        three_weeks.chain("fraud").load()


@pytest.mark.parametrize("content", [b"", b"{}", b"garbage"])
def test_garbage_in_the_next_place_is_an_alarm_and_no_entry(
    three_weeks: Books, content: bytes
) -> None:
    three_weeks.file(4).write_bytes(content)
    with pytest.raises(ChainBrokenError, match=r"0000000004\.dsse\.json"):
        three_weeks.load()


def test_the_pipeline_key_cannot_write_the_registry(books: Books) -> None:
    with pytest.raises(EvidenceError, match="not signed by a promoter key"):
        books.append(books.entry("2026-W40"), key="pipeline")
    assert not books.file(1).exists()


def test_of_two_writers_one_wins(books: Books) -> None:
    mine, theirs = books.entry("2026-W40"), books.entry("2026-W40", "HOLD")
    books.append(mine)
    with pytest.raises(NameTakenError):
        books.append(theirs)
    assert books.load().entries == [mine]


def test_a_shortened_registry_is_noticed_by_whoever_saw_it_longer(
    three_weeks: Books, tmp_path: Path
) -> None:
    memory = HeadMemory(tmp_path / "memory")
    memory.remember(three_weeks.load())
    memory.check(three_weeks.load())
    three_weeks.file(3).unlink()
    shortened = three_weeks.load()  # the chain alone looks whole
    with pytest.raises(ChainBrokenError, match="has 2 entries and not the entry 3"):
        memory.check(shortened)


def test_a_rewritten_last_entry_is_noticed_by_whoever_saw_it(
    three_weeks: Books, tmp_path: Path
) -> None:
    memory = HeadMemory(tmp_path / "memory")
    memory.remember(three_weeks.load())
    three_weeks.file(3).unlink()
    three_weeks.append(three_weeks.entry("2026-W42", "PROMOTE"))  # with the promoter's own key
    with pytest.raises(ChainBrokenError, match="shortened or exchanged"):
        memory.check(three_weeks.load())


def test_a_revoked_key_signs_nothing_more_whatever_list_it_names(books: Books) -> None:
    books.append(books.entry("2026-W40"))
    old = books.trust.latest
    books.keys.publish(books.store, promoter_2="promoter", pipeline="pipeline")
    books.append(books.entry("2026-W41"), key="promoter_2")
    assert len(books.load().links) == 2  # the entry under the old list still verifies
    with pytest.raises(EvidenceError, match="not signed by a promoter key"):
        books.append(books.entry("2026-W42"))
    thief = books.entry("2026-W42", trust_list=old.digest, trust_version=old.version)
    books.append(thief)  # signs under the list of its day: the write succeeds, no reader takes it
    with pytest.raises(ChainBrokenError, match="revoked key"):
        books.load()


def test_a_missing_version_of_the_trust_list_is_noticed(books: Books) -> None:
    books.keys.publish(books.store, pipeline="pipeline", promoter="promoter")
    books.store.path_of_record("trust/0000000001.dsse.json").unlink()
    with pytest.raises(EvidenceError, match="restore the missing one"):
        _ = books.trust


def test_without_a_trust_list_the_next_step_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="retraining keys create"):
        TrustHistory.load(DirectoryStore(tmp_path), KeyRing(tmp_path / "keys").root)


def test_the_registry_as_it_was_is_found_again(three_weeks: Books) -> None:
    registry = three_weeks.load()
    middle = registry.links[1].digest
    assert len(registry.before(middle).links) == 2
    assert registry.before(None).links == ()
    with pytest.raises(ChainBrokenError, match="has no entry"):
        registry.before(ANY)


@pytest.fixture
def rolled_back(books: Books) -> Books:
    """Three promoted weeks with a batch each, and then the first version again."""
    for week in ("2026-W40", "2026-W41", "2026-W42"):
        books.append(books.entry(week, batches=(batch(week),)))
    books.append(books.rollback(1))
    return books


def test_after_a_rollback_the_older_version_serves_under_its_own_number(
    rolled_back: Books,
) -> None:
    registry = rolled_back.load()
    assert (registry.champion, registry.version) == (Digest.of(b"2026-W40"), 1)
    assert registry.serving == registry.links[0]
    assert registry.standing == (1, 2, 3)


def test_a_number_is_never_used_for_a_second_model(rolled_back: Books) -> None:
    rolled_back.append(rolled_back.entry("2026-W43"))
    registry = rolled_back.load()
    assert registry.version == 4
    assert registry.promotions[4].digest == registry.head


def test_a_rollback_is_no_run_of_a_week(rolled_back: Books) -> None:
    registry = rolled_back.load()
    assert registry.attempt("2026-W40") == 2
    assert registry.last_promoted_week == "2026-W42"
    assert registry.pending_weeks("2026-W43", window_weeks=8) == ("2026-W43",)


def test_a_rollback_alone_says_nothing_about_rows(rolled_back: Books) -> None:
    registry = rolled_back.load()
    weeks = [block.batch.week for block in registry.accepted_blocks("2026-W43", window_weeks=8)]
    assert weeks == ["2026-W40", "2026-W41", "2026-W42"]


def test_rows_of_a_convicted_version_are_history_no_longer_and_never_offered_again(
    rolled_back: Books,
) -> None:
    rolled_back.append(rolled_back.rollback(1, convicted=(3,)))
    rolled_back.append(rolled_back.entry("2026-W43", batches=(batch("2026-W43"),)))
    registry = rolled_back.load()
    weeks = [block.batch.week for block in registry.accepted_blocks("2026-W44", window_weeks=8)]
    assert weeks == ["2026-W40", "2026-W41", "2026-W43"]
    assert registry.standing == (1, 2, 4)
    assert registry.convicted == {3: registry.links[4]}
    # Its week stays concluded, and its sequence numbers stay used.
    assert registry.before(registry.links[4].digest).last_promoted_week == "2026-W42"
    assert [found.batch.week for found in registry.history_of("feed")] == [
        *("2026-W40", "2026-W41", "2026-W42", "2026-W43")
    ]


def test_what_was_decided_before_a_conviction_is_judged_by_the_history_of_its_day(
    rolled_back: Books,
) -> None:
    rolled_back.append(rolled_back.rollback(1, convicted=(2, 3)))
    registry = rolled_back.load()
    third = registry.links[2].record
    blocks = registry.before(third.previous).accepted_blocks("2026-W42", window_weeks=8)
    assert [block.batch.week for block in blocks] == ["2026-W40", "2026-W41"]
