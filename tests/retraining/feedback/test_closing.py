"""What a week of feedback comes to: honest users move labels, rings do not."""

import random
from typing import Any

import pandas as pd
import pytest

from retraining.errors import ConfigError
from retraining.feedback import ClosedBatch, Window, weeks_between
from retraining.feedback.result import hashed
from tests.retraining.feedback.users import NOON, WEEK, Production, feedback_spec

UNSURE = 0.5  # the champion says spam with 75%
SURE = 0.95


@pytest.fixture
def audited() -> Production:
    """Ten audited items, and the means to earn a record on them."""
    production = Production()
    production.ask("audited", 10, truth="ham", score=-UNSURE, audited=True)
    return production


def earn_record(production: Production, *users: str, says: Any = None, n: int = 5) -> None:
    for user in users:
        production.vote(user, sorted(production.audited)[:n], says)


def labels(batch: ClosedBatch) -> dict[str, str]:
    return dict(zip(batch.rows["row_id"], batch.rows["label"], strict=True))


def accounted(batch: ClosedBatch) -> int:
    aside, waiting = sum(batch.set_aside.values()), sum(batch.waiting.values())
    assert len(batch.lines) == aside
    return batch.counted_before + aside + waiting + batch.n_audited + batch.n_votes


def test_honest_users_move_labels(audited: Production) -> None:
    wrong = audited.ask("wrong", 5, truth="ham", score=UNSURE)
    right = audited.ask("right", 5, truth="spam", score=UNSURE)
    for user in ("ann", "bob", "cid"):
        earn_record(audited, user)
        audited.vote(user, wrong + right)

    batch = audited.close()

    assert labels(batch) == dict.fromkeys(wrong, "ham") | dict.fromkeys(right, "spam")
    assert batch.changes == {"ham": 5}
    assert (batch.n_votes, batch.n_audited, batch.users) == (30, 15, {"trusted": 3})
    assert list(batch.rows.columns) == ["row_id", "asked_at", "score", "label"]
    assert batch.rows["row_id"].is_monotonic_increasing


def test_a_ring_of_fifty_fresh_accounts_moves_nothing(audited: Production) -> None:
    wanted = audited.ask("wanted", 30, truth="spam", score=UNSURE)
    for number in range(50):
        audited.vote(f"ring{number}", wanted, "ham", account_age_days=2.0)

    batch = audited.close()

    assert len(batch.rows) == 0
    assert batch.set_aside == {"account_too_young": 1500}


@pytest.mark.parametrize("verified", ["true", "false", None])
def test_fifty_old_accounts_without_a_record_move_nothing_either(
    audited: Production, verified: str | None
) -> None:
    wanted = audited.ask("wanted", 30, truth="spam", score=UNSURE)
    for number in range(50):
        audited.vote(f"ring{number}", wanted, "ham", verified=verified, account_age_days=None)

    batch = audited.close()

    assert len(batch.rows) == 0
    assert batch.waiting == {"too_little_support": 1500}


def test_newcomers_cannot_stop_those_with_a_record(audited: Production) -> None:
    wrong = audited.ask("wrong", 3, truth="ham", score=UNSURE)
    for user in ("ann", "bob"):
        earn_record(audited, user)
        audited.vote(user, wrong)
    for number in range(50):
        audited.vote(f"ring{number}", wrong, "spam")

    assert labels(audited.close()) == dict.fromkeys(wrong, "ham")


def test_newcomers_add_to_a_vote_with_a_record_and_no_more_than_it_weighs(
    audited: Production,
) -> None:
    helped, lonely = audited.ask("item", 2, truth="ham", score=UNSURE)
    earn_record(audited, "ann")
    audited.vote("ann", [helped, lonely])
    for number in range(4):
        audited.vote(f"new{number}", [helped])
    for number in range(3):
        audited.vote(f"new{number}", [lonely])

    assert labels(audited.close()) == {helped: "ham"}  # 1 + 4 x 0.25 reach min_support 2
    for number in range(4, 50):
        audited.vote(f"new{number}", [helped])
    audited.spec = feedback_spec(min_support=2.25)
    assert audited.close().waiting == {"too_little_support": 1 + 50 + 1 + 3}


def test_a_ring_with_an_honest_history_moves_the_cap_at_most(audited: Production) -> None:
    wanted = audited.ask("wanted", 80, truth="spam", score=UNSURE)
    for number in range(50):
        earn_record(audited, f"ring{number}")
        audited.vote(f"ring{number}", wanted, "ham")

    batch = audited.close()

    assert batch.changes == {"ham": 25}
    assert batch.held == {"over_weekly_cap": 55}
    assert batch.waiting == {"held_for_review": 55 * 50}
    assert set(batch.held_items["held"]) == {"over_weekly_cap"}


def test_the_cap_is_per_class_and_takes_the_best_supported_first(audited: Production) -> None:
    audited.spec = feedback_spec(max_changes_per_class=1)
    to_ham = audited.ask("to_ham", 2, truth="ham", score=UNSURE)
    to_spam = audited.ask("to_spam", 1, truth="spam", score=-UNSURE)
    for user in ("ann", "bob", "cid"):
        earn_record(audited, user)
    for user in ("ann", "bob"):
        audited.vote(user, [*to_ham, *to_spam])
    audited.vote("cid", to_ham[1:])

    batch = audited.close()

    assert batch.changes == {"ham": 1, "spam": 1}
    assert set(labels(batch)) == {to_ham[1], *to_spam}


def test_a_batch_has_an_end_and_contradictions_come_first(audited: Production) -> None:
    audited.spec = feedback_spec(min_items=2, max_items=3)
    confirmed = audited.ask("confirmed", 5, truth="spam", score=UNSURE)
    wrong = audited.ask("wrong", 2, truth="ham", score=UNSURE)
    earn_record(audited, "ann", "bob", "cid")
    for user in ("ann", "bob"):
        audited.vote(user, confirmed + wrong)
    audited.vote("cid", confirmed[3:4])

    batch = audited.close()

    assert set(labels(batch)) == {*wrong, confirmed[3]}
    assert batch.held == {"over_batch_limit": 4}


def test_what_contradicts_a_sure_champion_is_held_and_what_agrees_is_not(
    audited: Production,
) -> None:
    against = audited.ask("against", 2, truth="ham", score=SURE)
    along = audited.ask("along", 2, truth="spam", score=SURE)
    for user in ("ann", "bob"):
        earn_record(audited, user)
        audited.vote(user, against + along)

    batch = audited.close()

    assert labels(batch) == dict.fromkeys(along, "spam")
    assert batch.held == {"contradicts_confident_champion": 2}
    held = batch.held_items.iloc[0]
    assert (held["label"], held["predicted"], held["support"]) == ("ham", "spam", 2.0)
    assert held["probability"] == pytest.approx(0.975)


def test_a_user_who_disagrees_with_the_truth_counts_for_nothing(audited: Production) -> None:
    items = audited.ask("item", 4, truth="ham", score=UNSURE)
    for user in ("liar1", "liar2", "liar3"):
        earn_record(audited, user, says=audited.lie)
        audited.vote(user, items, audited.lie)

    batch = audited.close()

    assert batch.set_aside == {"low_agreement": 12}
    assert batch.users == {"low_agreement": 3}


@pytest.mark.parametrize(("n_right", "trusted"), [(7, True), (6, False)])
def test_a_record_is_the_share_of_votes_that_agree(
    audited: Production, n_right: int, trusted: bool
) -> None:
    items = audited.ask("item", 1, truth="ham", score=UNSURE)
    names = sorted(audited.audited)
    for user in ("ann", "bob"):
        audited.vote(user, names[:n_right])
        audited.vote(user, names[n_right:], audited.lie)
        audited.vote(user, items)

    assert (len(audited.close().rows) == 1) is trusted


def test_two_votes_on_audited_items_are_no_record(audited: Production) -> None:
    items = audited.ask("item", 1, truth="ham", score=UNSURE)
    for user in ("ann", "bob"):
        earn_record(audited, user, n=2)
        audited.vote(user, items)

    batch = audited.close()

    assert batch.users == {"newcomer": 2}
    assert len(batch.rows) == 0


def test_an_unverified_account_weighs_half(audited: Production) -> None:
    (item,) = audited.ask("item", 1, truth="ham", score=UNSURE)
    for user in ("ann", "bob", "cid"):
        earn_record(audited, user)
    audited.vote("ann", [item])
    audited.vote("bob", [item], verified="false")

    assert len(audited.close().rows) == 0
    audited.vote("cid", [item], verified="false")
    assert labels(audited.close()) == {item: "ham"}


def test_an_audited_item_needs_no_vote(audited: Production) -> None:
    earn_record(audited, "ann", "bob", "cid")

    batch = audited.close()

    assert len(batch.rows) == 0
    assert batch.n_audited == 15


def test_a_split_vote_waits(audited: Production) -> None:
    (item,) = audited.ask("item", 1, truth="ham", score=UNSURE)
    for user in ("ann", "bob", "cid", "dan"):
        earn_record(audited, user)
    audited.vote("ann", [item], "spam")
    audited.vote("bob", [item], "spam")
    for user in ("cid", "dan"):
        audited.vote(user, [item], "ham")

    assert audited.close().waiting == {"no_majority": 4}


def test_one_vote_per_user_and_item_the_latest(audited: Production) -> None:
    (item,) = audited.ask("item", 1, truth="ham", score=UNSURE)
    earn_record(audited, "ann", "bob")
    later = NOON + pd.Timedelta(minutes=1)
    audited.vote("ann", [item], "ham", at=later)
    for _ in range(100):
        audited.vote("ann", [item], "spam")
    audited.vote("bob", [item], "ham")
    audited.vote("bob", [item], "ham")  # the same line once more

    batch = audited.close()

    assert labels(batch) == {item: "ham"}
    assert batch.set_aside == {"superseded": 100, "duplicate_line": 1}
    assert batch.n_votes == 2


def test_of_a_user_with_very_many_votes_the_first_ones_count(audited: Production) -> None:
    items = audited.ask("item", 300, truth="spam", score=UNSURE)
    audited.spec = feedback_spec(max_votes_per_user=200)
    for user in ("ann", "bob"):
        earn_record(audited, user)
        for number, item in enumerate(items):
            audited.vote(user, [item], at=NOON + pd.Timedelta(seconds=number + 1))

    batch = audited.close()

    assert batch.set_aside == {"over_votes_per_user": 2 * 105}
    assert set(batch.rows["row_id"]) == set(items[:195])  # 5 of the 200 were on audited items


@pytest.mark.parametrize(
    ("at", "fate"),
    [
        ("2026-01-11T23:59:59Z", "ancient"),  # four weeks before 2026-W07 starts 2026-W03
        ("2026-01-12T00:00:00Z", ""),
        ("2026-02-15T23:59:59Z", ""),
        ("2026-02-16T00:00:00Z", "next_week"),
        ("2026-02-22T23:59:59Z", "next_week"),
        ("2026-02-23T00:00:00Z", "future"),
        ("2199-12-31T00:00:00Z", "future"),
    ],
)
def test_a_line_belongs_to_the_window_or_waits_or_is_set_aside(
    audited: Production, at: str, fate: str
) -> None:
    (item,) = audited.ask("item", 1, truth="ham", score=UNSURE)
    earn_record(audited, "ann", "bob")
    for user in ("ann", "bob"):
        audited.vote(user, [item], at=pd.Timestamp(at))

    batch = audited.close()

    assert len(batch.rows) == (not fate)
    assert batch.set_aside | batch.waiting == ({fate: 2} if fate else {})


def test_a_late_time_is_held_against_the_week_of_its_own_file(audited: Production) -> None:
    (item,) = audited.ask("item", 1, truth="ham", score=UNSURE)
    audited.vote("ann", [item], at=NOON, week="2026-W05")  # two weeks before its time

    assert audited.close().set_aside == {"future": 1}


def test_an_item_that_nobody_was_asked_about_is_unknown(audited: Production) -> None:
    audited.vote("ann", ["never"], "ham")

    assert audited.close().set_aside == {"unknown_item": 1}


def test_what_an_earlier_batch_counted_is_not_counted_again(audited: Production) -> None:
    first, second = audited.ask("item", 2, truth="ham", score=UNSURE)
    for user in ("ann", "bob"):
        earn_record(audited, user)
        audited.vote(user, [first])
    before = audited.close()
    assert sorted(before.counted["user"]) == sorted(map(hashed, ("ann", "bob")))
    assert {len(user) for user in before.counted["user"]} == {32}  # no name stands there

    earn_record(audited, "cid")
    audited.vote("cid", [first])  # too late for this item
    audited.vote("ann", [first], "spam", at=NOON + pd.Timedelta(hours=1))  # a change of mind, too
    for user in ("ann", "bob"):
        audited.vote(user, [second])
    batch = audited.close(counted=before.counted, week="2026-W08")

    assert labels(batch) == {second: "ham"}
    assert batch.counted_before == 3
    assert batch.set_aside == {"item_closed": 1}


def test_waiting_lines_count_when_their_support_comes(audited: Production) -> None:
    (item,) = audited.ask("item", 1, truth="ham", score=UNSURE)
    earn_record(audited, "ann", "bob")
    audited.vote("ann", [item])
    before = audited.close()
    assert before.waiting == {"too_little_support": 1}

    audited.vote("bob", [item], week="2026-W08", at=NOON + pd.Timedelta(weeks=1))

    assert labels(audited.close(counted=before.counted, week="2026-W08")) == {item: "ham"}


def test_every_line_has_one_fate_and_the_order_of_users_does_not_matter(
    audited: Production,
) -> None:
    rng = random.Random(7)
    items = audited.ask("sure", 40, truth="ham", score=SURE)
    items += audited.ask("item", 60, truth="ham", score=UNSURE)
    for number in range(40):
        user = f"user{number}"
        earn_record(audited, user, says=audited.lie if number % 5 == 0 else None, n=number % 6)
        chosen = [*rng.sample(items, 30), "never"]
        at = NOON + pd.Timedelta(days=rng.randint(-60, 20))
        audited.vote(user, chosen, rng.choice(("ham", "spam")), at=at)
        age = rng.choice([1.0, None, 100.0])
        audited.vote(user, chosen[:9], "ham", account_age_days=age, verified=None)
    audited.faults = [("2026-W07/part", 9999, "bad_json"), ("2026-W07/part", 9998, "unknown_class")]

    batch = audited.close()

    assert accounted(batch) == batch.n_lines == len(audited.lines) + 2
    assert batch.set_aside["bad_json"] == batch.set_aside["unknown_class"] == 1
    assert len(batch.rows) > 0
    assert len(batch.set_aside) > 5
    shuffled = sorted(audited.lines, key=lambda line: hashed(line["user"]))
    again = audited.close(lines=shuffled)
    pd.testing.assert_frame_equal(again.rows, batch.rows)
    assert (again.set_aside, again.waiting, again.held) == (
        batch.set_aside,
        batch.waiting,
        batch.held,
    )


def test_the_same_lines_give_the_same_bytes(audited: Production) -> None:
    items = audited.ask("item", 30, truth="ham", score=UNSURE)
    for user in ("ann", "bob", "cid"):
        earn_record(audited, user)
        audited.vote(user, items)

    first, second = audited.close(), audited.close()

    assert first.files(audited.spec) == second.files(audited.spec)
    assert set(first.files(audited.spec)) == {"lines", "held_items", "counted", "rows"}


def test_labels_may_be_categories_in_any_order(audited: Production) -> None:
    items = audited.ask("item", 3, truth="spam", score=UNSURE)
    for user in ("ann", "bob"):
        earn_record(audited, user)
        audited.vote(user, items)
    audited.label_type = pd.CategoricalDtype(["spam", "ham"])

    assert labels(audited.close()) == dict.fromkeys(items, "spam")


def test_no_lines_are_no_batch() -> None:
    batch = Production().close()

    assert (batch.n_lines, len(batch.rows), batch.set_aside, batch.waiting) == (0, 0, {}, {})


def test_weights_that_do_not_add_up_exactly_still_reach_their_limit(audited: Production) -> None:
    audited.spec = feedback_spec(newcomer_weight=0.1, min_support=1.8)
    (item,) = audited.ask("item", 1, truth="ham", score=UNSURE)
    earn_record(audited, "ann")
    for user in ("ann", *(f"new{number}" for number in range(8))):
        audited.vote(user, [item])
    assert 1 + sum([0.1] * 8) < 1.8

    assert labels(audited.close()) == {item: "ham"}


def test_a_window_spans_new_year() -> None:
    window = Window.of("2026-W02", wait_weeks=2)

    assert window.weeks == ("2025-W52", "2026-W01", "2026-W02")
    assert (window.days[0], window.days[-1], len(window.days)) == ("2025-12-22", "2026-01-11", 21)
    assert window.end == pd.Timestamp("2026-01-12T00:00:00Z")
    assert weeks_between("2025-W52", "2026-W02") == 2


@pytest.mark.parametrize(
    "week", ["2026-W54", "2026-W00", "2025-W53", "week 7", "2026-07", "2026W07"]
)
def test_a_week_that_does_not_exist_is_refused(week: str) -> None:
    with pytest.raises(ConfigError, match="expected one such as"):
        Window.of(week, wait_weeks=1)


def test_the_policy_is_about_this_week() -> None:
    assert Window.of(WEEK, wait_weeks=4).weeks[0] == "2026-W03"
