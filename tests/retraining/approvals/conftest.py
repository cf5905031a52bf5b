"""A first week that the gate held, with a challenger; and one that serves under the same file."""

from pathlib import Path

import pytest

from tests.fixtures.workspace import WEEKS, Workspace, make_workspace
from tests.retraining.approvals.cases import TOO_FEW_ROWS, add_people


@pytest.fixture(scope="session")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Not to be changed."""
    home = tmp_path_factory.mktemp("approvals") / "workspace"
    workspace = make_workspace(home, spec=TOO_FEW_ROWS, weeks=WEEKS[:2])
    add_people(workspace)
    held = workspace.run_week(WEEKS[0])
    assert [check.name for check in held.gate.report.failed()] == ["holdout rows"]
    return workspace


@pytest.fixture
def held(held_once: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it, to do what one likes with."""
    return held_once.copied(tmp_path / "workspace")


@pytest.fixture(scope="session")
def served_once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Not to be changed."""
    home = tmp_path_factory.mktemp("served") / "workspace"
    workspace = make_workspace(home, weeks=WEEKS[:3])
    add_people(workspace)
    assert workspace.run_week(WEEKS[0]).entry is not None
    return workspace


@pytest.fixture
def served(served_once: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it: version 1 serves."""
    return served_once.copied(tmp_path / "workspace")
