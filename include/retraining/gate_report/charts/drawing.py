"""What all charts share: a sheet to draw on, and the way from it to SVG inside a page."""

import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 460.0  # points; a phone shows it at four fifths, so that 12 points stay readable
FONT = 12.0

# matplotlib wants numbers, the page has names for light and dark: each stands for one.
INK, MUTED, LINE, GOOD, WARN, BAD, ACCENT = (f"#0{n}0{n}0{n}" for n in range(1, 8))
_NAMES = dict(
    zip(
        (INK, MUTED, LINE, GOOD, WARN, BAD, ACCENT),
        ("ink", "muted", "line", "good", "warn", "bad", "accent"),
        strict=True,
    )
)

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: text is measured alike everywhere
    "font.size": FONT,
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "text.parse_math": False,  # names are a stranger's: `$` is a character
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "path.simplify": False,
}
_CUT = (
    re.compile(r"<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r'<style type="text/css">.*?</style>', re.DOTALL),  # would reach the whole page
    re.compile(r'(?<=<g) id="[^"]*"'),  # the same in every chart, and a page has several
)
_SIZE = re.compile(r'^<svg .*?viewBox="([^"]*)".*?>', re.DOTALL)
_COLOUR = re.compile(r"(?<=(?:fill|roke): )#0([1-7])(?:0\1){2}")


def drawn(name: str, height: float, draw: Callable[["Figure"], None], *, label: str) -> str:
    """Draw on a sheet of `WIDTH` x `height` points and return it as an `<svg>` element.

    Args:
        name: Of the chart: makes the ids inside differ from those of the page's other charts.
        label: What a screen reader says; the numbers stand in a table beside the chart.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.style import context

    # First the defaults, because a user's own matplotlibrc would change the bytes.
    with context("default", after_reset=True), rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _for_a_page(buffer.getvalue(), label)


def sheet(figure: "Figure", height: float, *, x_label: str) -> "Axes":
    """Axes over the whole figure with one horizontal scale, and rows of 1 unit from the top."""
    below = 44.0  # room for the scale and its label
    beside = 24.0  # half a number of the scale, which may stand at its very end
    across, up = 1 - 2 * beside / WIDTH, 1 - (below + 6) / height
    axes = figure.add_axes((beside / WIDTH, below / height, across, up))
    axes.set_yticks([])
    axes.set_xlabel(x_label)
    axes.grid(axis="x", linewidth=1)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=6)
    return axes


def cut(text: str, n_characters: int) -> str:
    """One line of at most that many characters."""
    line = " ".join(text.split())
    return line if len(line) <= n_characters else line[: n_characters - 1] + "…"


def _for_a_page(svg: str, label: str) -> str:
    svg = svg[svg.index("<svg") :]
    for pattern in _CUT:
        svg = pattern.sub("", svg)
    svg = _COLOUR.sub(lambda found: f"var(--{_NAMES[found.group()]})", svg)
    # Without a size of its own: the page gives it one.
    head = 'xmlns:xlink="http://www.w3.org/1999/xlink" role="img"'
    return _SIZE.sub(
        lambda old: f'<svg {head} aria-label="{escape(label)}" viewBox="{old.group(1)}">',
        svg,
        count=1,
    ).strip()
