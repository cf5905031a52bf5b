"""Monitoring: one day of the champion, from the traffic's files to a signed report and its entry.

Each monitored day is an entry of an append-only chain of its own. What was open the day before, and
so what somebody has to hear of, stands there and nowhere else.

What takes long to import is imported where it is used, as in `screening`.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.chains import monitoring_chain
from retraining.digests import Digest, canonical_json
from retraining.errors import (
    ConfigError,
    NameTakenError,
    NothingToDo,
    RegistryMovedError,
)
from retraining.recording import StepResult
from retraining.records import (
    MonitoringEntry,
    MonitoringReport,
    Refusal,
    StoredFile,
)
from retraining.registry import Registry, week_of
from retraining.signed_chain import Link
from retraining.spec import MonitoringPolicy, PipelineSpec, load_spec
from retraining.step_requests import code_version
from retraining.steps.serving import promotion_of, serving_model
from retraining.steps.traffic import Traffic, read_traffic, traffic_of
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

    from retraining.monitoring import Delivered, MeasuredDay

_DAY = timedelta(days=1)


def monitor(
    bench: Workbench, model: str, day: str, *, reason: str = "scheduled"
) -> StepResult[MonitoringReport]:
    """Measure the champion on `day` and append the report to the model's monitoring.

    Args:
        day: Such as 2026-02-14, UTC.
        reason: Why, as it stands in the entry.

    Raises:
        NothingToDo: The day is not over, was monitored already or lies before one that was, or
            nothing serves yet.
        ConfigError: The pipeline file has no `monitoring`.
        StoreUnreachableError: Trying again can help.
    """
    spec = load_spec(bench.settings.pipelines / f"{model}.yaml")
    if spec.monitoring is None:
        raise ConfigError(f"{model} is not monitored; add `monitoring` to its pipeline file.")
    today = _checked(day)
    chain = monitoring_chain(bench.store, bench.trust, model)
    links = chain.load()
    _refuse_early_and_late(model, today, links)
    registry = bench.registry(model)
    if registry.serving is None:
        raise NothingToDo(f"No version of {model} serves, so there is nothing to watch.")
    with bench.workdir("monitoring") as workdir:
        result = _monitor(bench, spec, spec.monitoring, today, links, registry, workdir)
    trust = bench.trust.latest
    entry = MonitoringEntry(
        model=model,
        sequence=len(links) + 1,
        previous=links[-1].digest if links else None,
        day=day,
        reason=reason,
        version=result.report.version,
        last_labelled=result.report.last_labelled,
        attestation=result.attestation.digest,
        incidents=result.report.incidents,
        trust_list=trust.digest,
        trust_version=trust.version,
    )
    try:
        chain.append(entry, bench.keys.signer("pipeline", trust))
    except NameTakenError as error:
        raise RegistryMovedError(
            f"Somebody else monitored {model} at the same time; {day} may be done. Look at"
            " `retraining monitor`'s newest entry before you start it again."
        ) from error
    _tell(bench, result, links)
    return result


def _checked(day: str) -> date:
    try:
        found = date.fromisoformat(day)
    except ValueError:
        found = None
    if found is None or str(found) != day:  # 20260214 is one in ISO 8601, too
        raise ConfigError(f"Found the day {day!r}, expected one such as 2026-02-14.")
    return found


def _refuse_early_and_late(model: str, day: date, links: list[Link[MonitoringEntry]]) -> None:
    if day >= datetime.now(UTC).date():
        raise NothingToDo(f"{day} is not over (UTC), so its traffic is not complete.")
    if not links:
        return
    done = {link.record.day for link in links}
    last = max(done)
    if str(day) in done:
        raise NothingToDo(f"{model} was monitored on {day} already.")
    if str(day) < last:
        raise NothingToDo(
            f"{model} was monitored up to {last}; {day} lies before, and what was open after it"
            " would contradict what was told since."
        )


def _monitor(
    bench: Workbench,
    spec: PipelineSpec,
    policy: MonitoringPolicy,
    day: date,
    links: list[Link[MonitoringEntry]],
    registry: Registry,
    workdir: Path,
) -> StepResult[MonitoringReport]:
    from retraining.monitoring import measure_day

    recorder = bench.recorder()
    started = recorder.started()
    traffic = traffic_of(spec)
    before = [str(day - n * _DAY) for n in range(traffic.label_wait_days, 0, -1)]
    labels = read_traffic(bench, spec, "labels", [str(day)], workdir)
    predictions = read_traffic(bench, spec, "predictions", [str(day)], workdir)
    earlier, earlier_files = _earlier(bench, spec, before, labels, workdir)
    promotion = promotion_of(bench, registry)
    stored_spec = bench.store.put(spec.to_json())
    materials = {
        **{f"predictions/{file.name}": file.digest for file in predictions.files},
        **{f"labels/{file.name}": file.digest for file in labels.files},
    }
    # The inboxes lie outside our control, so what was found there is part of the request.
    request = Digest.of(
        canonical_json(
            {
                "step": "monitoring",
                "model": spec.model,
                "code": code_version(),
                "trust_list": bench.trust.latest.digest,
                "day": str(day),
                "spec": stored_spec,
                "registry_head": registry.head,
                "previous": links[-1].digest if links else None,
                "found": materials,
                "refused": [
                    [role, refused.name, refused.code]
                    for role, found in (("predictions", predictions), ("labels", labels))
                    for refused in found.refused
                ],
                "earlier": [file.digest for file in earlier_files],
            }
        )
    )
    if done := recorder.finished("monitoring", request, MonitoringReport):
        return done
    measured = measure_day(
        str(day),
        spec=spec,
        traffic=traffic,
        policy=policy,
        predictions=_delivered(predictions),
        earlier=earlier,
        labels=_delivered(labels),
        serving=serving_model(bench, registry, promotion, workdir),
        previous=links[-1].record if links else None,
        first_day=links[0].record.day if links else str(day),
    )
    lines = _stored_lines(bench, measured, workdir)
    report = MonitoringReport(
        model=spec.model,
        day=str(day),
        spec=stored_spec,
        registry_head=registry.head,
        previous=links[-1].digest if links else None,
        champion=promotion.entry.champion,
        version=registry.version,
        promotion=promotion.entry.decision,
        predictions=predictions.files,
        labels=labels.files,
        earlier_predictions=earlier_files,
        n_predictions=measured.n_predictions,
        n_unlabelled=measured.n_unlabelled,
        n_labelled=measured.n_labelled,
        last_labelled=measured.last_labelled,
        set_aside=measured.set_aside,
        baseline=tuple(block.rows for block in promotion.learned_from),
        values=measured.values,
        incidents=measured.incidents,
        closed=measured.closed,
        lines=lines,
    )
    return recorder.conclude(
        "monitoring",
        report,
        model=spec.model,
        week=week_of(day),
        request=request,
        started_on=started,
        inputs={"promotion": promotion.entry.decision},
        artefacts={"lines": lines} if lines else {},
        materials=materials | {"model": report.champion, "spec": stored_spec},
        policy=Digest.of(canonical_json(spec.policy())),
    )


def _earlier(
    bench: Workbench, spec: PipelineSpec, days: list[str], labels: Traffic, workdir: Path
) -> "tuple[pd.DataFrame, tuple[StoredFile, ...]]":
    """Of the days before, the answers that the labels are about: row id, answer and version."""
    import pandas as pd

    wanted = pd.Index(labels.frame[spec.row_id])
    none = read_traffic(bench, spec, "predictions", (), workdir, features=False)
    frames, files = [none.frame], list[StoredFile]()
    for day in days if len(wanted) else ():
        found = read_traffic(bench, spec, "predictions", [day], workdir, features=False, tell=False)
        # Not `isin`: on text it asks row by row, and takes seconds for a hundred thousand.
        about = wanted.get_indexer(pd.Index(found.frame[spec.row_id])) >= 0
        frames.append(found.frame[about])
        files += found.files
    return pd.concat(frames, ignore_index=True), tuple(files)


def _delivered(traffic: Traffic) -> "Delivered":
    from retraining.monitoring import Delivered

    return Delivered(
        frame=traffic.frame,
        n_faulty=traffic.n_faulty,
        faults=traffic.faults,
        lines=traffic.lines,
        refused=tuple(Refusal(code=r.code, sentence=r.sentence) for r in traffic.refused),
    )


def _stored_lines(bench: Workbench, measured: "MeasuredDay", workdir: Path) -> Digest | None:
    if not len(measured.lines):
        return None
    path = workdir / "lines.parquet"
    measured.lines.astype({"line": "Int64"}).to_parquet(path, index=False)
    return bench.store.put_file(path)


def _tell(
    bench: Workbench, result: StepResult[MonitoringReport], links: list[Link[MonitoringEntry]]
) -> None:
    """One line on the day, one on each incident that began or ended."""
    report, digest = result.report, result.attestation.digest
    known = {incident.name for incident in links[-1].record.incidents} if links else set()
    if links:
        gap = (date.fromisoformat(report.day) - date.fromisoformat(links[-1].record.day)).days - 1
        if gap:
            bench.log(f"{gap} day(s) before {report.day} were not monitored.")
    for incident in report.incidents:
        if incident.name not in known:
            bench.log(
                f"incident {incident.name}: {incident.observed}; allowed: {incident.allowed}."
                f" {incident.next_step}"
            )
    for name in report.closed:
        bench.log(f"incident {name} has ended.")
    n_open = len(report.incidents)
    bench.log(f"monitoring {report.model} {report.day}: {n_open} open incident(s) [{digest}]")
