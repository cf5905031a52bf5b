"""What a person sees in Airflow's own pages, in a real browser."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.airflow_server import AirflowServer, eventually
from tests.fixtures.workspace import WEEKS, flip_labels

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

CHROMIUM = shutil.which("chromium")
WIDTH, HEIGHT = 1500, 900
WAIT_MS = 60_000

# Where an element's text ends, also where a scrolling box around it cuts it off.
_END_OF_TEXT = """element => {
    const text = document.createRange();
    text.selectNodeContents(element);
    const {right, bottom} = text.getBoundingClientRect();
    return [right, bottom];
}"""


@pytest.fixture(scope="module")
def page(airflow_server: AirflowServer) -> Iterator[Any]:
    """A page of a window of 1,500 pixels, logged in as the on-call."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium).")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(WAIT_MS)
        page.goto(airflow_server.url)
        page.fill("input[name=username]", airflow_server.user)
        page.fill("input[name=password]", airflow_server.user)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Welcome")
        yield page
        browser.close()


def test_the_log_of_a_red_gate_shows_its_whole_sentence_without_scrolling(
    airflow_server: AirflowServer, page: Any
) -> None:
    workspace = airflow_server.workspace.add_model("shown_filter")
    workspace.deliver(WEEKS[0], change=flip_labels("spam", "ham", share=0.6))
    dag_id = f"secure_retraining__{workspace.model}"
    airflow_server.wait_for_dag(dag_id)
    run_id, state = airflow_server.run_week(dag_id, WEEKS[0])
    assert state == "failed"

    page.goto(f"{airflow_server.url}/dags/{dag_id}/runs/{run_id}/tasks/gate")

    first = page.get_by_text("GateRefused: HOLD: shown_filter")
    first.wait_for()
    digits = workspace.registry()[-1].decision.hex[:16]
    link = page.get_by_role("link", name=digits)
    for shown in (first, link):
        right, bottom = shown.evaluate(_END_OF_TEXT)
        assert 0 < right < WIDTH
        assert 0 < bottom < HEIGHT
    with page.context.expect_page() as opened:
        link.click()
    report = opened.value
    report.get_by_role("heading", name="HOLD").first.wait_for()
    assert "Screening" in report.inner_text("body")
    report.close()


def test_a_scheduled_dag_runs_from_its_form_which_demands_a_reason_and_on_its_schedule(
    airflow_server: AirflowServer, page: Any
) -> None:
    workspace = airflow_server.workspace.add_model(
        "scheduled_filter", {"schedule": "0 3 * * 1"}, weeks=[WEEKS[0]]
    )
    dag_id = f"secure_retraining__{workspace.model}"
    airflow_server.wait_for_dag(dag_id, paused=True)

    page.goto(f"{airflow_server.url}/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()

    page.get_by_text("This field is required").wait_for()
    trigger = page.get_by_role("dialog").get_by_role("button", name="Trigger", exact=True)
    assert trigger.is_disabled()
    page.locator("[name=element_reason]").fill("vendor delivered late")
    page.get_by_text("This field is required").wait_for(state="hidden")
    assert trigger.is_enabled()
    page.locator("[name=element_week]").fill(WEEKS[0])
    trigger.click()
    airflow_server.wait_for_dag(dag_id)  # let loose, the schedule's last slot is due as well

    def ended() -> dict[str, str] | None:
        runs = airflow_server.get(f"dags/{dag_id}/dagRuns")["dag_runs"]
        states = {run["run_type"]: run["state"] for run in runs}
        return states if {*states.values()} <= {"success", "failed"} and len(runs) == 2 else None

    # Nobody delivered the last full week, so the scheduler's run of it ends in a red gate.
    assert eventually(ended, seconds=300) == {"manual": "success", "scheduled": "failed"}
    verdicts = {entry.week: entry.verdict for entry in workspace.registry()}
    assert verdicts.pop(WEEKS[0]) == "PROMOTE"
    assert set(verdicts.values()) == {"HOLD"}
