"""Training: a challenger, charged before it starts.

What takes long to import is imported where it is used, as in `screening`.
"""

from pathlib import Path

from retraining.chains import charges_of, ledger_chain
from retraining.digests import Digest
from retraining.errors import (
    BatchRefusedError,
    ChainBrokenError,
    NameTakenError,
    NothingToDo,
    RegistryMovedError,
)
from retraining.recording import StepResult
from retraining.records import (
    Block,
    DpSgdRun,
    LedgerCharge,
    ModelManifest,
    PurgeReport,
    Refusal,
    ScreeningReport,
    TrainingReport,
)
from retraining.signed_chain import Link
from retraining.step_requests import PinnedContext, batches_of, blocks_left, trained_blocks
from retraining.steps.workbench import Workbench


def train(
    bench: Workbench, run: Digest, screening: Digest, purge: Digest | None = None
) -> StepResult[TrainingReport]:
    """Train the challenger with differential privacy, charged before it starts.

    Args:
        purge: Attestation of a purge: train on what it left of the rows of that screening.

    Raises:
        NothingToDo: Screening refused the week, or the purge left too little to train on.
        TrainerError: The trainer did not finish; a retry is charged again.
    """
    pinned = bench.pinned(run)
    screened = bench.open(pinned, "screening", screening, ScreeningReport).report
    if screened.refusal:
        raise NothingToDo(f"Not trained: {screened.refusal.sentence}")
    blocks, inputs = trained_blocks(screened), {"screening": screening}
    if purge is not None:
        left = bench.open(pinned, "purge", purge, PurgeReport).report
        if left.refusal:
            raise NothingToDo(f"Not trained again: {left.refusal.sentence}")
        blocks, inputs = blocks_left(left), inputs | {"purge": purge}
    request = pinned.training(screening, blocks, purge)
    recorder = bench.recorder(pinned)
    if done := recorder.finished("training", request, TrainingReport):
        return bench.recorded(pinned, done)
    started = recorder.started()
    with bench.workdir("training") as workdir:
        report, artefacts = _train(bench, pinned, request, blocks, workdir)
    result = recorder.conclude(
        "training",
        report,
        model=pinned.run.model,
        week=pinned.run.week,
        request=request,
        started_on=started,
        inputs=inputs,
        artefacts=artefacts,
        materials={"reference": pinned.run.reference, "spec": pinned.run.spec},
        policy=pinned.run.policy,
    )
    bench.mirror.trained(pinned.run, report)
    return bench.recorded(pinned, result)


def _train(
    bench: Workbench,
    pinned: PinnedContext,
    request: Digest,
    blocks: tuple[Block, ...],
    workdir: Path,
) -> tuple[TrainingReport, dict[str, Digest]]:
    from retraining import training
    from retraining.models import save_model
    from retraining.privacy import epsilon_by_block, epsilon_spent

    rows = bench.frames(blocks, workdir)
    if rows is None:
        raise ChainBrokenError("Screening accepted no rows, and did not refuse the week.")
    refused = TrainingReport(blocks=blocks, n_rows=len(rows))
    try:
        planned = training.plan_run(len(rows), pinned.spec.training)
    except BatchRefusedError as error:
        refusal = Refusal(code=error.code, sentence=error.sentence)
        return refused.model_copy(update={"refusal": refusal}), {}
    ledger = _charge(bench, pinned, request, blocks, planned)
    if isinstance(ledger, Refusal):
        return refused.model_copy(update={"refusal": ledger}), {}
    trainer_folder = workdir / "trainer"
    trainer_folder.mkdir()
    model = training.train(
        rows,
        reference=bench.pinned_frame(pinned, "reference", workdir),
        spec=pinned.spec,
        run=planned,
        trainer_python=bench.settings.trainer_python,
        workdir=trainer_folder,
        on_line=lambda line: bench.log(f"trainer: {line}"),
    )
    bench.log(f"The trainer's network isolation: {model.isolation}.")
    manifest = save_model(
        bench.store,
        weights=model.weights,
        architecture=model.architecture,
        preprocessing=model.preprocessing,
    )
    files = ModelManifest.from_json(bench.store.get(manifest))
    delta = pinned.spec.training.delta
    return (
        TrainingReport(
            blocks=blocks,
            n_rows=len(rows),
            model=manifest,
            run=model.run,
            epsilon=epsilon_spent([model.run], delta=delta),
            delta=delta,
            epsilon_by_block=epsilon_by_block(
                charges_of(ledger), delta=delta, blocks=batches_of(blocks)
            ),
            charges=tuple(link.digest for link in ledger if link.record.request == request),
            ledger_head=ledger[-1].digest,
            versions=model.versions,
            isolation=model.isolation,
        ),
        {
            "model": manifest,
            "weights.safetensors": files.weights,
            "architecture.json": files.architecture,
            "preprocessing.json": files.preprocessing,
        },
    )


def _charge(
    bench: Workbench,
    pinned: PinnedContext,
    request: Digest,
    blocks: tuple[Block, ...],
    planned: DpSgdRun,
) -> list[Link[LedgerCharge]] | Refusal:
    """Write the run into the ledger before it starts; return the ledger, or why it may not."""
    from retraining.privacy import refuse_if_over

    chain = ledger_chain(bench.store, bench.trust, pinned.run.model)
    ledger = chain.load()
    refusal = refuse_if_over(
        charges_of(ledger), run=planned, blocks=batches_of(blocks), policy=pinned.spec.training
    )
    if refusal:
        return refusal
    trust = bench.trust.named(pinned.run.trust_list)
    charge = LedgerCharge(
        model=pinned.run.model,
        sequence=len(ledger) + 1,
        previous=ledger[-1].digest if ledger else None,
        request=request,
        attempt=1 + sum(link.record.request == request for link in ledger),
        blocks=batches_of(blocks),
        run=planned,
        trust_list=trust.digest,
        trust_version=trust.version,
    )
    if charge.attempt > 1:
        bench.log(f"Attempt {charge.attempt} of this training; every attempt is charged.")
    try:
        ledger.append(chain.append(charge, bench.keys.signer("pipeline", trust)))
    except NameTakenError as error:
        raise RegistryMovedError(
            f"Another run of {pinned.run.model} charged the privacy ledger at the same time."
            " Nothing was trained; start this task again."
        ) from error
    return ledger
