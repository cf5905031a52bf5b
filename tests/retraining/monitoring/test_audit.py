"""What an auditor sees of monitored days: whoever rewrites one by hand is found."""

from pathlib import Path

import pytest

from retraining.audit import audit_production
from retraining.chains import monitoring_chain
from retraining.errors import RetrainingError
from retraining.records import MonitoringEntry
from retraining.signed_chain import SignedChain
from tests.fixtures.traffic import flipped, make_day, write_labels, write_predictions
from tests.fixtures.workspace import Workspace

pytestmark = pytest.mark.slow  # a champion is trained

DAY = "2026-02-10"


@pytest.fixture
def watched(home: Workspace) -> Workspace:
    """A day with an incident."""
    rows = make_day(DAY)
    write_predictions(home, DAY, rows)
    write_labels(home, DAY, flipped(rows, 0.5))
    assert home.steps().monitor(home.model, DAY).report.incidents
    return home


def chain_of(home: Workspace) -> SignedChain[MonitoringEntry]:
    steps = home.steps()
    return monitoring_chain(steps.store, steps.trust, home.model)


def audited(home: Workspace) -> dict[str, int]:
    steps = home.steps()
    return audit_production(steps.store, steps.trust)


def test_a_monitored_day_is_verified(watched: Workspace) -> None:
    assert audited(watched) == {"feedback": 0, "monitoring": 1}


def test_an_incident_that_somebody_signs_away_is_found(watched: Workspace) -> None:
    [link] = chain_of(watched).load()
    [path] = Path(watched.settings.store).glob(f"monitoring/{watched.model}/*")
    path.unlink()
    steps = watched.steps()
    quiet = link.record.model_copy(update={"incidents": ()})
    chain_of(watched).append(quiet, steps.keys.signer("pipeline", steps.trust.latest))

    with pytest.raises(RetrainingError, match="says something else than the report"):
        audited(watched)


def test_a_report_that_was_changed_is_found(watched: Workspace) -> None:
    [link] = chain_of(watched).load()
    [path] = Path(watched.settings.store).glob(f"attestations/{link.record.attestation.hex}*")
    path.chmod(0o600)
    path.unlink()

    with pytest.raises(RetrainingError, match=f"{watched.model} monitoring entry 1"):
        audited(watched)
