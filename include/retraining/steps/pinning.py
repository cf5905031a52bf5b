"""The first step of a run: fix everything that it depends on."""

from collections.abc import Sequence
from datetime import UTC, datetime

from retraining import gate
from retraining.approvals import people_when
from retraining.digests import Digest, canonical_json
from retraining.errors import BatchRefusedError, ConfigError, NothingToDo
from retraining.recording import StepResult
from retraining.records import PinnedRun
from retraining.registry import week_of
from retraining.spec import PinnedData, PipelineSpec, load_spec
from retraining.step_requests import code_version
from retraining.steps.workbench import Workbench


def pin(
    bench: Workbench,
    model: str,
    week: str,
    *,
    left_out: Sequence[str] = (),
    dry_run: bool = False,
    reason: str = "",
) -> StepResult[PinnedRun]:
    """Fix everything that the run depends on, so that no later task reads a moving thing.

    Raises:
        NothingToDo: The week, or a later one, was promoted already.
        SpecError, ConfigError: The pipeline file or the installation is wrong.
    """
    spec = load_spec(bench.settings.pipelines / f"{model}.yaml")
    registry = bench.registry(model)
    if (last := registry.last_promoted_week) and week <= last:
        raise NothingToDo(
            f"Nothing to do: {last} is promoted already; run a later week than {week}."
        )
    if week > (current := week_of(datetime.now(UTC).date())):
        raise ConfigError(f"{week} lies in the future; the current week is {current}.")
    _check_left_out(spec, left_out)
    bench.store.self_test()
    if unsigned := unsigned_spec(bench, spec):
        bench.log(f"warning: {unsigned}")
    started = bench.recorder().started()
    resolved = bench.store.put(spec.to_json())
    run = PinnedRun(
        model=model,
        week=week,
        weeks=registry.pending_weeks(week, window_weeks=spec.training.window_weeks),
        attempt=registry.attempt(week),
        spec=resolved,
        policy=Digest.of(canonical_json(spec.policy())),
        code_version=code_version(),
        trust_list=bench.trust.latest.digest,
        reference=pin_data(bench, spec.reference, "reference"),
        holdout=pin_data(bench, spec.holdout, "holdout"),
        registry_head=registry.head,
        reviews_head=bench.reviews(model).head,
        approvals_head=bench.approvals(model).head,
        champion=registry.champion,
        left_out=tuple(sorted(left_out)),
        dry_run=dry_run,
        reason=reason,
    )
    return bench.recorder().conclude(
        "pin",
        run,
        model=model,
        week=week,
        request=run.identity,
        started_on=started,
        inputs={},
        artefacts={"spec": resolved},
        materials={"reference": run.reference, "holdout": run.holdout},
        policy=run.policy,
        memo=False,
    )


def unsigned_spec(bench: Workbench, spec: PipelineSpec) -> str:
    """What the gate will hold about this pipeline file, as things stand; empty when nothing."""
    people = people_when(
        bench.store,
        bench.trust,
        bench.registry(spec.model),
        bench.approvals(spec.model),
        spec=Digest.of(spec.to_json()),
        trust_list=bench.trust.latest,
    )
    found = gate.check_spec(people, spec)
    if found is None or found.verdict == "PROMOTE":
        return ""
    return (
        f"the gate will HOLD every week of {spec.model}, however well it trains: the pipeline file"
        f" is {found.observed}. Next: {found.next_step}."
    )


def pin_data(bench: Workbench, data: PinnedData, role: str) -> Digest:
    """Keep vetted data in the store, once; raises ConfigError when it is not what is pinned."""
    if bench.store.exists(data.digest):
        return data.digest
    inbox = bench.inbox(bench.settings.resolve(data.uri))
    try:
        name = inbox.files()[0].name
        found, _ = bench.store.put_stream(inbox.stream(name), max_bytes=10**10)
    except (BatchRefusedError, IndexError) as error:
        raise ConfigError(f"The {role} set {data.uri} cannot be read: {error}") from error
    if found != data.digest:
        raise ConfigError(
            f"The {role} set {data.uri} has digest {found}, the spec pins {data.digest}."
            " Somebody changed the file; restore it, or have its owner pin the new digest."
        )
    return found


def _check_left_out(spec: PipelineSpec, left_out: Sequence[str]) -> None:
    for item in left_out:
        spec.source(item.partition("@")[0])
    if {source.name for source in spec.sources} <= set(left_out):
        raise ConfigError(
            f"All {len(spec.sources)} sources of {spec.model} are left out; keep one at least."
        )
