"""The gate report in a real browser: readable on phone and desk, and nothing leaves the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retraining.gate_report import render
from tests.retraining.gate_report.cases import poisoned_page
from tests.retraining.gate_report.test_page import HOSTILE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = shutil.which("chromium")
DESK, PHONE = 1280, 400


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium).")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on which every name wants to run."""
    file = tmp_path_factory.mktemp("page") / "gate_report.html"
    file.write_bytes(render(poisoned_page(feed=HOSTILE, odd=HOSTILE)))
    return file


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_it_fits_and_the_verdict_is_seen_without_scrolling(browser: Any, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_content(render(poisoned_page()).decode())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for shown in ("REJECT", "Next: start the week again without purchased_feed"):
        box = page.get_by_text(shown).first.bounding_box()
        assert box["y"] + box["height"] < 800
    sizes = "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
    assert min(page.evaluate(sizes)) >= 9  # pixels: small, and legible


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_readers_colours(browser: Any, file: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    inks = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)"
    )
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark_on_light, light_on_dark = "rgb(22, 25, 29)", "rgb(232, 234, 237)"
    assert (dark_on_light in inks, light_on_dark in inks) == (scheme == "light", scheme == "dark")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 26)")


def test_nothing_runs_and_nothing_is_fetched(browser: Any, file: Path) -> None:
    page = browser.new_page()
    seen: list[str] = []
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.on("console", lambda message: seen.append(message.text))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    assert seen == [file.as_uri()]


def test_it_is_whole_without_scripts(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    page.get_by_text("The records, by digest").click()
    assert page.get_by_text("digest of what was signed").first.is_visible()
