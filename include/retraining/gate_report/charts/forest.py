"""Values with their intervals, one row each: the name above, the interval on one common scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retraining.gate_report.charts.drawing import FONT, INK, MUTED, cut, drawn, sheet
from retraining.records import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 40.0  # points
_AROUND = 62.0
_MAX_LINE = 55  # characters of a name and its numbers on one line


@dataclass(frozen=True)
class Row:
    """One interval; the colours are `drawing`'s."""

    name: str
    interval: Interval
    colour: str = INK
    name_colour: str = INK


@dataclass(frozen=True)
class Bound:
    """A line across all rows: what is allowed, or no difference."""

    at: float
    colour: str = MUTED
    dashed: bool = True


def draw_forest(
    chart: str, rows: Sequence[Row], *, x_label: str, bounds: Sequence[Bound] = (), label: str
) -> str:
    """Draw the rows in their order, top first."""
    height = _AROUND + _ROW * len(rows)

    def draw(figure: "Figure") -> None:
        axes = sheet(figure, height, x_label=x_label)
        axes.set_ylim(len(rows) - 0.1, -0.4)
        for place, row in enumerate(rows):
            seen, at = row.interval, place + 0.35
            axes.plot([seen.low, seen.high], [at, at], color=row.colour, linewidth=3)
            axes.plot([seen.value], [at], "o", color=row.colour, markersize=8)
            shown = f"{seen.value:.3g} [{seen.low:.3g}, {seen.high:.3g}]"
            head: dict[str, Any] = {
                "va": "center",
                "transform": axes.get_yaxis_transform(),
                "fontsize": FONT,
            }
            name = cut(row.name, _MAX_LINE - len(shown))
            axes.text(0, place - 0.08, name, ha="left", color=row.name_colour, **head)
            axes.text(1, place - 0.08, shown, ha="right", color=row.colour, **head)
        for bound in bounds:
            style = "--" if bound.dashed else "-"
            axes.axvline(bound.at, color=bound.colour, linewidth=1.5, linestyle=style, zorder=0.9)
        axes.margins(x=0.04)

    return drawn(chart, height, draw, label=label)
