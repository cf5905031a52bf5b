"""An insider who may do whatever Airflow's role `user` may: edit colours and XCom, clear, trigger.

The gate refused a week. Nothing that he does at the pages, all of it through Airflow's REST API,
makes that week's challenger the champion, nor any other model. He may ask for a rollback, in his
own name; but only what was signed, for the registry as it is, and no convicted version, serves.
"""

from dataclasses import dataclass

import pytest

from retraining.digests import Digest
from retraining.weekly import screen_week
from tests.fixtures.airflow_server import AirflowServer
from tests.fixtures.workspace import WEEKS, Workspace, flip_labels

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

FIRST, SECOND, *_ = WEEKS


@dataclass(frozen=True)
class RefusedWeek:
    """A first week that was promoted, and a second that the gate refused.

    Attributes:
        forgeries: What the insider may write into the gate's XCom, by what it is.
    """

    server: AirflowServer
    workspace: Workspace
    run_id: str
    forgeries: dict[str, str]

    @property
    def dag_id(self) -> str:
        return f"secure_retraining__{self.workspace.model}"

    def promote_again(self) -> str:
        """Clear the promotion, let Airflow run it, and return its colour."""
        self.server.clear(self.dag_id, self.run_id, "promote")
        self.server.wait_for_run(self.dag_id, self.run_id)
        return self.server.states(self.dag_id, self.run_id)["promote"]

    def headline(self) -> str:
        """What the log of the newest try of the promotion shows first."""
        attempt = self.server.tasks(self.dag_id, self.run_id)["promote"]["try_number"]
        return self.server.headline(self.dag_id, self.run_id, "promote", attempt=attempt)


@pytest.fixture(scope="module")
def refused(airflow_server: AirflowServer) -> RefusedWeek:
    """The gate marked green by hand, which makes Airflow willing to promote."""
    other = airflow_server.workspace.add_model("neighbour_filter", weeks=[FIRST])
    workspace = airflow_server.workspace.add_model("insider_filter", weeks=[FIRST])
    workspace.deliver(SECOND, ["gateway"], change=flip_labels("spam", "ham", share=0.6))
    workspace.deliver(SECOND, ["feed"])
    workspace.run_week(FIRST)
    dag_id = f"secure_retraining__{workspace.model}"
    airflow_server.wait_for_dag(dag_id)
    run_id, state = airflow_server.run_week(dag_id, SECOND)
    assert state == "failed"
    promoted, held = workspace.registry()
    assert (promoted.verdict, held.verdict) == ("PROMOTE", "HOLD")
    airflow_server.mark(dag_id, run_id, "gate", "success")
    return RefusedWeek(
        airflow_server,
        workspace,
        run_id,
        {
            "an old decision that said PROMOTE": promoted.decision,
            "this week's decision, which says HOLD": held.decision,
            "another model's decision": decide_only(other, FIRST),
            "a digest of nothing": Digest.of(b"nothing"),
            "a record that is no decision": promoted.spec,
            "garbage": "PROMOTE",
            "a path": "../../trust/0000000001",
        },
    )


def decide_only(workspace: Workspace, week: str) -> Digest:
    """Run a week up to its decision, which says PROMOTE, and do not use it."""
    steps = workspace.steps()
    screened = screen_week(steps, workspace.model, week)
    run, screening = screened.run.attestation.digest, screened.screening.attestation.digest
    training = steps.train(run, screening).attestation.digest
    decided = steps.decide(
        run,
        provenance=[result.attestation.digest for result in screened.provenance],
        screening=screening,
        training=training,
        validation=steps.validate(run, training).attestation.digest,
    )
    assert decided.report.promotes
    return decided.attestation.digest


def test_marking_the_gate_green_promotes_nothing(refused: RefusedWeek) -> None:
    before = refused.workspace.registry()

    assert refused.promote_again() == "failed"

    assert "Nothing signed says PROMOTE" in refused.headline()
    assert refused.workspace.registry() == before


@pytest.mark.parametrize(
    "forgery",
    [
        "an old decision that said PROMOTE",
        "this week's decision, which says HOLD",
        "another model's decision",
        "a digest of nothing",
        "a record that is no decision",
        "garbage",
        "a path",
    ],
)
def test_a_forged_xcom_promotes_nothing(refused: RefusedWeek, forgery: str) -> None:
    before = refused.workspace.registry()
    told = len(champion_events(refused))
    refused.server.write_xcom(refused.dag_id, refused.run_id, "gate", refused.forgeries[forgery])

    assert refused.promote_again() == "failed"

    assert refused.headline().startswith("AirflowFailException: ")
    assert refused.workspace.registry() == before
    assert neighbours_registry(refused) == []
    assert len(champion_events(refused)) == told  # nobody's serving DAG was started


def test_clearing_the_gate_gives_the_same_decision_again(refused: RefusedWeek) -> None:
    before = refused.workspace.registry()

    refused.server.clear(refused.dag_id, refused.run_id, "gate")

    assert refused.server.wait_for_run(refused.dag_id, refused.run_id) == "failed"
    assert refused.server.states(refused.dag_id, refused.run_id)["gate"] == "failed"
    assert refused.workspace.registry() == before


def neighbours_registry(refused: RefusedWeek) -> list[object]:
    """The registry of the other model, whose decision is signed and unused."""
    steps = refused.workspace.steps()
    return list(steps.registry("neighbour_filter").entries)


def champion_events(refused: RefusedWeek) -> list[object]:
    """What DAGs that wait for this model's champion were told."""
    found = refused.server.get("assets/events", source_dag_id=refused.dag_id)
    return list(found["asset_events"])


# --- rollback -------------------------------------------------------------------------------


@dataclass(frozen=True)
class RolledBack:
    """Three versions; the third was convicted, the second serves, and a request for the first ran.

    Attributes:
        forgeries: What the insider may write into the request's XCom, by what it is.
    """

    server: AirflowServer
    workspace: Workspace
    run_id: str
    forgeries: dict[str, str]

    @property
    def dag_id(self) -> str:
        return f"rollback__{self.workspace.model}"

    def restore_again(self) -> str:
        """Clear the restoring task, let Airflow run it, and return its colour."""
        self.server.clear(self.dag_id, self.run_id, "restore")
        self.server.wait_for_run(self.dag_id, self.run_id)
        return self.server.states(self.dag_id, self.run_id)["restore"]

    def headline(self) -> str:
        """What the log of the newest try shows first."""
        attempt = self.server.tasks(self.dag_id, self.run_id)["restore"]["try_number"]
        return self.server.headline(self.dag_id, self.run_id, "restore", attempt=attempt)


@pytest.fixture(scope="module")
def rolled_back(airflow_server: AirflowServer) -> RolledBack:
    """A rollback through the form, after others on the command line."""
    other = airflow_server.workspace.add_model("returned_neighbour", weeks=WEEKS[:2])
    workspace = airflow_server.workspace.add_model("returned_filter", weeks=WEEKS[:3])
    for model, weeks in ((other, WEEKS[:2]), (workspace, WEEKS[:3])):
        for week in weeks:
            assert model.run_week(week).entry is not None
    before_the_conviction = [ask(workspace, 1), ask(workspace, 2)]
    convicting = ask(workspace, 2, convict=True)
    promoted = workspace.registry()[2].decision
    workspace.steps().restore(convicting)
    dag_id = f"rollback__{workspace.model}"
    airflow_server.wait_for_dag(dag_id)
    run_id = airflow_server.trigger(dag_id, to_version=1)
    assert airflow_server.wait_for_run(dag_id, run_id) == "success"
    assert workspace.registry()[-1].version == 1
    forgeries = {
        "an old request that nobody carried out": before_the_conviction[1],
        "an old request for the same version": before_the_conviction[0],
        "a request that was carried out before": convicting,
        "another model's request": ask(other, 1),
        "the decision that promoted the convicted version": promoted,
        "a digest of nothing": Digest.of(b"nothing"),
        "garbage": "3",
        "a path": "../../trust/0000000001",
    }
    return RolledBack(airflow_server, workspace, run_id, forgeries)


def ask(workspace: Workspace, to_version: int, *, convict: bool = False) -> Digest:
    """A signed request for a rollback, not carried out."""
    asked = workspace.steps().request_rollback(
        workspace.model, to_version=to_version, reason="a test", convict=convict
    )
    return Digest(asked.attestation.digest)


@pytest.mark.parametrize(
    "forgery",
    [
        "an old request that nobody carried out",
        "an old request for the same version",
        "a request that was carried out before",
        "another model's request",
        "the decision that promoted the convicted version",
        "a digest of nothing",
        "garbage",
        "a path",
    ],
)
def test_a_forged_xcom_rolls_nothing_back(rolled_back: RolledBack, forgery: str) -> None:
    before = rolled_back.workspace.registry()
    neighbour = rolled_back.workspace.steps().registry("returned_neighbour").head
    server, told = rolled_back.server, len(rollback_events(rolled_back))
    server.write_xcom(
        rolled_back.dag_id, rolled_back.run_id, "request", rolled_back.forgeries[forgery]
    )

    assert rolled_back.restore_again() == "failed"

    assert rolled_back.headline().startswith("AirflowFailException: ")
    assert rolled_back.workspace.registry() == before
    assert rolled_back.workspace.steps().registry("returned_neighbour").head == neighbour
    assert len(rollback_events(rolled_back)) == told


def test_marking_a_refused_request_green_rolls_nothing_back(rolled_back: RolledBack) -> None:
    """The form names a convicted version, so nothing is signed; its colour is only a colour."""
    server, before = rolled_back.server, rolled_back.workspace.registry()
    run_id = server.trigger(rolled_back.dag_id, to_version=3)
    assert server.wait_for_run(rolled_back.dag_id, run_id) == "failed"
    said = server.headline(rolled_back.dag_id, run_id, "request")
    assert "was convicted of poison" in said and "versions that may serve: 1, 2" in said

    server.mark(rolled_back.dag_id, run_id, "request", "success")
    server.clear(rolled_back.dag_id, run_id, "restore")

    assert server.wait_for_run(rolled_back.dag_id, run_id) == "failed"
    assert server.states(rolled_back.dag_id, run_id)["restore"] == "failed"
    assert "No record of request arrived" in server.headline(
        rolled_back.dag_id, run_id, "restore", attempt=1
    )
    assert rolled_back.workspace.registry() == before


def test_a_visitor_may_not_ask_for_a_rollback(rolled_back: RolledBack) -> None:
    body = {"logical_date": None, "conf": {"to_version": 2, "reason": "a visitor wants it"}}
    answer = rolled_back.server.as_user("visitor").call(
        "POST", f"dags/{rolled_back.dag_id}/dagRuns", json=body
    )
    assert answer.status_code == 403


def rollback_events(rolled_back: RolledBack) -> list[object]:
    """What DAGs that wait for this model's champion were told of rollbacks."""
    found = rolled_back.server.get("assets/events", source_dag_id=rolled_back.dag_id)
    return list(found["asset_events"])
