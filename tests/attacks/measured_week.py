"""A week up to its measured challenger, and the program that concludes it elsewhere."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retraining.settings import REPOSITORY
from retraining.weekly import screen_week
from tests.fixtures.workspace import MODEL, Workspace

_PROGRAM = "tests.fixtures.programs.concluding"
_LIMIT_SECONDS = 240


@dataclass(frozen=True)
class MeasuredWeek:
    """A first week that only the gate and promotion have not seen yet; not to be changed.

    Attributes:
        digests: Of its records, as the tasks pass them on.
    """

    workspace: Workspace
    digests: dict[str, Any]


def measured(workspace: Workspace, week: str) -> MeasuredWeek:
    """Run a week up to its validation."""
    steps = workspace.steps()
    screened = screen_week(steps, MODEL, week)
    run, screening = screened.run.attestation.digest, screened.screening.attestation.digest
    training = steps.train(run, screening).attestation.digest
    digests = {
        "run": run,
        "provenance": [done.attestation.digest for done in screened.provenance],
        "screening": screening,
        "training": training,
        "validation": steps.validate(run, training).attestation.digest,
    }
    return MeasuredWeek(workspace, digests)


def run_program(
    kind: str,
    workspace: Workspace,
    scratch: Path,
    asked: Any,
    *,
    environment: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """What `tests/fixtures/programs/concluding.py` found.

    Args:
        environment: Names another store than the workspace's own.
    """
    scratch.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", _PROGRAM, kind, str(workspace.home), str(scratch)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        # Nothing else, so that each copy's own store is used.
        env={"PATH": os.environ["PATH"], **(environment or {})},
        timeout=_LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))
