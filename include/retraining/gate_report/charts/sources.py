"""Sources: how much of what each delivered is poison, and what each did to the model."""

from retraining.gate_report.charts.drawing import BAD, INK, MUTED
from retraining.gate_report.charts.forest import Bound, Row, draw_forest
from retraining.gate_report.page import Finding, Page

_TOO_MUCH = 0.01  # an interval wholly above one row in a hundred is drawn in the colour of trouble


def draw_poison_shares(page: Page) -> str:
    """The share of poison of each batch, most first; empty when none could be estimated."""
    known = [(source.batch, source.poison_share) for source in page.sources]
    rows = [
        Row(str(batch), share, BAD if share.low > _TOO_MUCH else INK)
        for batch, share in known
        if share is not None
    ]
    if not rows:
        return ""
    return draw_forest(
        "poison_shares",
        sorted(rows, key=lambda row: -row.interval.value),
        x_label="share of the rows that is poison, estimated by screening",
        label="Share of poison of each source, with its interval",
    )


def draw_harms(page: Page) -> str:
    """The loss that each source adds to plain models, most first; empty when none was measured."""
    known = [
        (source.batch, source.evidence.influence)
        for source in page.sources
        if source.evidence and source.evidence.influence
    ]
    if not known:
        return ""
    rows = [
        Row(str(batch), loss, BAD if loss.low > 0 and loss.value > seen.max_log_loss else INK)
        for batch, seen in known
        for loss in (seen.log_loss,)
    ]
    allowed = sorted({seen.max_log_loss for _, seen in known})
    return draw_forest(
        "harms",
        sorted(rows, key=lambda row: -row.interval.value),
        x_label="loss on reference rows that it adds, in nats",
        bounds=[Bound(0.0, MUTED, dashed=False), *(Bound(most, BAD) for most in allowed)],
        label="Loss that each source adds to plain models on reference rows, with its interval",
    )


def draw_told_apart(page: Page) -> str:
    """How well each source's new rows are told from trusted ones, best first; empty without any."""
    rows = [
        Row(str(source.batch), source.evidence.difference.auc)
        for source in page.sources
        if source.evidence and source.evidence.difference
    ]
    if not rows:
        return ""
    return draw_forest(
        "told_apart",
        sorted(rows, key=lambda row: -row.interval.value),
        x_label="area under the ROC curve; 0.5: nothing tells them apart",
        bounds=[Bound(0.5, MUTED, dashed=False)],
        label="How well each source's new rows are told from trusted ones, with intervals",
    )


def draw_influence(finding: Finding) -> str:
    """What a check of behaviour says of each source, most first; empty where it says nothing."""
    if not finding.by_source:
        return ""
    rows = [
        Row(name, seen, BAD if seen.low > 0 else INK) for name, seen in finding.by_source.items()
    ]
    return draw_forest(
        f"influence_{finding.name}",
        sorted(rows, key=lambda row: (-row.interval.value, row.name)),
        x_label=finding.measure,
        bounds=[Bound(0.0, MUTED, dashed=False)],
        label=f"{finding.name}: {finding.measure}, by source, with intervals",
    )
