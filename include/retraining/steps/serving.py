"""The model that serves, and how it came to: from the registry back to what it learned from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retraining.errors import ChainBrokenError
from retraining.evidence import TrustList
from retraining.recording import open_result
from retraining.records import (
    Block,
    GateDecision,
    Interval,
    PinnedRun,
    RegistryEntry,
    TrainingReport,
    ValidationReport,
)
from retraining.registry import Registry
from retraining.step_requests import code_version
from retraining.steps.workbench import Workbench

if TYPE_CHECKING:
    from retraining.monitoring import Serving

_WHOLE_HOLDOUT = "all"


@dataclass(frozen=True)
class Promotion:
    """How the champion came to serve: where ranges and the rows of comparison come from."""

    entry: RegistryEntry
    learned_from: tuple[Block, ...]
    on_holdout: Mapping[str, Interval]


def promotion_of(bench: Workbench, registry: Registry) -> Promotion:
    """Follow the registry back to the decision that promoted the champion, and its reports.

    Everything is opened under the trust list of that day: the registry, which names the decision
    by digest, is what vouches for it, and keys may have been rotated since.
    """
    link = registry.serving
    if link is None or link.record.champion != registry.champion:
        raise ChainBrokenError(
            f"No promotion in the registry of {registry.model} made the model that serves."
            " Run `retraining verify`."
        )
    trust: TrustList = bench.trust.named(link.record.trust_list)
    decision = open_result(bench.store, trust, "gate", link.record.decision).expect(GateDecision)
    inputs = decision.attestation.inputs
    if "training" not in inputs or "validation" not in inputs:
        raise ChainBrokenError(f"{link.record.decision} promoted without training or validation.")
    trained = open_result(bench.store, trust, "training", inputs["training"])
    pin = open_result(bench.store, trust, "pin", decision.report.pinned_run).expect(PinnedRun)
    validated = open_result(
        bench.store,
        trust,
        "validation",
        inputs["validation"],
        of_another_release=pin.report.code_version != code_version(),
    )
    slices = validated.expect(ValidationReport).report.slices
    return Promotion(
        link.record,
        trained.expect(TrainingReport).report.blocks,
        next((part.challenger for part in slices if part.slice == _WHOLE_HOLDOUT), {}),
    )


def serving_model(
    bench: Workbench, registry: Registry, promotion: Promotion, workdir: Path
) -> "Serving":
    """Load the champion and the rows that it learned from, for monitoring."""
    from retraining.models import load_model
    from retraining.monitoring import Serving

    champion, rows = promotion.entry.champion, bench.frames(promotion.learned_from, workdir)
    if champion is None or rows is None:
        raise ChainBrokenError("A promotion without a model, or without rows that it learned from.")
    return Serving(
        version=registry.version,
        known_versions=tuple(registry.promotions),
        model=load_model(bench.store, champion),
        learned_from=rows,
        promoted=promotion.on_holdout,
    )
