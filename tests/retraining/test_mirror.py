import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from retraining.digests import Digest
from retraining.mirror import open_mirror
from retraining.records import (
    BatchId,
    Block,
    DpSgdRun,
    GateDecision,
    Interval,
    PinnedRun,
    ProvenanceReport,
    RegistryEntry,
    ScreenedBatch,
    ScreeningReport,
    SliceResult,
    StoredFile,
    TrainingReport,
    ValidationReport,
)
from tests.fixtures.ports import free_port

ANY = Digest.of(b"any")
MODEL = Digest.of(b"model")
BATCH = BatchId(source="gateway", week="2026-W40")
RUN = PinnedRun(
    model="spam",
    week="2026-W40",
    weeks=("2026-W40",),
    attempt=1,
    spec=ANY,
    policy=ANY,
    code_version=ANY,
    trust_list=ANY,
    reference=ANY,
    holdout=ANY,
    registry_head=None,
    champion=None,
)
ARRIVED = ProvenanceReport(
    batch=BATCH,
    trust="trusted",
    signature="verified",
    key_id="gateway",
    batch_digest=Digest.of(b"batch"),
    sequence=7,
    files=(StoredFile(name="rows.parquet", digest=ANY, n_bytes=3),),
    risk_score=0.1,
)
SCREENED = ScreeningReport(
    batches=(
        ScreenedBatch(
            batch=BATCH,
            batch_digest=Digest.of(b"batch"),
            n_rows=3,
            n_accepted=2,
            n_quarantined=1,
            quarantined={"nan:amount": 1},
            accepted=Digest.of(b"accepted"),
        ),
    ),
    n_accepted=2,
    n_quarantined=1,
)
TRAINED = TrainingReport(
    blocks=(Block(batch=BATCH, rows=Digest.of(b"accepted")),),
    n_rows=2,
    model=MODEL,
    run=DpSgdRun(
        noise_multiplier=1.5,
        l2_clip_norm=1,
        sampling_probability=0.1,
        steps=3,
        n_rows=10,
        expected_batch_rows=1,
    ),
    epsilon=2.0,
    delta=1e-5,
    epsilon_by_block={str(BATCH): 3.5},
)
VALIDATED = ValidationReport(
    holdout=ANY,
    challenger=MODEL,
    champion=None,
    confidence=0.95,
    resamples=200,
    slices=(
        SliceResult(
            slice="all",
            n_rows=3,
            challenger={"accuracy": Interval(value=0.9, low=0.8, high=0.95)},
        ),
    ),
)
DECIDED = GateDecision(
    model="spam",
    week="2026-W40",
    pinned_run=ANY,
    verdict="PROMOTE",
    checks=(),
    challenger=MODEL,
    champion=None,
    registry_head=None,
    policy=ANY,
    spec=ANY,
)
PROMOTED = RegistryEntry(
    model="spam",
    sequence=1,
    previous=None,
    verdict="PROMOTE",
    week="2026-W40",
    attempt=1,
    decision=ANY,
    decision_report=ANY,
    spec=ANY,
    policy=ANY,
    trust_list=ANY,
    trust_version=1,
    batches=(),
    ledger_head=None,
    champion=MODEL,
    version=1,
)


@pytest.mark.mlflow
def test_a_real_server_shows_origin_version_and_transformations(mlflow_server: str) -> None:
    said: list[str] = []
    mirror = open_mirror(mlflow_server, store_uri="s3://store", log=said.append)
    mirror.batch(RUN, ARRIVED)
    mirror.screened(RUN, SCREENED)
    mirror.trained(RUN, TRAINED)
    mirror.validated(RUN, VALIDATED)
    mirror.decided(RUN, DECIDED)
    mirror.promoted(PROMOTED)
    assert said == []

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_server, registry_uri=mlflow_server)
    experiment = client.get_experiment_by_name("spam")
    (run,) = client.search_runs([experiment.experiment_id])  # one run for all steps
    assert run.info.status == "FINISHED"
    assert run.data.tags["verdict"] == "PROMOTE"
    assert run.data.metrics["challenger.accuracy"] == 0.9
    assert run.data.metrics["epsilon_per_block_max"] == 3.5
    arrived, accepted = sorted(
        (item.dataset for item in run.inputs.dataset_inputs), key=lambda d: "rows" in d.profile
    )
    assert '"sequence": 7' in arrived.profile and "rows.parquet" in arrived.source
    assert '"nan:amount": 1' in accepted.profile and Digest.of(b"batch") in accepted.source
    version = client.get_model_version_by_alias("spam", "champion")
    assert version.tags["model_digest"] == MODEL
    assert client.get_model_version_by_alias("spam", "challenger").version == version.version


@pytest.mark.slow
def test_a_dead_server_costs_seconds_one_warning_and_nothing_else() -> None:
    said: list[str] = []
    mirror = open_mirror(f"http://127.0.0.1:{free_port()}", store_uri="/store", log=said.append)
    started = time.monotonic()
    mirror.batch(RUN, ARRIVED)
    mirror.trained(RUN, TRAINED)
    mirror.promoted(PROMOTED)
    assert time.monotonic() - started < 60  # MLflow's own defaults hold one call for 247 s
    assert len(said) == 1 and said[0].startswith("warning: MLflow was not written")


def test_without_an_address_there_is_no_mirror() -> None:
    said: list[str] = []
    open_mirror("", store_uri="/store", log=said.append).batch(RUN, ARRIVED)
    assert said == []


@pytest.mark.mlflow
def test_tasks_that_run_side_by_side_share_one_experiment(mlflow_server: str) -> None:
    """A mapped task per source: all of them may be the first to write."""
    said: list[str] = []
    mirrors = [open_mirror(mlflow_server, store_uri="/store", log=said.append) for _ in range(4)]
    runs = [RUN.model_copy(update={"model": "raced", "attempt": n + 1}) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda pair: pair[0].batch(pair[1], ARRIVED), zip(mirrors, runs, strict=True))
        )
    assert said == []


@pytest.mark.mlflow
def test_the_champion_alias_follows_a_rollback_and_convicted_versions_are_marked(
    mlflow_server: str,
) -> None:
    said: list[str] = []
    mirror = open_mirror(mlflow_server, store_uri="/store", log=said.append)
    entries = []
    for number in (1, 2, 3):
        model = Digest.of(f"model {number}".encode())
        run = RUN.model_copy(update={"model": "returned", "attempt": number})
        mirror.trained(run, TRAINED.model_copy(update={"model": model}))
        update = {"model": "returned", "sequence": number, "champion": model, "version": number}
        entries.append(PROMOTED.model_copy(update=update))
        mirror.promoted(entries[-1])
    back = {"sequence": 4, "verdict": "ROLLBACK", "convicted": (2, 3)}

    mirror.rolled_back(entries[0].model_copy(update=back))

    from mlflow import MlflowClient

    assert said == []
    client = MlflowClient(tracking_uri=mlflow_server, registry_uri=mlflow_server)
    serving = client.get_model_version_by_alias("returned", "champion")
    assert serving.tags["model_digest"] == entries[0].champion
    marked = {
        version.tags["registry_version"]: version.tags.get("convicted")
        for version in client.search_model_versions("name='returned'")
    }
    assert marked == {"1": None, "2": "true", "3": "true"}
    withdrawn = {"sequence": 5, "verdict": "ROLLBACK", "champion": None, "version": 0}
    mirror.rolled_back(entries[0].model_copy(update=withdrawn))
    assert said == [] and "champion" not in client.get_registered_model("returned").aliases
