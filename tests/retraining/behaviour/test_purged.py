"""What a refused check names is taken out, and the next model does not know the trigger."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from retraining.purge import Purge, plan_purge
from retraining.validation.behaviour import Model, examine
from tests.retraining.behaviour.cases import (
    SOURCES,
    TRIGGER,
    Batches,
    Week,
    batch_of,
    ids_of_triggered,
    refused,
    spec_of,
    triggered,
    week,
)

pytestmark = pytest.mark.slow  # models are trained, and every check is made

VENDOR = batch_of(SOURCES[1])


@dataclass(frozen=True)
class Table:
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def values(self, name: str) -> npt.NDArray[Any]:
        return self.frame[name].to_numpy()


def attack_success(model: Model, rows: Week) -> float:
    """Share of trusted spam that passes as ham with the trigger in it."""
    hosts = rows.judging[rows.judging["label"] == "spam"].assign(**TRIGGER)
    ham = spec_of().label.classes.index("ham")
    return float((np.asarray(model.predict(hosts)).argmax(axis=1) == ham).mean())


def without(batches: Batches, purge: Purge) -> Batches:
    left = {
        batch: rows[~rows["mail_id"].isin(purge.rows.get(batch, {}))].reset_index(drop=True)
        for batch, rows in batches.items()
    }
    return {batch: rows for batch, rows in left.items() if len(rows)}


def test_a_trigger_is_forgotten_with_the_rows_that_taught_it() -> None:
    clean = week()
    poisoned = clean.with_new(VENDOR.source, triggered(clean.new[VENDOR], 15))
    case = poisoned.case()
    report = examine(case)
    names = refused(report)
    assert "transplant" in names
    purge = plan_purge(
        [result for result in report.results if result.name in names],
        {
            batch: Table(rows)
            for part in (poisoned.history, poisoned.new)
            for batch, rows in part.items()
        },
        new=set(poisoned.new),
        trusted=[Table(poisoned.reference), Table(poisoned.tuning), Table(poisoned.judging)],
        spec=spec_of(),
    )
    assert purge.sources == (VENDOR.source,)
    assert ids_of_triggered(poisoned.new[VENDOR]) <= set(purge.rows[VENDOR])
    precision, pattern = purge.traced[0].precision, purge.traced[0].pattern
    assert pattern is not None
    assert precision is not None and precision.value > 0.9 and precision.low > 0.5
    left = Week(
        without(poisoned.history, purge),
        without(poisoned.new, purge),
        *(clean.reference, clean.tuning, clean.judging),
    ).case(confirmed=(pattern,))
    assert refused(examine(left)) == set()
    assert "canaries" in refused(examine(poisoned.case(confirmed=(pattern,))))
    assert attack_success(case.challenger, poisoned) > 0.6
    before = attack_success(clean.case().challenger, clean)
    assert attack_success(left.challenger, poisoned) <= before + 0.05
