"""A week in shards: whoever judges a part of it, the record is the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from retraining.screening import rows, stored
from retraining.screening.judge import Answers
from retraining.screening.shards import load_answers, save_answers
from retraining.settings import Settings
from tests.fixtures.workspace import MODEL, Workspace, make_workspace

pytestmark = pytest.mark.slow  # whole weeks are run

FIRST = "2026-W05"
_SHARDS = 3


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PART_ROWS", 50)
    monkeypatch.setattr(stored, "PART_ROWS", 50)


def _screened(workspace: Workspace, *, shards: range, log: list[str]):
    steps = workspace.steps(log=log.append)
    run = steps.pin(MODEL, FIRST).attestation.digest
    checked = []
    for source in ("feed", "gateway"):
        ingested = [r.attestation.digest for r in steps.ingest(run, source)]
        checked += [r.attestation.digest for r in steps.verify_provenance(run, ingested)]
    reports = [steps.screen_shard(run, checked, shard).report for shard in shards]
    return reports, steps.screen(run, checked).report


@pytest.mark.usefixtures("_small_parts")
def test_shards_of_other_tasks_and_one_process_make_the_same_record(tmp_path: Path) -> None:
    alone = make_workspace(tmp_path / "a", weeks=[FIRST], spec={"screening": {"shards": _SHARDS}})
    shutil.copytree(alone.home, tmp_path / "b")
    together = Workspace(tmp_path / "b", MODEL, Settings.load(tmp_path / "b"))
    said_alone: list[str] = []
    said: list[str] = []

    _, expected = _screened(alone, shards=range(0), log=said_alone)
    reports, merged = _screened(together, shards=range(_SHARDS), log=said)

    assert merged.identity == expected.identity
    assert sum(report.n_rows for report in reports) == expected.n_accepted + sum(
        count
        for batch in expected.batches
        for name, count in batch.quarantined.items()
        if name not in ("in_holdout", "duplicate_row_id")
    )
    assert all(report.n_rows > 0 for report in reports)
    told = "was judged by no other task"
    assert sum(told in line for line in said_alone) == _SHARDS
    assert not any(told in line for line in said)


@pytest.mark.usefixtures("_small_parts")
def test_a_shard_that_nobody_judged_is_judged_by_screening(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, weeks=[FIRST], spec={"screening": {"shards": _SHARDS}})
    said: list[str] = []
    _, report = _screened(workspace, shards=range(1), log=said)
    assert report.n_accepted > 0
    assert [line for line in said if "no other task" in line] == [
        "shard 2 of 3 was judged by no other task",
        "shard 3 of 3 was judged by no other task",
    ]


def _answers(first: int, n_rows: int, odd: list[int]) -> Answers:
    places = np.array(odd, dtype=np.int64) + first
    return Answers(
        places=places,
        scores=np.outer(places, np.ones(2)),
        evidence=places / 7,
        near=np.zeros((len(odd), 3), dtype=np.int64),
        labels=places % 2,
        sources=places * 0,
        users=places * 0 - 1,
        order=np.arange(first, first + n_rows, dtype=np.float32),
    )


def test_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    parts = {0: _answers(0, 5, [1, 4]), 5: _answers(5, 3, []), 40: _answers(40, 2, [0])}
    save_answers(parts, tmp_path / "answers")
    found = load_answers(tmp_path / "answers")
    assert list(found) == list(parts)
    for first, part in parts.items():
        for name, array in vars(part).items():
            assert np.array_equal(array, getattr(found[first], name)), name
    save_answers({}, tmp_path / "none")
    assert load_answers(tmp_path / "none") == {}
