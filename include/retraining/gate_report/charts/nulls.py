"""What each check of behaviour saw, beside what clean challengers show (the null)."""

from typing import TYPE_CHECKING, Any

from retraining.gate_report.charts.drawing import ACCENT, BAD, FONT, MUTED, WIDTH, cut, drawn
from retraining.gate_report.page import Finding, Page
from retraining.records import NULL_LEVELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 92.0  # points
_MAX_NAME, _MAX_MEASURE = 34, 60


def draw_nulls(page: Page) -> str:
    """One row per check that has a null, each on its own scale; empty when none has."""
    findings = page.behaviour.findings if page.behaviour else ()
    shown = [one for one in findings if one.null_quantiles and not one.insufficient]
    if not shown:
        return ""
    height = _ROW * len(shown)
    failed = {c.name.rpartition(": ")[2] for c in page.checks if c.verdict == "REJECT"}

    def draw(figure: "Figure") -> None:
        for place, finding in enumerate(shown):
            bottom = height - _ROW * (place + 1)
            box = (14 / WIDTH, (bottom + 42) / height, 1 - 28 / WIDTH, (_ROW - 64) / height)
            _draw_one(figure.add_axes(box), finding, BAD if finding.name in failed else ACCENT)

    label = "What each check of the challenger's behaviour saw, beside what clean ones show"
    return drawn("nulls", height, draw, label=label)


def _draw_one(axes: "Axes", finding: Finding, colour: str) -> None:
    at = dict(zip(NULL_LEVELS, finding.null_quantiles, strict=True))
    axes.plot([at[0.0], at[1.0]], [0, 0], color=MUTED, linewidth=1.5)
    axes.plot([at[0.05], at[0.95]], [0, 0], color=MUTED, linewidth=5, solid_capstyle="butt")
    axes.plot([at[0.25], at[0.75]], [0, 0], color=MUTED, linewidth=11, solid_capstyle="butt")
    axes.plot([finding.statistic], [0], "D", color=colour, markersize=10)
    p_value = "no p-value" if finding.p_value is None else f"p = {finding.p_value:.2g}"
    head: dict[str, Any] = {"transform": axes.transAxes, "va": "bottom", "fontsize": FONT}
    axes.text(0, 1.02, cut(finding.name, _MAX_NAME), ha="left", **head)
    seen = f"{finding.statistic:.4g}, {p_value}"
    axes.text(1, 1.02, seen, ha="right", color=colour, **head)
    axes.set_ylim(-1, 1)
    axes.margins(x=0.04)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(cut(finding.measure, _MAX_MEASURE), labelpad=1)
