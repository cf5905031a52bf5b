"""Verifies the challengers of a run: what each learned from, what it spent, who measured it.

There is one, and one more for each purge after which a challenger was trained again.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from retraining.chains import charges_of, ledger_chain
from retraining.digests import Digest
from retraining.errors import ChainBrokenError
from retraining.privacy import epsilon_by_block, epsilon_spent
from retraining.recording import StepResult
from retraining.records import (
    Block,
    ModelManifest,
    PurgeReport,
    ScreeningReport,
    TrainingReport,
    ValidationReport,
)
from retraining.registry import Registry
from retraining.step_requests import batches_of, blocks_left, input_of, trained_blocks
from retraining.trust_history import TrustHistory
from retraining.verify.chain import Chain, require
from retraining.verify.window import TrainedVersions, check_left


@dataclass(frozen=True)
class Challenger:
    """One challenger of a run, with the reports behind it.

    Attributes:
        purge: What left the rows that it learned from; None for the first.
        training, validation: None where the step had nothing to do.
    """

    purge: PurgeReport | None
    training: TrainingReport | None
    validation: ValidationReport | None


def check_challengers(
    chain: Chain,
    screening: StepResult[ScreeningReport],
    trust: TrustHistory,
    before: Registry,
    *,
    judged: int,
) -> list[Challenger]:
    """Every challenger that the decision names, in their order.

    Args:
        screening: Already verified.
        before: The registry that the decision continues.
        judged: Which of them the gate judged, from 1.

    Raises:
        ChainBrokenError: One of them learned from, spent or was measured by something else than
            its records say.
    """
    found = list(_challengers(chain, screening, trust, before, judged))
    require(judged <= len(found), "The decision is about a challenger that nobody trained.")
    return found


def _challengers(
    chain: Chain,
    screening: StepResult[ScreeningReport],
    trust: TrustHistory,
    before: Registry,
    judged: int,
) -> Iterator[Challenger]:
    blocks = trained_blocks(screening.report)
    purge: StepResult[PurgeReport] | None = None
    number = 1
    while True:
        of = input_of(number, judged=judged)
        purged = purge.attestation.digest if purge else None
        request = chain.pinned.training(screening.attestation.digest, blocks, purged)
        trained = chain.take("training", of("training"), TrainingReport, request)
        if trained is not None:
            _check_training(chain, trained, blocks, request, trust)
        measured = _check_validation(chain, of("validation"), trained)
        yield Challenger(
            purge.report if purge else None,
            trained.report if trained else None,
            measured.report if measured else None,
        )
        asked = chain.pinned.purge(measured.attestation.digest) if measured else None
        purge = chain.take("purge", f"purge/{number}", PurgeReport, asked)
        if purge is None:
            return
        if trained is None or measured is None:
            raise ChainBrokenError("Rows were purged although no challenger was measured.")
        _check_purge(chain, purge.report, trained.report, trust, before)
        blocks = blocks_left(purge.report)
        number += 1


def _check_purge(
    chain: Chain,
    purge: PurgeReport,
    trained: TrainingReport,
    trust: TrustHistory,
    before: Registry,
) -> None:
    said = tuple(Block(batch=left.batch, rows=left.before) for left in purge.blocks)
    require(
        (said, purge.challenger) == (trained.blocks, trained.model)
        and purge.n_purged == sum(left.n_purged for left in purge.blocks),
        "The purge is about other rows than the challenger learned from.",
    )
    learned = TrainedVersions(chain.store, trust, before)
    for left in purge.blocks:
        check_left(chain.store, learned, left, chain.pinned.spec.row_id, who="The purge")


def _check_training(
    chain: Chain,
    result: StepResult[TrainingReport],
    blocks: tuple[Block, ...],
    request: Digest,
    trust: TrustHistory,
) -> None:
    report, pinned = result.report, chain.pinned
    require(report.blocks == blocks, "Training read other rows than those that were accepted.")
    if report.model is None:
        return
    manifest = ModelManifest.from_json(chain.store.get(report.model))
    named = result.attestation.artefacts
    require(
        named.get("model") == report.model
        and {manifest.weights, manifest.architecture, manifest.preprocessing} <= set(named.values())
        and manifest.classes == pinned.spec.label.classes,
        "The model's manifest names other files than its training record.",
    )
    links = ledger_chain(chain.store, trust, pinned.run.model).load()
    position = {link.digest: number for number, link in enumerate(links, start=1)}
    require(
        bool(report.charges) and all(d in position for d in report.charges),
        "The training run is not in the privacy ledger.",
    )
    if report.run is None or report.delta is None or report.ledger_head is None:
        raise ChainBrokenError("The training record does not say what its run did.")
    charges = charges_of(links[: position.get(report.ledger_head, 0)])
    asked = request if chain.replay else result.attestation.request
    own = [charge for charge in charges if charge.request == asked]
    require(
        report.delta == pinned.spec.training.delta
        and len(own) == len(report.charges)
        and all((charge.run, charge.blocks) == (report.run, batches_of(blocks)) for charge in own),
        "The privacy ledger charges another run than the one that was trained.",
    )
    spent = epsilon_by_block(charges, delta=report.delta, blocks=batches_of(blocks))
    require(
        report.epsilon is not None
        and math.isclose(report.epsilon, epsilon_spent([report.run], delta=report.delta))
        and set(report.epsilon_by_block) == set(batches_of(blocks))
        and all(math.isclose(report.epsilon_by_block[b], spent[b]) for b in spent),
        "Our accounting gives another epsilon than the training record.",
    )


def _check_validation(
    chain: Chain, name: str, trained: StepResult[TrainingReport] | None
) -> StepResult[ValidationReport] | None:
    request = chain.pinned.validation(trained.attestation.digest) if trained else None
    result = chain.take("validation", name, ValidationReport, request)
    require(result is None or trained is not None, "A model was validated that nobody trained.")
    return result
