"""Two promoted weeks with a reviewer, and two more that are delivered."""

from pathlib import Path

import pytest

from tests.fixtures.workspace import WEEKS, Workspace, make_workspace
from tests.retraining.reviews.cases import add_reviewer


@pytest.fixture(scope="session")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two promoted weeks; the other two are delivered. Not to be changed."""
    workspace = make_workspace(tmp_path_factory.mktemp("reviews") / "workspace", weeks=WEEKS)
    add_reviewer(workspace)
    for week in WEEKS[:2]:
        assert workspace.run_week(week).entry is not None
    return workspace


@pytest.fixture
def workspace(two_versions: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it, to do what one likes with."""
    return two_versions.copied(tmp_path / "workspace")
