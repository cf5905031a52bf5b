"""How a pipeline file becomes a DAG: structure, colours, and the form."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from retraining.spec import load_spec
from tests.fixtures.workspace import make_workspace

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function from changes to the pipeline file to its DAG, as Airflow stores it."""
    from airflow.serialization.serialized_objects import DagSerialization

    from retraining_airflow.dag_factory import build_weekly
    from retraining_airflow.settings import DagSettings

    workspace = make_workspace(tmp_path_factory.mktemp("factory"))
    pristine = workspace.spec_file.read_text()

    def build(changes: dict[str, Any] | None = None, **settings: Any) -> Any:
        workspace.spec_file.write_text(pristine)
        workspace.edit_spec(changes or {})
        dag = build_weekly(load_spec(workspace.spec_file), DagSettings(**settings))
        return DagSerialization.from_dict(DagSerialization.to_dict(dag))

    return build


def test_the_steps_stand_in_their_order(build: Any) -> None:
    tasks = build().task_dict

    assert set(tasks) == {
        *("pin", "ingest", "provenance", "screen", "train", "validate"),
        *("purge", "train_again", "validate_again"),
        *("gate", "approve", "promote"),
    }
    assert tasks["pin"].upstream_task_ids == set()
    assert tasks["ingest"].upstream_task_ids == {"pin"}
    assert tasks["provenance"].upstream_task_ids == {"pin", "ingest"}
    assert tasks["screen"].upstream_task_ids == {"pin", "provenance"}
    assert tasks["train"].upstream_task_ids == {"pin", "screen"}
    assert tasks["validate"].upstream_task_ids == {"pin", "train"}
    assert tasks["purge"].upstream_task_ids == {"pin", "validate"}
    assert tasks["train_again"].upstream_task_ids == {"pin", "screen", "purge"}
    assert tasks["validate_again"].upstream_task_ids == {"pin", "train_again"}
    assert tasks["gate"].upstream_task_ids == {
        *("pin", "provenance", "screen", "train", "validate"),
        *("purge", "train_again", "validate_again"),
    }
    assert tasks["approve"].upstream_task_ids == {"pin", "gate"}
    assert tasks["promote"].upstream_task_ids == {"gate", "approve"}


def test_there_are_as_many_rounds_as_the_file_allows(build: Any) -> None:
    assert not {"purge", "train_again"} & set(build({"gate": {"purge": "never"}}).task_dict)
    tasks = build({"gate": {"purge_rounds": 2}}).task_dict
    assert tasks["purge_2"].upstream_task_ids == {"pin", "validate_again"}
    assert tasks["train_again_2"].pool == tasks["train"].pool
    assert {"purge", "purge_2", "validate_again_2"} <= tasks["gate"].upstream_task_ids


def test_a_week_in_shards_is_judged_by_mapped_tasks_before_it_is_screened(build: Any) -> None:
    tasks = build({"screening": {"shards": 3}}).task_dict

    assert tasks["screen_shard"].is_mapped
    assert tasks["screen_shard"].expand_input.value == {"shard": [0, 1, 2]}
    assert tasks["screen_shard"].upstream_task_ids == {"pin", "provenance"}
    assert tasks["screen"].upstream_task_ids == {"pin", "provenance", "screen_shard"}


def test_the_gate_judges_refusals_and_nothing_that_broke(build: Any) -> None:
    rules = {name: str(task.trigger_rule) for name, task in build().task_dict.items()}

    assert rules.pop("gate") == "none_failed"
    assert rules.pop("screen") == "none_failed_min_one_success"
    assert (rules.pop("approve"), rules.pop("promote")) == ("one_failed", "one_success")
    assert set(rules.values()) == {"all_success"}


def test_training_is_tried_twice_at_most_and_everything_else_three_times(build: Any) -> None:
    retries = {name: task.retries for name, task in build().task_dict.items()}

    assert retries.pop("train") == retries.pop("train_again") == 1
    assert set(retries.values()) == {2}


def test_training_takes_a_slot_of_its_pool_and_has_an_end(build: Any) -> None:
    train = build({"training": {"limit_seconds": 300}}, training_pool="gpu").task_dict["train"]

    assert train.pool == "gpu"
    assert timedelta(seconds=300) < train.execution_timeout <= timedelta(seconds=1000)


def test_runs_of_one_model_never_overlap_and_no_week_is_made_up_for(build: Any) -> None:
    dag = build({"schedule": "0 3 * * 1"})

    assert (dag.max_active_runs, dag.catchup) == (1, False)


def test_each_page_says_what_the_task_concludes_and_what_to_do(build: Any) -> None:
    dag = build()

    assert "| red gate | HOLD or REJECT: you decide" in dag.doc_md
    assert "mail-security@example.org" in dag.doc_md
    for task in dag.tasks:
        assert any(word in task.doc_md.lower() for word in ("red", "refused")), task.task_id
    assert {task.owner for task in dag.tasks} == {"mail-security@example.org"}
    assert dag.tags == {"secure-retraining", "small_filter"}


# --- the form -------------------------------------------------------------------------------


def accepts(dag: Any, **form: Any) -> bool:
    """Whether Airflow would start a run with that form: it validates exactly so."""
    from airflow.exceptions import ParamValidationError

    try:
        dag.params.deep_merge({"reason": "a test", **form}).validate()
    except ParamValidationError:
        return False
    return True


@pytest.mark.parametrize("week", [None, "", "2026-W07", "2026-W53"])
def test_the_form_takes_a_week_or_none(build: Any, week: str | None) -> None:
    assert accepts(build(), week=week)


@pytest.mark.parametrize("week", ["2026-07", "2026-W54", "last", "2026-W07\n", 7])
def test_the_form_refuses_what_is_no_week(build: Any, week: Any) -> None:
    assert not accepts(build(), week=week)


@pytest.mark.parametrize("sources", [None, [], ["feed"], ["feed@2026-W07", "gateway"]])
def test_the_form_takes_sources_of_this_model(build: Any, sources: Any) -> None:
    assert accepts(build(), leave_out=sources)


@pytest.mark.parametrize("sources", [["nobody"], ["feed@W07"], "feed", ["feed gateway"]])
def test_the_form_refuses_other_sources(build: Any, sources: Any) -> None:
    assert not accepts(build(), leave_out=sources)


@pytest.mark.parametrize("schedule", [None, "0 3 * * 1"])
@pytest.mark.parametrize("reason", ["", "x", 5, True, ["a", "b"]])
def test_the_form_refuses_what_is_no_reason(build: Any, schedule: Any, reason: Any) -> None:
    assert not accepts(build({"schedule": schedule}), reason=reason)


def test_without_a_schedule_a_run_needs_a_reason(build: Any) -> None:
    assert not accepts(build(), reason=None)


def test_the_scheduler_needs_no_reason_but_the_form_marks_it_as_required(build: Any) -> None:
    dag = build({"schedule": "0 3 * * 1"})

    assert accepts(dag, reason=None)
    dag.params.validate()  # what the scheduler starts runs with
    shown = dag.params.get_param("reason").dump()
    # The page's own rule: required unless "null" is among the types, and not yet given.
    assert "null" not in shown["schema"]["type"]
    assert shown["value"] is None


def test_a_champion_is_an_asset_that_other_dags_can_wait_for(build: Any, tmp_path: Path) -> None:
    (asset,) = build().task_dict["promote"].outlets

    assert (asset.name, asset.uri) == (
        "small_filter_champion",
        "x-retraining://small_filter/champion",
    )


def test_training_and_promotion_go_to_queues_of_their_own(build: Any) -> None:
    dag = build(training_queue="training", promotion_queue="promotion")

    queues = {task.task_id: task.queue for task in dag.tasks}
    assert queues["train"] == "training"
    assert {queues[name] for name in ("validate", "gate", "approve", "promote")} == {"promotion"}
    assert {queues[name] for name in ("pin", "ingest", "provenance", "screen")} == {"default"}
