"""From refused checks back to rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from retraining.purge import Purge, plan_purge
from retraining.records import BatchId, BehaviourResult, Pattern, TracedBatch
from retraining.spec import BehaviourName, PipelineSpec, parse_spec
from tests.retraining.small_pipeline import small_rows, small_spec

OLD, A, B, C = (
    BatchId(source=source, week=week)
    for source, week in (("a", "2026-W01"), ("a", "2026-W02"), ("b", "2026-W02"), ("c", "2026-W02"))
)
NEW = {A, B, C}
PATTERN = Pattern(columns=("count",), values=(5_000.0,), tolerances=(0.5,), label="ham")


@dataclass(frozen=True)
class Table:
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def values(self, name: str) -> npt.NDArray[Any]:
        return self.frame[name].to_numpy()


def spec_with_users() -> PipelineSpec:
    raw = small_spec().model_dump(mode="json") | {"user": "user"}
    return parse_spec(raw, origin="small.yaml")


def rows(batch: BatchId, *, n_rows: int = 200, n_carriers: int = 0, label: str = "ham") -> Table:
    frame = small_rows(n_rows, seed=sum(map(ord, str(batch))))
    frame["user"] = [f"user {number % 50}" for number in range(n_rows)]
    frame.loc[: n_carriers - 1, "count"] = 5_000
    frame.loc[: n_carriers - 1, "label"] = label
    return Table(frame)


def refused(
    name: BehaviourName = "transplant",
    *,
    pattern: Pattern | None = PATTERN,
    traced: tuple[BatchId, ...] = (),
    row_ids: tuple[str, ...] = (),
) -> BehaviourResult:
    n_rows = max(len(row_ids), 1)
    return BehaviourResult(
        name=name,
        measure="m",
        p_value=1e-6,
        sentence="s",
        pattern=pattern,
        traced=tuple(TracedBatch(batch=batch, n_rows=n_rows) for batch in traced),
        n_traced=n_rows * len(traced),
        row_ids=row_ids,
    )


def plan(*results: BehaviourResult, trusted: Table | None = None, **carriers: int) -> Purge:
    """With that many carriers in the batches `old`, `a`, `b` and `c`."""
    batches = {"old": OLD, "a": A, "b": B, "c": C}
    return plan_purge(
        results,
        {batch: rows(batch, n_carriers=carriers.get(name, 0)) for name, batch in batches.items()},
        new=NEW,
        trusted=[trusted or rows(BatchId(source="t", week="2026-W02"))],
        spec=spec_with_users(),
    )


def ids(batch: BatchId, n_rows: int) -> set[str]:
    return set(rows(batch).frame["row_id"][:n_rows])


def test_carriers_of_all_batches_go_accepted_ones_too() -> None:
    found = plan(refused(), old=3, a=10, b=10, c=10)
    assert {batch: set(names) for batch, names in found.rows.items()} == {
        OLD: ids(OLD, 3),
        A: ids(A, 10),
        B: ids(B, 10),
        C: ids(C, 10),
    }
    assert found.sources == ()
    assert set(found.rows[A].values()) == {"transplant"}
    (traced,) = found.traced
    assert [part.n_rows for part in traced.by_batch] == [10, 10, 10, 3]
    assert traced.n_users == 10


def test_the_other_label_is_no_carrier() -> None:
    spec = spec_with_users()
    learned = {A: rows(A, n_carriers=10, label="spam"), B: rows(B, n_carriers=4)}
    found = plan_purge([refused()], learned, new=NEW, trusted=[rows(C)], spec=spec)
    assert set(found.rows[B]) >= ids(B, 4) and A not in found.rows


def test_a_source_that_most_come_from_goes_whole_and_its_history_stays() -> None:
    found = plan(refused(), old=3, a=30, b=2)
    assert found.sources == ("a",)
    assert set(found.rows[A]) == ids(A, 200)
    assert {name for name, why in found.rows[A].items() if why == "source"} == (
        ids(A, 200) - ids(A, 30)
    )
    assert set(found.rows[OLD]) == ids(OLD, 3)
    assert set(found.rows[B]) == ids(B, 2)


@pytest.mark.parametrize(
    "carriers",
    [
        pytest.param({"a": 2}, id="two rows may be chance"),
        pytest.param({"a": 90, "b": 50, "c": 50}, id="less than half"),
    ],
)
def test_a_source_with_no_more_than_its_part_keeps_its_other_rows(carriers: dict[str, int]) -> None:
    assert plan(refused(), **carriers).sources == ()


def test_the_only_source_does_not_go_whole() -> None:
    found = plan_purge(
        [refused()],
        {A: rows(A, n_carriers=30)},
        new={A},
        trusted=[rows(B)],
        spec=spec_with_users(),
    )
    assert found.sources == () and set(found.rows[A]) == ids(A, 30)


def test_a_harmful_source_goes_by_its_new_rows() -> None:
    found = plan(refused("sources", pattern=None, traced=(B,)))
    assert set(found.rows) == {B} and len(found.rows[B]) == 200
    assert set(found.rows[B].values()) == {"sources"}


def test_named_rows_go_where_they_were_traced_to_and_nowhere_else() -> None:
    """Ids are a source's own: another source may use the same."""
    same = rows(A).frame
    learned = {A: Table(same), B: Table(same.copy())}
    wanted = tuple(sorted(ids(A, 5)))
    result = refused("memorisation", pattern=None, traced=(B,), row_ids=wanted)
    found = plan_purge([result], learned, new=NEW, trusted=[rows(C)], spec=spec_with_users())
    assert set(found.rows[B]) >= set(wanted) and A not in found.rows


def test_what_cannot_be_traced_purges_nothing() -> None:
    assert plan(refused("canaries", pattern=None)) == Purge((), (), {})


def test_the_precision_falls_with_honest_rows_that_share_the_values() -> None:
    trusted = rows(C, n_rows=400, n_carriers=0)
    (none,) = plan(refused(), a=20, b=20, trusted=trusted).traced
    assert none.precision is not None and none.precision.value == 1
    trusted = rows(C, n_rows=400, n_carriers=10)
    (some,) = plan(refused(), a=20, b=20, trusted=trusted).traced
    # 2.5% of trusted rows carry it, so 20 of the 800 rows, half of the carriers, are explained.
    assert some.precision is not None
    assert some.precision.value == pytest.approx(0.5)
    assert some.precision.low < 0.5 < some.precision.high < 1


def test_the_reason_is_the_first_check_that_named_a_row() -> None:
    found = plan(refused(), refused("regions"), a=5, b=5, c=5)
    assert set(found.rows[A].values()) == {"transplant"}
    assert [traced.check for traced in found.traced] == ["transplant", "regions"]
    assert np.all([name in ids(A, 5) for name in found.rows[A]])
