"""Promises of the gate report: what matters first, nothing that runs, no rows, the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from retraining import step_requests
from retraining.digests import Digest
from retraining.gate_report import Page, render
from retraining.gate_report.charts import draw_differences, draw_harms, draw_nulls, draw_told_apart
from retraining.intervals import wilson
from retraining.records import Interval
from retraining.settings import REPOSITORY
from tests.retraining.gate_report.cases import FIRST_CHALLENGER, KEY, poisoned_page

HOSTILE = (
    "</style></svg><script>alert(1)</script><img src=//x onerror=alert(2)>\"'--> {{ 7*7 }} $x^2$"
)
MAX_BYTES = 300_000
STYLES = REPOSITORY / "include" / "retraining" / "gate_report" / "templates" / "gate_report.css"


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def cells(page: bytes) -> str:
    """The text with one blank between cells."""
    return " ".join(Elements(page.replace(b"</t", b" </t")).text.split())


@pytest.fixture(scope="module")
def page() -> Page:
    return poisoned_page()


@pytest.fixture(scope="module")
def html(page: Page) -> bytes:
    return render(page)


# --- what is read first -----------------------------------------------------------------------


def test_verdict_sentence_and_next_step_come_before_everything_else(html: bytes) -> None:
    text = " ".join(Elements(html).text.split())
    first = text.index("REJECT spam_filter 2026-W07")
    assert "surely bad (behaviour: transplant). The champion keeps serving" in text[first:][:200]
    assert text.index("Next: start the week again without purchased_feed") < text.index("Checks")


def test_checks_that_failed_stand_before_those_that_passed_each_with_observed_and_allowed(
    page: Page, html: bytes
) -> None:
    verdicts = [check.verdict for check in page.checks]
    assert verdicts == ["REJECT", "HOLD", "PROMOTE", "PROMOTE"]
    text = Elements(html).text
    for check in page.checks:
        assert check.observed in text and check.allowed in text
    assert text.index(page.checks[1].observed) < text.index("2 checks passed")


def test_it_shows_what_each_section_promises(html: bytes) -> None:
    text = " ".join(Elements(html).text.split())
    for promised in (
        "0.13 [0.09, 0.18]",  # share of poison
        "size = 7 turns 58 of 60",  # pattern of screening
        "12 of 290 rows of purchased_feed 2026-W06; learned by version 4",
        "refused (missing)",
        "epsilon 2.9 of 3 allowed",
        "41 rows taught it: 41 of purchased_feed 2026-W07",
        "Rows of 611 that judge",
        "no reviewer has confirmed any poison yet",
        KEY,
    ):
        assert promised in text


def test_it_says_what_was_taken_out_and_whether_another_was_trained(page: Page) -> None:
    told = cells(render(page))
    assert "300 rows were traced to it and taken out, all new rows of purchased_feed" in told
    assert "The challenger below learned from the rest." in told
    assert "transplant 41 rows of purchased_feed 2026-W07 3 0.93" in told
    assert page.rounds[0].challenger == FIRST_CHALLENGER
    alone = page.model_copy(
        update={"rounds": (page.rounds[0].model_copy(update={"again": False, "sources": ()}),)}
    )
    told = cells(render(alone))
    assert "No other could be measured" in told and "all new rows of" not in told
    assert "trained again" not in cells(render(page.model_copy(update={"rounds": ()})))


def test_power_is_a_table_that_says_each_attack_and_each_check_once(html: bytes) -> None:
    text = cells(html)
    table = text[text.index("planted transplant window") :]
    assert "a learned trigger in 1.0% of the rows 80% \N{EN DASH} " in table
    assert "a learned trigger in 5.0% of the rows 100% 50%" in table


def test_a_week_that_was_never_trained_has_a_page_too(page: Page) -> None:
    bare = page.model_copy(
        update={
            **dict.fromkeys(("behaviour", "privacy", "challenger", "confidence", "feedback")),
            **dict.fromkeys(("comparisons", "calibration", "sources", "purged"), ()),
        }
    )
    text = " ".join(Elements(render(bare)).text.split())
    for said in (
        "there is no challenger",
        "It was not measured",
        "No batch arrived",
        "spent nothing",
    ):
        assert said in text


# --- strangers' names, strangers' rows --------------------------------------------------------


def test_a_hostile_name_is_shown_and_neither_runs_nor_breaks_out() -> None:
    found = Elements(render(poisoned_page(feed=HOSTILE, odd=HOSTILE)))
    assert "<script>alert(1)</script>" in found.text  # as text: it was escaped, not lost
    assert "{{ 7*7 }}" in found.text
    assert not {tag for tag, _ in found.found} & {"script", "img", "iframe", "object", "link"}
    assert [name for _, attributes in found.found for name in attributes if name[:2] == "on"] == []


def test_a_hostile_name_in_a_chart_is_text_as_it_was_written() -> None:
    page = poisoned_page(feed="<b>&$x^2$", odd="<b>&$x^2$")
    drawings = (draw_differences, draw_nulls, draw_harms, draw_told_apart)
    for chart in (draw(page) for draw in drawings):
        ElementTree.fromstring(chart)  # well-formed
    judged = page.model_copy(
        update={"comparisons": [c.model_copy(update={"judged": True}) for c in page.comparisons]}
    )
    texts = [node.text for node in ElementTree.fromstring(draw_differences(judged)).iter()]
    assert "accuracy on only <b>&$x^2$" in texts


def test_it_loads_nothing(html: bytes) -> None:
    for _, attributes in Elements(html).found:
        for name in ("src", "href", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith("#")
    assert b"default-src 'none'" in html
    assert set(re.findall(rb"url\((.)", html)) <= {b"#"}
    assert b"@import" not in html


def test_no_row_is_on_it_neither_its_id_nor_its_values(page: Page, html: bytes) -> None:
    for data in (html, page.to_json()):
        assert b"private-row-17" not in data
    assert {"values", "tolerances", "row_ids"} & set(
        re.findall(r'"(\w+)":', str(page.to_json()))
    ) == set()


# --- a pure function --------------------------------------------------------------------------


def test_the_json_says_the_same_and_makes_the_same_page(page: Page, html: bytes) -> None:
    again = Page.from_json(page.to_json())
    assert again == page
    assert render(again) == html
    assert json.loads(page.to_json())["verdict"] == "REJECT"


@pytest.mark.slow
def test_another_machine_with_other_habits_makes_the_same_bytes(
    page: Page, html: bytes, tmp_path: Path
) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: path\naxes.grid: True\n")
    (tmp_path / "page.json").write_bytes(page.to_json())
    program = (
        "import sys, pathlib; from retraining.gate_report import Page, render;"
        "sys.stdout.buffer.write(render(Page.from_json(pathlib.Path('page.json').read_bytes())))"
    )
    habits = {"MPLCONFIGDIR": str(tmp_path), "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    habits |= {"LC_ALL": "C", "SOURCE_DATE_EPOCH": "86400"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, **habits},
        capture_output=True,
        check=True,
    )
    assert Digest.of(done.stdout) == Digest.of(html)


def test_another_template_is_another_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two workers of "the same code" would draw two pages from the same records."""
    for lock in ("requirements.lock", "requirements-trainer.lock"):
        (tmp_path / lock).write_bytes(b"")
    shutil.copytree(STYLES.parent, tmp_path / "include" / "retraining" / "templates")
    monkeypatch.setattr(step_requests, "_INCLUDE", tmp_path / "include")
    template, styles = sorted((tmp_path / "include").rglob("gate_report.*"), reverse=True)
    seen = {step_requests.code_version.__wrapped__()}
    for changed in (template, styles):
        changed.write_text(changed.read_text() + " ")
        seen.add(step_requests.code_version.__wrapped__())
    assert len(seen) == 3


def test_it_is_small_and_no_two_things_have_one_id(html: bytes) -> None:
    assert len(html) < MAX_BYTES
    ids = [attributes["id"] for _, attributes in Elements(html).found if "id" in attributes]
    assert len(ids) == len(set(ids))


# --- numbers and colours ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "n_rows", "low", "high"),
    # Brown, Cai, DasGupta, "Interval estimation for a binomial proportion" (2001): the formula.
    [(0.0, 10, 0.0, 0.277533), (1.0, 10, 0.722467, 1.0), (0.5, 10, 0.236593, 0.763407)],
)
def test_the_interval_of_a_bin_is_wilsons(
    share: float, n_rows: int, low: float, high: float
) -> None:
    assert wilson(share, n_rows) == Interval(value=share, low=low, high=high)


def test_a_metric_of_which_less_is_better_is_turned_in_the_chart(page: Page) -> None:
    worse = Interval(value=0.03, low=0.02, high=0.04)
    [error] = [
        c.model_copy(update={"difference": worse})
        for c in page.comparisons
        if c.less_is_better and c.slice == "all"
    ]
    chart = draw_differences(page.model_copy(update={"comparisons": (error,)}))
    assert "-0.03 [-0.04, -0.02]" in chart
    assert "var(--bad)" in chart.partition("-0.03 [")[0].rpartition("<text")[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "good", "warn", "bad", "accent"])
def test_text_has_the_contrast_that_wcag_asks_for(scheme: str, name: str) -> None:
    light, _, dark = STYLES.read_text().partition("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    for ground in ("paper", "raised"):
        brighter, darker = sorted(map(luminance, (colours[name], colours[ground])), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5, ground


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
