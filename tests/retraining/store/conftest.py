"""Fixtures for the tests of stores and inboxes."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# So that a failing assertion of the shared contract is explained as those of a test module are.
pytest.register_assert_rewrite("tests.retraining.store.contract")


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder that an ordinary user owns, as whom this process runs meanwhile: root may all."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)
