"""The scripts of include/deploy, which are files and no package: loaded by path."""

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from retraining.settings import REPOSITORY


@pytest.fixture
def deploy_script() -> Callable[[str], ModuleType]:
    """Load include/deploy/<name>.py."""

    def load(name: str) -> ModuleType:
        path = REPOSITORY / "include" / "deploy" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"deploy_{name}", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load
