"""What an auditor sees of closed batches: whoever rewrites one by hand is found."""

from pathlib import Path

import pytest

from retraining.audit import audit_production
from retraining.chains import feedback_chain
from retraining.digests import Digest
from retraining.errors import RetrainingError
from tests.retraining.feedback.weeks import WEEK, make_feedback_workspace, say_a_week

pytestmark = pytest.mark.slow  # a champion is trained


def test_votes_that_somebody_counts_anew_are_found(tmp_path: Path) -> None:
    workspace = make_feedback_workspace(tmp_path / "workspace")
    say_a_week(workspace, WEEK)
    workspace.steps().close_feedback(workspace.model, WEEK)
    steps = workspace.steps()
    assert audit_production(steps.store, steps.trust) == {"feedback": 1, "monitoring": 0}

    chain = feedback_chain(steps.store, steps.trust, workspace.model)
    [link] = chain.load()
    [path] = Path(workspace.settings.store).glob(f"feedback/{workspace.model}/*")
    path.unlink()
    nothing_counted = link.record.model_copy(update={"counted": Digest.of(b"nobody voted")})
    chain.append(nothing_counted, steps.keys.signer("pipeline", steps.trust.latest))

    with pytest.raises(RetrainingError, match="says something else than the report"):
        audit_production(steps.store, steps.trust)
