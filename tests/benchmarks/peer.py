"""Screening against a peer: scikit-learn's IsolationForest, as anybody would call it."""

import time
from dataclasses import dataclass

import pandas as pd

from retraining.features import fit_preprocessing
from retraining.spec import load_spec
from tests.benchmarks.in_process import InProcess
from tests.benchmarks.workload import SOURCES, WEEK, Workload


@dataclass(frozen=True, kw_only=True)
class ScreeningAgainstPeer:
    """Seconds of both on the same rows.

    Attributes:
        ours: The whole step: fetch, first parse in a child, two scores, quarantine, records.
        peer: fit and score_samples on the same rows, encoded already.
    """

    rows: int
    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        """How much longer ours takes."""
        return self.ours / self.peer

    def per_100_000(self, smaller: "ScreeningAgainstPeer") -> tuple[float, float]:
        """Seconds of ours and of the peer for 100,000 more rows, what starting costs left out."""
        more = (self.rows - smaller.rows) / 100_000
        return (self.ours - smaller.ours) / more, (self.peer - smaller.peer) / more


def measure_peer(workload: Workload, in_process: InProcess) -> ScreeningAgainstPeer:
    """Fit and score the workload's rows with a plain isolation forest."""
    from sklearn.ensemble import IsolationForest

    workspace = workload.workspace
    spec = load_spec(workspace.spec_file)
    reference = pd.read_parquet(workspace.settings.resolve(spec.reference.uri))
    delivered = [pd.read_parquet(workspace.folder(name, WEEK) / "rows.parquet") for name in SOURCES]
    features = fit_preprocessing(spec, reference).encode(pd.concat(delivered, ignore_index=True))
    started = time.monotonic()
    IsolationForest(random_state=0).fit(features).score_samples(features)
    seconds = time.monotonic() - started
    ours = in_process.step_seconds["screening"]
    return ScreeningAgainstPeer(rows=workload.rows, ours=ours, peer=seconds)
