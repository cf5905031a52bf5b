"""The gate report on sources: what all rows of each show together, and who is condemned for it."""

import pytest

from retraining.gate_report import Page, render
from retraining.gate_report.charts import draw_harms
from retraining.records import Interval
from tests.retraining.gate_report.cases import poisoned_page
from tests.retraining.gate_report.screened import DRIPPED
from tests.retraining.gate_report.test_page import Elements, cells


@pytest.fixture(scope="module")
def page() -> Page:
    return poisoned_page()


@pytest.fixture(scope="module")
def html(page: Page) -> bytes:
    return render(page)


def test_what_all_rows_of_a_source_show_stands_beside_it_and_its_condemnation_once(
    html: bytes,
) -> None:
    text = cells(html)
    together = text[text.index("What all rows of a source show together") :]
    for promised in (
        "0.53 [0.48, 0.58] its own history",  # told apart
        "0.53 [0.48, 0.58] all trusted rows, by size, sale",
        "0.012 [0.009, 0.015]",  # loss that it adds
        "-0.012 [-0.022, -0.002]",  # accuracy
        "37 of 1600; 4.25 expected",
        "1e-05; up to 0.001 condemns",
    ):
        assert promised in together
    row = together[together.index("dripping_purchased_feed") :]
    assert row.startswith("dripping_purchased_feed 2026-W07 condemned")
    assert together.count("condemned") == 1
    assert text.count(DRIPPED.format("sale")) == 1


def test_why_a_source_could_not_be_measured_is_said_even_if_nothing_refuses_it(page: Page) -> None:
    said = "It has rows of one class only."
    first = page.sources[0]
    assert first.evidence is not None
    silent = first.evidence.model_copy(update={"sentences": (said,), "influence": None})
    changed = page.model_copy(
        update={"sources": (first.model_copy(update={"evidence": silent}), *page.sources[1:])}
    )
    assert f"gateway: {said}" in " ".join(Elements(render(changed)).text.split())


def test_sources_without_evidence_have_no_table_of_it(page: Page) -> None:
    bare = tuple(source.model_copy(update={"evidence": None}) for source in page.sources)
    text = Elements(render(page.model_copy(update={"sources": bare}))).text
    assert "show together" not in text and "told apart" not in text


def test_a_harm_beyond_what_is_allowed_is_drawn_in_the_colour_of_trouble(page: Page) -> None:
    gateway, evidence = page.sources[0], page.sources[0].evidence
    assert evidence is not None and evidence.influence is not None
    for value, colour in ((0.019, "var(--ink)"), (0.021, "var(--bad)")):
        loss = Interval(value=value, low=0.018, high=0.03)
        influence = evidence.influence.model_copy(update={"log_loss": loss})
        more = {"evidence": evidence.model_copy(update={"influence": influence})}
        chart = draw_harms(page.model_copy(update={"sources": (gateway.model_copy(update=more),)}))
        assert colour in chart.partition(f"{value} [")[0].rpartition("<text")[2]
