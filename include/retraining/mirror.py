"""The mirror in MLflow: what people look at, never what anybody believes.

Any client of an MLflow server may change a tag, an alias or a metric of a finished run, so
nothing here is ever read back as truth. A dead server delays a step by seconds and fails nothing:
after the first error the mirror falls silent for the rest of the task, with one warning.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from retraining.digests import Digest
from retraining.records import (
    GateDecision,
    PinnedRun,
    ProvenanceReport,
    RegistryEntry,
    ScreeningReport,
    TrainingReport,
    ValidationReport,
)

# MLflow's defaults let a dead server hold one call for four minutes.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_MAX_DIGEST = 36  # characters of a dataset digest in MLflow; the whole one stands in the profile

Log = Callable[[str], None]


class Mirror:
    """Shows runs, data sets, metrics and model versions; this one shows them to nobody."""

    def batch(self, run: PinnedRun, report: ProvenanceReport) -> None:
        """A batch arrived: its origin and version."""

    def screened(self, run: PinnedRun, report: ScreeningReport) -> None:
        """Rows were accepted: how each batch was transformed."""

    def trained(self, run: PinnedRun, report: TrainingReport) -> None:
        """A challenger exists: what it cost, and its model version."""

    def validated(self, run: PinnedRun, report: ValidationReport) -> None:
        """Challenger and champion were measured."""

    def decided(self, run: PinnedRun, decision: GateDecision) -> None:
        """The gate decided: the run ends."""

    def promoted(self, entry: RegistryEntry) -> None:
        """The registry has a new champion: its alias follows."""

    def rolled_back(self, entry: RegistryEntry) -> None:
        """An older version serves again: the alias follows, and who was convicted is marked."""


def open_mirror(tracking_uri: str, *, store_uri: str, log: Log) -> Mirror:
    """A mirror in the MLflow server at `tracking_uri`, or one for nobody when it is empty."""
    return MlflowMirror(tracking_uri, store_uri=store_uri, log=log) if tracking_uri else Mirror()


class MlflowMirror(Mirror):
    """Writes to an MLflow server, one MLflow run per pinned run."""

    def __init__(self, tracking_uri: str, *, store_uri: str, log: Log) -> None:
        self._uri = tracking_uri
        self._store_uri = store_uri
        self._log = log
        self._silent = False

    def batch(self, run: PinnedRun, report: ProvenanceReport) -> None:  # noqa: D102
        if report.batch_digest is None:
            return
        origin = {
            "source": report.batch.source,
            "week": report.batch.week,
            "store": self._store_uri,
            "files": {file.name: file.digest for file in report.files},
        }
        version = {
            "sha256": report.batch_digest,
            "signature": report.signature,
            "key_id": report.key_id,
            "sequence": report.sequence,
            "trust": report.trust,
            "risk_score": report.risk_score,
        }
        self._dataset(run, str(report.batch), report.batch_digest, "ingest", origin, version)

    def screened(self, run: PinnedRun, report: ScreeningReport) -> None:  # noqa: D102
        for batch in report.batches:
            if batch.accepted is None:
                continue
            origin = {
                "store": self._store_uri,
                "accepted": batch.accepted,
                "from": batch.batch_digest,
            }
            transformations = {
                "sha256": batch.accepted,
                "rows": batch.n_accepted,
                "transformations": ["checked against the schema", "screened"],
                "quarantined": batch.quarantined,
            }
            self._dataset(
                run, str(batch.batch), batch.accepted, "training", origin, transformations
            )

    def trained(self, run: PinnedRun, report: TrainingReport) -> None:  # noqa: D102
        if report.model is None or report.run is None:
            return
        params = report.run.model_dump(mode="json") | {"delta": report.delta}
        metrics = {
            "epsilon": report.epsilon or 0.0,
            "epsilon_per_block_max": max(report.epsilon_by_block.values(), default=0.0),
        }

        def write(client: Any, run_id: str) -> None:
            from mlflow.entities import Metric, Param

            client.log_batch(
                run_id,
                metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()],
                params=[Param(key, str(value)) for key, value in params.items()],
            )
            self._ensure_model(client, run.model)
            version = client.create_model_version(
                run.model,
                source=f"runs:/{run_id}/model",
                run_id=run_id,
                tags={"model_digest": str(report.model), "store": self._store_uri},
                await_creation_for=0,
            )
            client.set_registered_model_alias(run.model, "challenger", version.version)

        self._with_run(run, write)

    def validated(self, run: PinnedRun, report: ValidationReport) -> None:  # noqa: D102
        metrics: dict[str, float] = {}
        for part in report.slices:
            prefix = "" if part.slice == "all" else f"{part.slice}."
            for who, values in (("challenger", part.challenger), ("champion", part.champion)):
                metrics |= {f"{prefix}{who}.{key}": found.value for key, found in values.items()}

        def write(client: Any, run_id: str) -> None:
            from mlflow.entities import Metric

            client.log_batch(run_id, metrics=[Metric(k, v, 0, 0) for k, v in metrics.items()])

        self._with_run(run, write)

    def decided(self, run: PinnedRun, decision: GateDecision) -> None:  # noqa: D102
        def write(client: Any, run_id: str) -> None:
            client.set_tag(run_id, "verdict", decision.verdict)
            for check in decision.failed():
                client.set_tag(run_id, f"failed.{check.name}"[:250], check.observed[:5000])
            client.set_terminated(run_id)

        self._with_run(run, write)

    def promoted(self, entry: RegistryEntry) -> None:  # noqa: D102
        def write(client: Any) -> None:
            found = client.search_model_versions(f"name='{entry.model}'")
            for version in found:
                if version.tags.get("model_digest") == entry.champion:
                    client.set_registered_model_alias(entry.model, "champion", version.version)
                    client.set_model_version_tag(
                        entry.model, version.version, "registry_version", str(entry.version)
                    )
                    return

        self._guarded(write)

    def rolled_back(self, entry: RegistryEntry) -> None:  # noqa: D102
        def write(client: Any) -> None:
            for found in client.search_model_versions(f"name='{entry.model}'"):
                if found.tags.get("registry_version") in map(str, entry.convicted):
                    client.set_model_version_tag(entry.model, found.version, "convicted", "true")
            if entry.champion is None:
                client.delete_registered_model_alias(entry.model, "champion")

        if entry.champion is not None:
            self.promoted(entry)
        self._guarded(write)

    # --- how it is written ------------------------------------------------------------------

    def _dataset(
        self,
        run: PinnedRun,
        name: str,
        digest: Digest,
        context: str,
        source: Mapping[str, Any],
        profile: Mapping[str, Any],
    ) -> None:
        def write(client: Any, run_id: str) -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            dataset = Dataset(
                name=name,
                digest=digest.hex[:_MAX_DIGEST],
                source_type="secure-retraining",
                source=json.dumps(source),
                schema=None,
                profile=json.dumps(profile),
            )
            tags = [InputTag("mlflow.data.context", context), InputTag("sha256", digest.hex)]
            inputs = [DatasetInput(dataset, tags)]
            _again_if_raced(lambda: client.log_inputs(run_id, datasets=inputs))

        self._with_run(run, write)

    def _with_run(self, run: PinnedRun, write: Callable[[Any, str], None]) -> None:
        self._guarded(lambda client: write(client, _run_id(client, run)))

    def _guarded(self, write: Callable[[Any], None]) -> None:
        if self._silent:
            return
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient

            write(MlflowClient(tracking_uri=self._uri, registry_uri=self._uri))
        except Exception as error:  # whatever MLflow does, a mirror never stops a run
            self._silent = True
            first = str(error).strip().partition("\n")[0][:200]
            self._log(
                f"warning: MLflow was not written ({type(error).__name__}: {first})."
                " The run goes on; the signed records are complete without it."
            )

    def _ensure_model(self, client: Any, model: str) -> None:
        def ensure() -> None:
            if not client.search_registered_models(f"name='{model}'"):
                client.create_registered_model(model)

        _again_if_raced(ensure)


def _again_if_raced(write: Callable[[], object]) -> None:
    """Write, and once more where MLflow refuses.

    Its server looks whether a row is there and then inserts it: of two tasks that write the same
    one at once, the second is refused, and finds it there when it asks again.
    """
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException:
        write()


def _experiment_id(client: Any, model: str) -> str:
    """The MLflow experiment of a model; tasks run side by side, and one of them makes it."""

    def ensure() -> None:
        if client.get_experiment_by_name(model) is None:
            client.create_experiment(model)

    _again_if_raced(ensure)
    return str(client.get_experiment_by_name(model).experiment_id)


def _run_id(client: Any, run: PinnedRun) -> str:
    """The MLflow run of a pinned run, made when it is missing."""
    experiment_id = _experiment_id(client, run.model)
    found = client.search_runs(
        [experiment_id], f"tags.`retraining.run` = '{run.identity}'", max_results=1
    )
    if found:
        return str(found[0].info.run_id)
    made = client.create_run(
        experiment_id,
        run_name=f"{run.week} attempt {run.attempt}",
        tags={
            "retraining.run": run.identity,
            "retraining.week": run.week,
            "retraining.registry_head": str(run.registry_head),
        },
    )
    return str(made.info.run_id)
