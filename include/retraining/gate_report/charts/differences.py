"""Challenger minus champion: every difference with its interval, beside what is allowed."""

from retraining.gate_report.charts.drawing import BAD, GOOD, INK, MUTED, WARN
from retraining.gate_report.charts.forest import Bound, Row, draw_forest
from retraining.gate_report.page import ComparedMetric, Page
from retraining.records import Interval

_WHOLE = "all"


def draw_differences(page: Page) -> str:
    """What the gate judges, and every metric of the whole holdout; empty without a champion."""
    rows = [
        _row(compared, compared.difference)
        for compared in sorted(page.comparisons, key=lambda c: not c.judged)
        if compared.difference and (compared.judged or compared.slice == _WHOLE)
    ]
    if not rows:
        return ""
    bounds = [
        Bound(0.0, MUTED, dashed=False),
        Bound(-page.margin, WARN),
        Bound(-page.harm, BAD),
    ]
    return draw_forest(
        "differences",
        rows,
        x_label="worse  ←  challenger against champion  →  better",
        bounds=bounds,
        label="Differences between challenger and champion with their intervals",
    )


def _row(compared: ComparedMetric, difference: Interval) -> Row:
    gain = difference
    name = compared.metric if compared.slice == _WHOLE else f"{compared.metric} on {compared.slice}"
    if compared.less_is_better:
        gain = Interval(value=-difference.value, low=-difference.high, high=-difference.low)
        name += ", turned"
    colour = BAD if gain.high < 0 else GOOD if gain.low > 0 else INK
    return Row(name, gain, colour, INK if compared.judged else MUTED)
