"""The reliability diagram: is the challenger right as often as it says?"""

from typing import TYPE_CHECKING

from retraining.gate_report.charts.drawing import ACCENT, MUTED, WIDTH, drawn
from retraining.gate_report.page import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 360.0
_LARGEST = 14.0  # points: the marker of the bin with most rows


def draw_reliability(page: Page) -> str:
    """Share correct against confidence, with intervals; empty without bins.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), figure 1.
    """
    bins = page.calibration
    if not bins:
        return ""
    most = max(one.n_rows for one in bins)

    def draw(figure: "Figure") -> None:
        axes = figure.add_axes((52 / WIDTH, 46 / _HEIGHT, 1 - 66 / WIDTH, 1 - 58 / _HEIGHT))
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.5)
        for one in bins:
            seen = one.correct
            across = [one.confidence, one.confidence]
            axes.plot(across, [seen.low, seen.high], color=ACCENT, linewidth=2)
            size = max(4.0, _LARGEST * (one.n_rows / most) ** 0.5)
            axes.plot(
                [one.confidence], [seen.value], "o", color=ACCENT, markersize=size, clip_on=False
            )
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.grid(linewidth=1)
        axes.set_axisbelow(True)
        axes.set_xlabel("confidence: mean probability of the class given")
        axes.set_ylabel("share correct")

    label = "Reliability diagram: share correct against confidence; the diagonal is ideal"
    return drawn("reliability", _HEIGHT, draw, label=label)
