"""Several processes promote at once: all have verified before the first of them writes."""

from pathlib import Path
from typing import Any

import pytest

from retraining.audit import audit
from retraining.digests import Digest
from retraining.errors import ChainBrokenError
from tests.attacks.measured_week import MeasuredWeek, run_program
from tests.fixtures.workspace import MODEL, Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_decisions(
    measured_week: MeasuredWeek, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, list[Digest]]:
    """Two runs of a week that both say PROMOTE, after the same registry entry (none)."""
    workspace = measured_week.workspace.copied(tmp_path_factory.mktemp("race") / "workspace")
    return workspace, [decided(workspace, measured_week.digests, name) for name in ("one", "two")]


def decided(workspace: Workspace, week: dict[str, Any], run_id: str) -> Digest:
    steps = workspace.steps(run_id=run_id)
    done = steps.decide(
        week["run"],
        provenance=week["provenance"],
        screening=week["screening"],
        training=week["training"],
        validation=week["validation"],
    )
    assert done.report.promotes
    return Digest(done.attestation.digest)


@pytest.fixture
def raced(
    two_decisions: tuple[Workspace, list[Digest]], tmp_path: Path
) -> tuple[Workspace, list[dict[str, Any]]]:
    """What each of six processes was told, three with each decision."""
    workspace = two_decisions[0].copied(tmp_path / "workspace")
    asked = [str(digest) for digest in two_decisions[1]] * 3
    return workspace, run_program("race", workspace, tmp_path / "answers", asked)


def test_exactly_one_of_six_wins(raced: tuple[Workspace, list[dict[str, Any]]]) -> None:
    workspace, outcomes = raced
    told = sorted(one["outcome"] for one in outcomes)
    (entry,) = workspace.registry()
    steps = workspace.steps()
    assert told[:5] == ["RegistryMovedError"] * 5
    assert told[5] == f"entry {steps.registry(MODEL).head}"
    (winner,) = [one["decision"] for one in outcomes if one["outcome"].startswith("entry")]
    assert (entry.verdict, str(entry.decision)) == ("PROMOTE", winner)
    assert len(list(audit(steps.store, steps.trust))) == 1


def test_those_that_lost_change_nothing_when_they_try_again(
    raced: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    workspace, outcomes = raced
    head = workspace.steps().registry(MODEL).head
    (entry,) = workspace.registry()
    for decision in {one["decision"] for one in outcomes}:
        steps = workspace.steps()
        if decision == str(entry.decision):
            assert steps.promote(Digest(decision)).digest == head
        else:
            with pytest.raises(ChainBrokenError, match="old decision"):
                steps.promote(Digest(decision))
    assert workspace.steps().registry(MODEL).head == head
