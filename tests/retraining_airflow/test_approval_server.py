"""A held week on a real Airflow: the question, an insider's answers, and people's signatures."""

import time
from typing import Any

import pytest

from tests.fixtures.airflow_server import AirflowServer, eventually
from tests.fixtures.workspace import WEEKS, Workspace
from tests.retraining.approvals.cases import TOO_FEW_ROWS, add_people, approve, decision_of

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

FIRST = WEEKS[0]
# An answer within seconds of the question can fail the task in Airflow 3.3: its executor still
# reports the first half when the second is queued.
_BEFORE_AN_ANSWER = 10


def held_week(server: AirflowServer, model: str, **approval: Any) -> tuple[Workspace, str, str]:
    """Start a week that the gate holds; return when Airflow asks."""
    workspace = server.workspace.add_model(
        model, TOO_FEW_ROWS | {"approval": approval}, weeks=[FIRST]
    )
    add_people(workspace)
    dag_id = f"secure_retraining__{model}"
    server.wait_for_dag(dag_id)
    run_id = server.trigger(dag_id, week=FIRST)
    wait_for_question(server, dag_id, run_id)
    return workspace, dag_id, run_id


def wait_for_question(server: AirflowServer, dag_id: str, run_id: str) -> None:
    eventually(
        lambda: server.states(dag_id, run_id).get("approve") == "awaiting_input", seconds=300
    )
    time.sleep(_BEFORE_AN_ANSWER)


def answer(server: AirflowServer, dag_id: str, run_id: str, option: str, **form: Any) -> None:
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    body = {"chosen_options": [option], "params_input": form}
    server.call("PATCH", path, json=body).raise_for_status()


def test_a_held_week_waits_for_signatures_and_for_nothing_else(
    airflow_server: AirflowServer,
) -> None:
    server = airflow_server
    workspace, dag_id, run_id = held_week(server, "asked_filter")
    decision = decision_of(workspace)
    before = workspace.registry()
    assert server.states(dag_id, run_id)["gate"] == "failed"
    assert f"or approve it: retraining approve {decision} --key" in server.headline(
        dag_id, run_id, "gate"
    )

    # The insider says that it is signed, then marks the task green and writes its XCom.
    answer(server, dag_id, run_id, "It is signed")
    assert server.wait_for_run(dag_id, run_id) == "failed"
    assert server.headline(dag_id, run_id, "approve").startswith("GateRefused: Not enough people")
    server.mark(dag_id, run_id, "approve", "success")
    server.write_xcom(dag_id, run_id, "approve", str(decision))
    server.clear(dag_id, run_id, "promote")
    server.wait_for_run(dag_id, run_id)
    assert server.states(dag_id, run_id)["promote"] == "failed"
    assert "1 more reviewer would have to sign" in server.headline(
        dag_id, run_id, "promote", attempt=server.tasks(dag_id, run_id)["promote"]["try_number"]
    )
    assert workspace.registry() == before
    assert workspace.steps().approvals(workspace.model).links == ()

    link = approve(workspace)
    server.clear(dag_id, run_id, "approve", "promote")

    assert server.wait_for_run(dag_id, run_id) == "success"
    entry = workspace.registry()[-1]
    assert (entry.verdict, entry.version, entry.approvals) == ("PROMOTE", 1, (link.digest,))


def test_an_answer_in_the_ui_counts_where_the_pipeline_file_says_so(
    airflow_server: AirflowServer,
) -> None:
    server = airflow_server
    workspace, dag_id, run_id = held_week(server, "clicked_filter", in_ui=True)

    answer(server, dag_id, run_id, "Approve", why="sound")

    assert server.wait_for_run(dag_id, run_id) == "success"
    (link,) = workspace.steps().approvals(workspace.model).links
    said = link.record
    assert (said.approver, said.strength, said.why) == (
        "airflow:oncall",
        "ui",
        "chose Approve in Airflow: sound",
    )
    assert workspace.registry()[-1].approvals == (link.digest,)
