"""The charts of the gate report: SVG text to stand inside the page, in the page's colours.

Drawn by matplotlib with its own fonts and defaults, so that the same page gives the same bytes on
every machine that has the same release of it.
"""

from retraining.gate_report.charts.differences import draw_differences
from retraining.gate_report.charts.nulls import draw_nulls
from retraining.gate_report.charts.reliability import draw_reliability
from retraining.gate_report.charts.sources import (
    draw_harms,
    draw_influence,
    draw_poison_shares,
    draw_told_apart,
)

__all__ = [
    "draw_differences",
    "draw_harms",
    "draw_influence",
    "draw_nulls",
    "draw_poison_shares",
    "draw_reliability",
    "draw_told_apart",
]
