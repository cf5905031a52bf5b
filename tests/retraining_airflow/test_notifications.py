"""Who hears of a red task, and what a pipeline file can make Airflow import."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retraining.errors import SpecError
from retraining.spec import NotificationPolicy, NotifierSpec

pytestmark = pytest.mark.airflow

HERE = "tests.retraining_airflow.notifiers"


def notifier(name: str = f"{HERE}.FileNotifier", **arguments: Any) -> NotifierSpec:
    return NotifierSpec(notifier=name, arguments=arguments)


def context(exception: BaseException) -> dict[str, Any]:
    ti = SimpleNamespace(task_id="gate", log=logging.getLogger("task"))
    return {"exception": exception, "ti": ti}


def test_a_refused_gate_and_a_broken_task_are_told_to_different_people(tmp_path: Path) -> None:
    from retraining_airflow.notifications import GateRefused, OnFailure

    on_call, engineers = tmp_path / "on-call", tmp_path / "engineers"
    tell = OnFailure(
        NotificationPolicy(
            on_refused_gate=(notifier(path=str(on_call)),),
            on_failed_task=(notifier(path=str(engineers)),),
        )
    )

    tell(context(GateRefused("HOLD: too few rows")))
    tell(context(RuntimeError("the disk is full")))

    assert on_call.read_text() == "gate: HOLD: too few rows\n"
    assert engineers.read_text() == "gate: the disk is full\n"


def test_one_notifier_that_fails_keeps_back_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from retraining_airflow.notifications import OnFailure

    wrong = notifier(f"{HERE}.Missing")
    tell = OnFailure(NotificationPolicy(on_failed_task=(wrong, notifier(path=f"{tmp_path}/told"))))

    tell(context(RuntimeError("the disk is full")))

    assert (tmp_path / "told").exists()
    assert f"Nobody was notified: notifications: {HERE}.Missing cannot be imported" in caplog.text


def test_only_notifiers_are_built(tmp_path: Path) -> None:
    from retraining_airflow.notifications import open_notifier

    with pytest.raises(SpecError, match="NotANotifier is not an Airflow notifier; allowed are"):
        open_notifier(notifier(f"{HERE}.NotANotifier", path=str(tmp_path / "file")))

    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (notifier("nowhere.at.all.Notifier"), "cannot be imported .No module named 'nowhere'"),
        (notifier(f"{HERE}.Missing"), "cannot be imported .*no attribute 'Missing'"),
        (notifier("os.system"), "os.system is not an Airflow notifier"),
        (notifier(to="ops"), "does not take the arguments to .TypeError"),
    ],
)
def test_a_wrong_notifier_is_named_with_what_to_do(spec: NotifierSpec, reason: str) -> None:
    from retraining_airflow.notifications import check_notifiers

    with pytest.raises(SpecError, match=reason):
        check_notifiers(NotificationPolicy(on_refused_gate=(spec,)))


def test_notifiers_are_not_imported_while_a_dag_file_is_parsed() -> None:
    from retraining_airflow.notifications import OnFailure

    sys.modules.pop(HERE, None)

    OnFailure(NotificationPolicy(on_failed_task=(notifier(path="x"),)))

    assert HERE not in sys.modules
