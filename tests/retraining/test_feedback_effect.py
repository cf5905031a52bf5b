"""Promises of measuring the feedback: harm is seen and left out, and the week goes on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from retraining.features import fit_preprocessing
from retraining.records import BatchId, FeedbackEffect
from retraining.screening import engine, feedback_effect
from retraining.screening.evidence import Evidence
from retraining.screening.feedback_effect import (
    FeedbackJudgement,
    judge_feedback,
    paired_effect,
)
from retraining.spec import FeedbackPolicy, PipelineSpec
from tests.fixtures.workspace import Workspace, make_rows, make_workspace
from tests.retraining.screening_case import (
    WEEK,
    batch,
    biopsies,
    biopsy_spec,
    flipped,
    on_disk,
    screened,
)

_ROOT = Path(__file__).parents[2]
_OTHERS = BatchId(source="clinic", week=WEEK)
_USERS = BatchId(source="agency", week=WEEK)


def _spec(*, max_loss: float = 0.02, **screening: float) -> PipelineSpec:
    """The biopsies' pipeline, with `agency` as the source that feedback is handed to."""
    policy = FeedbackPolicy(uri="feedback/{week}", source="agency", max_loss=max_loss)
    return biopsy_spec(screening=screening).model_copy(update={"feedback": policy})


def _judge(
    feedback: pd.DataFrame | None,
    *,
    others: pd.DataFrame | None = None,
    history: pd.DataFrame | None = None,
    reference: pd.DataFrame | None = None,
    spec: PipelineSpec | None = None,
) -> FeedbackJudgement | None:
    """Judge rows that passed screening, beside 200 honest ones of another source."""
    spec = spec or _spec()
    vetted = biopsies(150)
    accepted = {_OTHERS: biopsies(200, skip=150) if others is None else others}
    if feedback is not None:
        accepted[_USERS] = feedback
    return judge_feedback(
        {batch: on_disk(rows) for batch, rows in accepted.items()},
        reference=vetted if reference is None else reference,
        history=() if history is None else (on_disk(history),),
        spec=spec,
        encode=fit_preprocessing(spec, vetted).encode,
    )


def _effect(feedback: pd.DataFrame, **options: object) -> FeedbackEffect:
    judgement = _judge(feedback, **options)  # type: ignore[arg-type]
    assert judgement is not None and judgement.effect is not None
    assert judgement.effect.left_out == (judgement.refusal is not None)
    return judgement.effect


# --- what is measured -----------------------------------------------------------------------


def test_honest_feedback_is_kept_and_its_effect_is_small() -> None:
    effect = _effect(biopsies(100, skip=350))

    assert not effect.left_out
    assert (effect.n_feedback, effect.n_reference) == (100, 150)
    assert abs(effect.difference.value) < 0.02
    assert effect.difference.low <= effect.difference.value <= effect.difference.high


@pytest.mark.parametrize("n_rows", [60, 200])
def test_feedback_that_lies_is_left_out_and_the_refusal_says_what_it_costs(n_rows: int) -> None:
    judgement = _judge(flipped(biopsies(n_rows, skip=350)))

    assert judgement is not None and judgement.effect is not None
    assert judgement.effect.left_out
    assert judgement.effect.difference.high < 0
    assert judgement.refusal is not None and judgement.refusal.code == "feedback_harms"
    sentence = judgement.refusal.sentence
    assert sentence.startswith(f"With the {n_rows} rows of feedback a plain model answers ")
    assert "of 150 reference rows rightly, without them 97.3%; expected a loss of at most 2.0%"


def test_a_pipeline_may_allow_a_larger_loss() -> None:
    lies = flipped(biopsies(60, skip=350), 0.5)

    assert _effect(lies, spec=_spec(max_loss=0.02)).left_out
    assert not _effect(lies, spec=_spec(max_loss=0.2)).left_out


def test_a_loss_that_may_be_luck_is_no_reason_to_leave_feedback_out() -> None:
    effect = _effect(flipped(biopsies(200, skip=350), 0.2), spec=_spec(max_loss=0.0))

    assert effect.difference.value < 0 <= effect.difference.high
    assert not effect.left_out


def test_the_longer_the_honest_history_the_less_the_same_lies_change() -> None:
    lies = flipped(biopsies(60, skip=500))
    few, more = biopsies(50, skip=150), biopsies(300, skip=200)

    alone = _effect(lies, others=few).difference.value
    together = _effect(lies, others=few, history=more).difference.value

    assert alone < together <= 0.01


def test_a_long_history_is_sampled_and_still_weighs_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else old rows would be cut to a few, which the feedback outvotes."""
    lies, honest = flipped(biopsies(30, skip=500)), biopsies(350, skip=150)
    monkeypatch.setattr(feedback_effect, "MAX_ROWS", 50)

    sampled = _effect(lies, others=honest).difference.value
    cut = _effect(lies, others=honest.head(50)).difference.value

    assert cut < -0.1 < sampled


def test_rows_of_one_class_alone_teach_that_class() -> None:
    """The surrogate without feedback cannot be fitted, and answers that class."""
    benign = biopsies(200, skip=150).query("label == 'benign'")
    reference = biopsies(150)

    effect = _effect(biopsies(60, skip=350), others=benign)

    share = (reference["label"] == "benign").mean()
    assert effect.without_feedback.value == pytest.approx(share, abs=1e-6)
    assert effect.difference.low > 0.1


def test_the_interval_is_that_of_the_bootstrap_over_rows() -> None:
    """Drawing how often each kind of row appears is the same as drawing rows."""
    random = np.random.RandomState(3)
    one, other = random.random_sample((2, 240)) < [[0.85], [0.8]]

    effect = paired_effect(
        one, other, n_feedback=9, confidence=0.9, n_resamples=20_000, random=random
    )

    rows = random.randint(0, 240, size=(20_000, 240))
    for interval, values in (
        (effect.with_feedback, one.astype(float)),
        (effect.without_feedback, other.astype(float)),
        (effect.difference, one.astype(float) - other),
    ):
        low, high = np.quantile(values[rows].mean(axis=1), [0.05, 0.95])
        assert interval.value == pytest.approx(values.mean(), abs=1e-6)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1.5 / 240)


# --- what cannot be measured ----------------------------------------------------------------


def test_nothing_is_measured_without_feedback_or_without_a_policy() -> None:
    assert _judge(None) is None
    assert _judge(biopsies(0)) is None
    assert _judge(flipped(biopsies(60, skip=350)), spec=biopsy_spec()) is None


@pytest.mark.parametrize(("n_rows", "kept"), [(49, False), (50, True)])
def test_feedback_is_left_out_if_too_few_reference_rows_could_tell(n_rows: int, kept: bool) -> None:
    judgement = _judge(biopsies(60, skip=350), reference=biopsies(n_rows))

    assert judgement is not None
    assert (judgement.refusal is None) == (judgement.effect is not None) == kept
    if judgement.refusal:
        assert judgement.refusal.code == "feedback_not_measured"
        assert "49 rows, expected at least 50" in judgement.refusal.sentence


def test_feedback_alone_makes_no_week() -> None:
    judgement = _judge(biopsies(60, skip=350), others=biopsies(0))

    assert judgement is not None and judgement.refusal is not None
    assert judgement.refusal.code == "feedback_not_measured"
    assert "no other rows" in judgement.refusal.sentence


# --- in screening ---------------------------------------------------------------------------

# Wide enough for subtle lies to pass the judgement of single rows.
_LENIENT = {
    "false_discovery_rate": 1e-9,
    "max_poison_rows_per_source": 100_000,
    "max_quarantined_share_per_source": 1.0,
    "max_quarantined_share": 1.0,
}


def _of(report, source):
    return next(item for item in report.batches if item.batch.source == source)


def test_harmful_feedback_is_taken_out_of_the_week_and_the_week_goes_on() -> None:
    lies = flipped(biopsies(200, skip=350))

    result = screened(
        [batch("clinic", biopsies(40, skip=150)), batch("agency", lies)],
        spec=_spec(max_loss=0.0, **_LENIENT),
    )

    report = result.report
    users = _of(report, "agency")
    assert report.refusal is None
    assert report.feedback is not None and report.feedback.left_out
    assert users.refusal is not None and users.refusal.code == "feedback_harms"
    assert (users.accepted, users.n_accepted) == (None, 0)
    assert users.n_rows == 200 > users.n_quarantined
    assert result.accepted.keys() == {_OTHERS}
    assert report.n_accepted == sum(report.class_counts.values()) == 40


def test_feedback_of_a_held_week_is_judged_with_this_weeks() -> None:
    earlier = biopsies(100, skip=350)
    result = screened(
        [
            batch("clinic", biopsies(40, skip=150)),
            batch("agency", flipped(earlier), week="2026-W06"),
            batch("agency", flipped(biopsies(100, skip=450))),
        ],
        spec=_spec(max_loss=0.0, **_LENIENT),
    )

    report = result.report
    assert report.feedback is not None and report.feedback.left_out
    codes = {str(item.batch): item.refusal and item.refusal.code for item in report.batches}
    assert codes == {
        "agency 2026-W06": "feedback_harms",
        f"agency {WEEK}": "feedback_harms",
        f"clinic {WEEK}": None,
    }


def test_kept_feedback_is_measured_over_exactly_the_rows_that_are_used() -> None:
    report = screened(
        [batch("clinic", biopsies(200, skip=150)), batch("agency", biopsies(60, skip=350))],
        spec=_spec(),
    ).report

    assert report.feedback is not None and not report.feedback.left_out
    assert report.feedback.n_feedback == _of(report, "agency").n_accepted > 50


def test_too_little_left_without_the_feedback_refuses_the_week() -> None:
    report = screened(
        [
            batch("clinic", biopsies(19, skip=150)),
            batch("agency", flipped(biopsies(200, skip=350))),
        ],
        spec=_spec(max_loss=0.0, **_LENIENT),
    ).report

    assert report.feedback is not None and report.feedback.left_out
    assert report.refusal is not None and report.refusal.code == "too_few_rows"


@pytest.mark.slow
def test_the_effect_is_the_same_on_any_number_of_threads() -> None:
    code = "from tests.retraining.test_feedback_effect import show_effect; show_effect()"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=_ROOT,
            env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1
    assert "with_feedback" in found.pop()


def show_effect() -> None:
    """Print what screening measures; for another process."""
    rows = [batch("clinic", biopsies(200, skip=150)), batch("agency", biopsies(100, skip=350))]
    print(screened(rows, spec=_spec()).report.to_json().decode())


# --- from inbox to registry -----------------------------------------------------------------

_WEEKS = ("2026-W05", "2026-W06")


@pytest.fixture
def users(tmp_path: Path) -> Workspace:
    """A workspace with a third source, to which users' feedback is handed over."""
    workspace = make_workspace(tmp_path / "workspace", weeks=_WEEKS)
    source = {
        "name": "users",
        "uri": f"inbox/{workspace.model}/users/{{week}}",
        "trust": "untrusted",
        "key_id": "feed",
    }
    traffic = {name: {"uri": f"traffic/{name}/{{day}}"} for name in ("predictions", "labels")}
    workspace.edit_spec(
        {
            "sources": [*yaml.safe_load(workspace.spec_file.read_text())["sources"], source],
            "traffic": traffic,
            "feedback": {"uri": "feedback/{week}", "source": "users"},
        }
    )
    return workspace


def _hand_over(workspace: Workspace, week: str, n_rows: int, *, lies: bool) -> None:
    rows = make_rows(n_rows, seed=f"users {week}")
    if lies:
        rows["label"] = rows["label"].map({"ham": "spam", "spam": "ham"})
    folder = workspace.folder("users", week)
    folder.mkdir(parents=True)
    rows.to_parquet(folder / "rows.parquet", index=False)
    workspace.sign("users", week, key="feed")


def _check(decided, name: str):
    return next(check for check in decided.gate.report.checks if check.name == name)


@pytest.mark.slow
def test_a_week_without_feedback_and_a_week_with_some_are_promoted(users: Workspace) -> None:
    _hand_over(users, _WEEKS[1], 60, lies=False)

    first, second = (users.run_week(week) for week in _WEEKS)

    assert first.entry is not None and second.entry is not None
    assert _check(first, "feedback").observed == "no feedback batch this week"
    assert _check(first, "sources").observed == "none left out"
    assert _check(second, "feedback").observed.endswith(": kept")
    assert f"users {_WEEKS[1]}" in second.training.report.epsilon_by_block


@pytest.mark.slow
def test_a_week_is_promoted_without_the_feedback_that_would_have_harmed_it(
    users: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Liars who fool the judgement of every single row are seen by what they would change.

    Promotion verifies the whole chain, so it replays the gate on what was measured.
    """
    monkeypatch.setattr(
        Evidence, "p_values", lambda _self, evidence, _scores: np.ones_like(evidence)
    )
    monkeypatch.setattr(engine, "find_patterns", lambda *_args, **_kwargs: [])
    _hand_over(users, _WEEKS[0], 600, lies=True)

    decided = users.run_week(_WEEKS[0])

    assert decided.entry is not None and decided.entry.record.verdict == "PROMOTE"
    effect = decided.screened.screening.report.feedback
    assert effect is not None and effect.left_out and effect.difference.value < -0.3
    assert _check(decided, "feedback").observed.endswith(": left out")
    assert "users 2026-W05 left out (feedback_harms)" in _check(decided, "sources").observed
    assert {block.batch.source for block in decided.training.report.blocks} == {"gateway", "feed"}
    assert decided.training.report.isolation.startswith(("network namespace", "none: "))
