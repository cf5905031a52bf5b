"""Closing a week of feedback: read, decide, record, hand over.

The order makes a kill harmless. The signed entry in the feedback chain is what closes a batch: what
it counted is never counted again. Only then are the rows laid into the inbox of their source, out
of the store, as often as it takes: whoever comes next finds the newest entry's delivery missing and
finishes it. Before the entry, nothing has happened; after it, nothing can be lost.

What takes long to import is imported where it is used, as in `screening`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.chains import feedback_chain
from retraining.digests import Digest, canonical_json
from retraining.errors import NameTakenError, NothingToDo
from retraining.provenance import batch_digest
from retraining.recording import StepResult
from retraining.records import FeedbackEntry, FeedbackReport, StoredFile
from retraining.registry import Registry
from retraining.signed_chain import Link
from retraining.spec import FeedbackPolicy, PipelineSpec, load_spec
from retraining.step_requests import code_version
from retraining.steps import feedback_delivery as delivery
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

    from retraining.feedback import ClosedBatch, Window
    from retraining.models import Model
    from retraining.steps.feedback_files import Asked, Lines


def close_feedback(
    bench: Workbench, model: str, week: str, *, reason: str = ""
) -> StepResult[FeedbackReport]:
    """Close a week of users' feedback into one batch of its source.

    Raises:
        NothingToDo: Nothing was closed, and why: too little is decided, the week is not over or
            closed already, the last batch is too recent, or nobody would read the batch any more.
        ConfigError: The pipeline file asks for no feedback, or the source's key is missing.
    """
    from retraining.feedback import Window

    spec = load_spec(bench.settings.pipelines / f"{model}.yaml")
    policy = delivery.policy_of(spec)
    window = Window.of(week, wait_weeks=policy.wait_weeks)
    links = feedback_chain(bench.store, bench.trust, model).load()
    if links and (finished := delivery.finish(bench, links[-1])) and finished.report.week == week:
        return finished
    registry = bench.registry(model)
    _check_week(policy, week, window, links, registry)
    delivery.check_place(bench, spec, week)
    delivery.check_key(bench, spec)
    with bench.workdir("feedback") as workdir:
        result = _conclude(bench, spec, window, links, registry, reason, workdir)
    entry = _append(bench, result, links)
    delivery.hand_over(bench, result)
    report = result.report
    bench.log(
        f"feedback {model} {week}: {report.n_applied} items closed as batch {entry.record.sequence}"
        f" of {policy.source} [{result.attestation.digest}]"
    )
    return result


def _check_week(
    policy: FeedbackPolicy,
    week: str,
    window: "Window",
    links: Sequence[Link[FeedbackEntry]],
    registry: Registry,
) -> None:
    """Raise NothingToDo unless `week` may be closed now."""
    from retraining.feedback import weeks_between

    if datetime.now(UTC) < window.end:
        raise NothingToDo(
            f"{week} is not over yet; it can be closed from {window.end:%Y-%m-%d} (UTC) on."
        )
    if links:
        last = links[-1].record
        apart, least = weeks_between(last.week, week), policy.min_weeks_between_batches
        if apart <= 0:
            raise NothingToDo(
                f"The feedback of {last.week} is closed already: batch {last.sequence},"
                f" {last.attestation}. Close a later week than {week}; no line is lost until then."
            )
        if apart < least:
            raise NothingToDo(
                f"{week} comes {apart} week(s) after {last.week}, whose feedback was closed last;"
                f" expected {least} (min_weeks_between_batches). The lines wait."
            )
    if (promoted := registry.last_promoted_week) and week <= promoted:
        raise NothingToDo(
            f"{promoted} is promoted already, so nobody would read a batch of {week}."
            " Close a later week; the lines wait."
        )
    if registry.champion is None:
        raise NothingToDo("No version serves whose answers feedback could be about.")


# --- read, decide, record -------------------------------------------------------------------


def _conclude(
    bench: Workbench,
    spec: PipelineSpec,
    window: "Window",
    links: Sequence[Link[FeedbackEntry]],
    registry: Registry,
    reason: str,
    workdir: Path,
) -> StepResult[FeedbackReport]:
    from retraining.feedback import close_batch, feedback_table
    from retraining.steps.feedback_files import read_asked, read_lines

    policy, week = delivery.policy_of(spec), window.weeks[-1]
    recorder = bench.recorder()
    started = recorder.started()
    champion = _champion(bench, spec, registry)
    lines = read_lines(bench, policy, feedback_table(spec), window.weeks, workdir)
    if not len(lines.good) and not len(lines.faults):
        raise NothingToDo(
            f"Nobody said anything from {window.weeks[0]} to {week}{_refused(lines)}."
        )
    voted = lines.good["item"].astype("category").cat.categories
    asked = read_asked(bench, spec, window.days, voted, workdir)
    closed = close_batch(
        lines.good,
        faults=lines.faults,
        items=asked.items,
        audited=asked.audited,
        counted=_counted_before(bench, links, window),
        predict=champion.predict,
        spec=spec,
        window=window,
    )
    if len(closed.rows) < policy.min_items:
        raise NothingToDo(
            f"Too little feedback for a batch of {week}: {len(closed.rows)} items are decided,"
            f" expected {policy.min_items} (min_items). {closed.described()}{_refused(lines)}."
            f" Nothing was closed; the lines of the last {policy.wait_weeks} weeks are looked at"
            " again with the next week."
        )
    report, artefacts = _report(
        bench, spec, window, links, registry, reason, lines, asked, closed, started, workdir
    )
    request = Digest.of(
        canonical_json(
            {
                "step": "feedback",
                "model": spec.model,
                "code": code_version(),
                "trust_list": bench.trust.latest.digest,
                "found": report.identity,
            }
        )
    )
    return recorder.finished("feedback", request, FeedbackReport) or recorder.conclude(
        "feedback",
        report,
        model=spec.model,
        week=week,
        request=request,
        started_on=started,
        inputs={},
        artefacts=artefacts,
        materials={
            "spec": report.spec,
            "champion": report.champion,
            **{f"feedback/{file.name}": file.digest for file in report.files},
            **{f"traffic/{file.name}": file.digest for file in report.traffic},
        },
        policy=Digest.of(canonical_json(spec.policy())),
    )


def _champion(bench: Workbench, spec: PipelineSpec, registry: Registry) -> "Model":
    """The model that serves, if it speaks of the same classes and features as the pipeline file."""
    from retraining.models import load_model

    assert registry.champion is not None  # noqa: S101 - checked before
    champion = load_model(bench.store, registry.champion)
    known = {feature.name for feature in champion.preprocessing.features}
    if champion.classes != spec.label.classes or known != {f.name for f in spec.features}:
        raise NothingToDo(
            f"Version {registry.version} was trained for other classes or features than the"
            " pipeline file has now. Its answers cannot be compared; the lines wait for the next"
            " promotion."
        )
    return champion


def _report(
    bench: Workbench,
    spec: PipelineSpec,
    window: "Window",
    links: Sequence[Link[FeedbackEntry]],
    registry: Registry,
    reason: str,
    lines: "Lines",
    asked: "Asked",
    closed: "ClosedBatch",
    started: str,
    workdir: Path,
) -> tuple[FeedbackReport, dict[str, Digest]]:
    """Store and sign the batch; return the report, and name to digest of each file."""
    assert registry.champion is not None  # noqa: S101 - checked before
    week, files = window.weeks[-1], closed.files(spec)
    folder = workdir / "batch"
    folder.mkdir()
    name = delivery.batch_file(bench, spec, week)
    (folder / name).write_bytes(files["rows"])
    manifest = delivery.signed_manifest(
        bench, spec, week, len(links) + 1, folder=folder, started=started
    )
    digests = {file: bench.store.put(content) for file, content in files.items()}
    delivered = StoredFile(name=name, digest=digests["rows"], n_bytes=len(files["rows"]))
    report = FeedbackReport(
        model=spec.model,
        week=week,
        weeks=window.weeks,
        reason=reason,
        spec=bench.store.put(spec.to_json()),
        champion=registry.champion,
        version=registry.version,
        previous=links[-1].digest if links else None,
        files=tuple(lines.files),
        traffic=asked.files,
        refused=(*lines.refused, *asked.refused),
        n_lines=closed.n_lines,
        counted_before=closed.counted_before,
        set_aside=closed.set_aside,
        waiting=closed.waiting,
        n_audited=closed.n_audited,
        users=closed.users,
        n_votes=closed.n_votes,
        held=closed.held,
        n_applied=len(closed.rows),
        changes=closed.changes,
        batch_digest=batch_digest([delivered]),
        sequence=len(links) + 1,
        **digests,
    )
    artefacts = {f"{file}.parquet": digest for file, digest in digests.items()}
    return report, {**artefacts, delivery.MANIFEST: bench.store.put(manifest)}


def _counted_before(
    bench: Workbench, links: Sequence[Link[FeedbackEntry]], window: "Window"
) -> "pd.DataFrame":
    """What those batches counted whose lines the window still reaches."""
    import io

    import pandas as pd

    counted = [pd.DataFrame({"item": [], "user": []}, dtype=str)]
    for link in links:
        if link.record.week >= window.weeks[0]:
            counted.append(pd.read_parquet(io.BytesIO(bench.store.get(link.record.counted))))
    return pd.concat(counted, ignore_index=True)


def _refused(lines: "Lines") -> str:
    return f"; {len(lines.refused)} file(s) or week(s) were refused" if lines.refused else ""


def _append(
    bench: Workbench, result: StepResult[FeedbackReport], links: Sequence[Link[FeedbackEntry]]
) -> Link[FeedbackEntry]:
    """Close the batch: from here on its votes are counted."""
    report, trust = result.report, bench.trust.latest
    entry = FeedbackEntry(
        model=report.model,
        sequence=report.sequence,
        previous=report.previous,
        week=report.week,
        attestation=result.attestation.digest,
        counted=report.counted,
        trust_list=trust.digest,
        trust_version=trust.version,
    )
    chain = feedback_chain(bench.store, bench.trust, report.model)
    try:
        return chain.append(entry, bench.keys.signer("pipeline", trust))
    except NameTakenError:
        other = chain.load()[len(links)].record
        raise NothingToDo(
            f"Another run closed the feedback of {other.week} at the same time (batch"
            f" {other.sequence}, {other.attestation}); this one counted nothing."
        ) from None
