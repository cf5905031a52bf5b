"""The machine dies between the decision and the registry entry, at every point where it could.

Each process is killed for real (SIGKILL, before or after one of its writes), then the same two
tasks are started again, as Airflow does. The week is promoted, once, and everything verifies.
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retraining.audit import audit
from retraining.evidence import public_key_of
from retraining.store import DirectoryStore
from retraining.trust_history import TrustHistory
from tests.attacks.measured_week import MeasuredWeek, run_program
from tests.fixtures.workspace import Workspace

pytestmark = pytest.mark.slow

# In the order of the writes, of the gate and then of promotion: a new write is a new point here.
POINTS = tuple(
    f"{when} {what}"
    for what in (
        "put",  # the gate's page, and the same as JSON
        "put",
        "put",  # the decision
        "create attestations",
        "create registry",
        "remember",
    )
    for when in ("before", "after")
)


@dataclass(frozen=True)
class Crashed:
    """What became of the same week in one copy of the installation for each point."""

    workspace: Workspace
    copies: Path
    found: list[dict[str, Any]]


@pytest.fixture(scope="module")
def crashed(measured_week: MeasuredWeek, tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    """Killed at each point and started again; not to be changed."""
    workspace, copies = measured_week.workspace, tmp_path_factory.mktemp("crashes") / "copies"
    return Crashed(
        workspace, copies, run_program("crashes", workspace, copies, measured_week.digests)
    )


@pytest.mark.control
def test_every_write_is_a_point_to_die_at(crashed: Crashed) -> None:
    assert tuple(one["point"] for one in crashed.found) == POINTS


@pytest.mark.parametrize("number", range(1, len(POINTS) + 1), ids=lambda n: POINTS[n - 1])
def test_after_a_crash_the_week_is_promoted_exactly_once(crashed: Crashed, number: int) -> None:
    one = crashed.found[number - 1]
    assert os.WIFSIGNALED(one["status"]) and os.WTERMSIG(one["status"]) == signal.SIGKILL

    store = DirectoryStore(crashed.copies / str(number) / "store")
    root = public_key_of(crashed.workspace.settings.root_key, "root")
    entries = [e.link for e in audit(store, TrustHistory.load(store, root))]

    assert [(e.record.verdict, e.record.version) for e in entries] == [("PROMOTE", 1)]
    assert one["entries"] == [str(entries[0].digest)] * 2  # both later starts name that one
