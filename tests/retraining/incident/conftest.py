"""Two promoted weeks with a reviewer; the feed delivered to both."""

from pathlib import Path

import pytest

from tests.fixtures.workspace import WEEKS, Workspace, make_workspace
from tests.retraining.reviews.cases import add_reviewer


@pytest.fixture(scope="session")
def after_two_weeks(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Not to be changed."""
    workspace = make_workspace(tmp_path_factory.mktemp("incident") / "workspace", weeks=WEEKS[:2])
    add_reviewer(workspace)
    for week in WEEKS[:2]:
        assert workspace.run_week(week).entry is not None
    return workspace


@pytest.fixture
def workspace(after_two_weeks: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it, to do what one likes with."""
    return after_two_weeks.copied(tmp_path / "workspace")
