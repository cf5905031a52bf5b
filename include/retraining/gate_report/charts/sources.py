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
