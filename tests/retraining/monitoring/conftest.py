"""A model that serves, made once, and a copy of its workspace for each test."""

from pathlib import Path

import pytest

from tests.fixtures.traffic import copy_of, promote_one
from tests.fixtures.workspace import Workspace


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return promote_one(tmp_path_factory.mktemp("promoted") / "workspace")


@pytest.fixture
def home(promoted: Workspace, tmp_path: Path) -> Workspace:
    return copy_of(promoted, tmp_path / "workspace")
