"""One HTML file from the page: it loads nothing, runs nothing, and trusts no name in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retraining.gate_report import charts
from retraining.gate_report.page import Page
from retraining.records import Interval

if TYPE_CHECKING:
    from jinja2 import Environment

_NOTHING = "\N{EN DASH}"
_TEMPLATES = Path(__file__).with_name("templates")


def render(page: Page) -> bytes:
    """The page as UTF-8 HTML."""
    from markupsafe import Markup

    # Markup: matplotlib has escaped every text in it, as the tests see.
    drawn = {
        "differences": Markup(charts.draw_differences(page)),  # noqa: S704
        "reliability": Markup(charts.draw_reliability(page)),  # noqa: S704
        "poison_shares": Markup(charts.draw_poison_shares(page)),  # noqa: S704
        "harms": Markup(charts.draw_harms(page)),  # noqa: S704
        "told_apart": Markup(charts.draw_told_apart(page)),  # noqa: S704
        "nulls": Markup(charts.draw_nulls(page)),  # noqa: S704
        "influence": [
            (finding.name, Markup(charts.draw_influence(finding)))  # noqa: S704
            for finding in (page.behaviour.findings if page.behaviour else ())
            if finding.by_source
        ],
    }
    template = _environment().get_template("gate_report.html.j2")
    return template.render(page=page, charts=drawn, power=_power(page)).encode()


def _power(page: Page) -> dict[str, Any]:
    """The power as a table, one row per attack and one column per check: names are said once."""
    attacks: dict[str, dict[str, float]] = {}
    for name, share in (page.behaviour.power if page.behaviour else {}).items():
        check, _, attack = name.partition(": ")
        attacks.setdefault(attack, {})[check] = share
    checks = sorted({check for seen_by in attacks.values() for check in seen_by})
    return {"checks": checks, "attacks": attacks}


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {"interval": _interval, "number": _number, "share": _share}
    environment.filters.update(filters)
    return environment


def _interval(seen: Interval | None, digits: int = 4) -> str:
    if seen is None:
        return _NOTHING
    value, low, high = (f"{number:.{digits}g}" for number in (seen.value, seen.low, seen.high))
    return f"{value} [{low}, {high}]"


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.4g}"


def _share(value: float) -> str:
    return f"{value:.3g}" if 0 < value < 0.01 else f"{value:.0%}"
