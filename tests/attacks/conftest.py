"""Who attacks in which test, for `make bench-attacks`; and a week that several start from."""

import pytest

from tests.attacks.measured_week import MeasuredWeek, measured
from tests.fixtures.workspace import WEEKS, make_workspace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say with each result who attacked: there is one file per attacker, of his name."""
    for item in items:
        if item.path.parent.name == "attacks":  # pytest shows each conftest.py all tests
            kind = "control" if item.get_closest_marker("control") else "attack"
            attacker = item.path.stem.removeprefix("test_").replace("_", " ")
            item.user_properties.append((kind, attacker))


@pytest.fixture(scope="session")
def measured_week(tmp_path_factory: pytest.TempPathFactory) -> MeasuredWeek:
    """A first week up to its measured challenger."""
    home = tmp_path_factory.mktemp("measured") / "workspace"
    return measured(make_workspace(home, weeks=WEEKS[:1]), WEEKS[0])
