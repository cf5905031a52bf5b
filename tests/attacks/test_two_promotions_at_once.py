"""Several processes promote at once: all have verified before the first of them writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retraining.audit import audit
from retraining.digests import Digest
from retraining.errors import ChainBrokenError
from tests.attacks.measured_week import MeasuredWeek, run_program
from tests.fixtures.s3 import S3Server
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


@pytest.fixture(params=["a directory", pytest.param("S3", marks=pytest.mark.s3)])
def raced(
    two_decisions: tuple[Workspace, list[Digest]], tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[Workspace, list[dict[str, Any]]]:
    """What each of six processes was told, three with each decision, on both kinds of store."""
    workspace = two_decisions[0].copied(tmp_path / "workspace")
    environment = {}
    if request.param == "S3":
        server: S3Server = request.getfixturevalue("s3_server")
        workspace = moved_to(server, workspace)
        environment = server.settings() | {"RETRAINING_STORE": workspace.settings.store}
    asked = [str(digest) for digest in two_decisions[1]] * 3
    answers = tmp_path / "answers"
    return workspace, run_program("race", workspace, answers, asked, environment=environment)


def moved_to(server: S3Server, workspace: Workspace) -> Workspace:
    """Move the whole store into a new bucket: the same names, the same bytes."""
    bucket, client = server.new_bucket(), server.client()
    store = Path(workspace.settings.store)
    for path in store.rglob("*"):
        if path.is_file():
            name = path.relative_to(store).as_posix()
            client.put_object(Bucket=bucket, Key=f"team/store/{name}", Body=path.read_bytes())
    store.rename(store.with_name("moved"))  # so that nobody finds it
    there = workspace.settings.model_copy(update={"store": f"s3://{bucket}/team/store"})
    return replace(workspace, settings=there)


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
