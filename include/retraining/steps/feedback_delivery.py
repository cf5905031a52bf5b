"""Handing a closed batch of feedback over: signed as its source's provider signs, out of the store.

As often as it takes: a batch that was closed and not handed over is finished by whoever comes next.
"""

from pathlib import Path

from retraining.digests import parse_json
from retraining.errors import BatchRefusedError, ChainBrokenError, ConfigError
from retraining.evidence import public_key_of
from retraining.evidence.keys import signer_from_file
from retraining.keyring import provider_key
from retraining.recording import StepResult, open_result
from retraining.records import FeedbackEntry, FeedbackReport
from retraining.sign_batch import build_manifest
from retraining.signed_chain import Link
from retraining.spec import FeedbackPolicy, PipelineSpec, parse_spec
from retraining.steps.workbench import Workbench
from retraining.store import MANIFEST_NAME, file_name

MANIFEST = MANIFEST_NAME  # among the artefacts of the step


def policy_of(spec: PipelineSpec) -> FeedbackPolicy:
    """What the pipeline file says of feedback; raises ConfigError when it says nothing."""
    if spec.feedback is None:
        raise ConfigError(f"{spec.model} asks for no feedback; add `feedback` to its file.")
    return spec.feedback


def check_place(bench: Workbench, spec: PipelineSpec, week: str) -> None:
    """Demand that nothing lies where the batch is to go: it would be taken for a part of it."""
    try:
        files = bench.inbox(_uri(bench, spec), week).files()
    except BatchRefusedError as refused:
        if refused.code == "missing":
            return
        raise
    if files:
        raise ConfigError(
            f"{_uri(bench, spec).replace('{week}', week)} holds {len(files)} file(s) already, and"
            " no closed batch is theirs. Find out who put them there, and move them away."
        )


def check_key(bench: Workbench, spec: PipelineSpec) -> None:
    """Demand a key that the next run accepts, before a batch is closed with another."""
    key_id = _key_id(spec)
    private = provider_key(bench.settings.keys, key_id)
    trusted = bench.trust.latest.keys_for(["provider"], key_id).get(key_id)
    if not private.is_file():
        raise ConfigError(
            f"{private} is missing; with it the batches of {policy_of(spec).source} are signed."
            f" Make it with `retraining keys provider {key_id}`, and have the root key's holder"
            " add it."
        )
    if trusted is None or trusted != public_key_of(private.with_suffix(".pub.json"), key_id):
        raise ConfigError(
            f"The key {key_id} in {private.parent} is not on trust list version"
            f" {bench.trust.latest.version} as a provider's. Have the root key's holder add it:"
            " `retraining keys trust`."
        )


def signed_manifest(
    bench: Workbench, spec: PipelineSpec, week: str, sequence: int, *, folder: Path, started: str
) -> bytes:
    """The manifest of the batch that lies in `folder`, as its source's provider."""
    key_id = _key_id(spec)
    return build_manifest(
        folder,
        provider=key_id,
        dataset=policy_of(spec).source,
        batch=week,
        sequence=sequence,
        created_at=started,
        signer=signer_from_file(provider_key(bench.settings.keys, key_id), key_id),
    )


def batch_file(bench: Workbench, spec: PipelineSpec, week: str) -> str:
    """What the one file of a batch is called where it goes."""
    return file_name(_uri(bench, spec).replace("{week}", week), f"feedback-{week}.parquet")


def hand_over(bench: Workbench, result: StepResult[FeedbackReport]) -> None:
    """Lay the batch into its source's inbox, from what the store keeps of it."""
    report = result.report
    spec = _spec_of(bench, report)
    with bench.workdir("feedback-batch") as workdir:
        bench.store.fetch(report.rows, workdir / "rows")
        bench.outbox(_uri(bench, spec), report.week).deliver(
            {batch_file(bench, spec, report.week): workdir / "rows"},
            bench.store.get(result.attestation.artefacts[MANIFEST]),
        )


def finish(bench: Workbench, link: Link[FeedbackEntry]) -> StepResult[FeedbackReport] | None:
    """Hand over the newest batch if whoever closed it was stopped before; None if it was not."""
    entry = link.record
    trust = bench.trust.named(entry.trust_list)
    found = open_result(bench.store, trust, "feedback", entry.attestation).expect(FeedbackReport)
    report = found.report
    said = (report.model, report.week, report.sequence, report.previous, report.counted)
    if said != (entry.model, entry.week, entry.sequence, entry.previous, entry.counted):
        raise ChainBrokenError(
            f"Entry {entry.sequence} of the feedback of {entry.model} names {entry.attestation},"
            " which is about another batch. Find out who can sign as pipeline."
        )
    if _delivered(bench, report):
        return None
    bench.log(f"Batch {entry.sequence} ({entry.week}) was closed and not handed over; doing so.")
    hand_over(bench, found)
    return StepResult(found.attestation, report, reused=True)


def _delivered(bench: Workbench, report: FeedbackReport) -> bool:
    try:
        inbox = bench.inbox(_uri(bench, _spec_of(bench, report)), report.week)
        return inbox.manifest() is not None
    except BatchRefusedError as refused:
        if refused.code == "missing":
            return False
        raise


def _spec_of(bench: Workbench, report: FeedbackReport) -> PipelineSpec:
    """The pipeline file as it was when the batch was closed, whatever it says by now."""
    return parse_spec(parse_json(bench.store.get(report.spec)), origin=str(report.spec))


def _uri(bench: Workbench, spec: PipelineSpec) -> str:
    return bench.settings.resolve(spec.source(policy_of(spec).source).uri)


def _key_id(spec: PipelineSpec) -> str:
    return spec.source(policy_of(spec).source).key_id or ""
