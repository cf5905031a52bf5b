"""Memorisation: did the challenger learn the rows of one user far better than all others?

How much better it likes a row's own label than the champion does is what it learned from the row
(Yeom et al., "Privacy Risk in Machine Learning", CSF 2018, infer membership from it). The rows of
each user, less a margin, are ranked among all other new rows (Mann and Whitney 1947): honest drift
moves the rows of all users, and private training those of no single one.
"""

import numpy as np
from scipy.stats import mannwhitneyu

from retraining.records import BehaviourResult
from retraining.screening.rows import Mask, Reals
from retraining.validation.behaviour.look import Look, of_own_label
from retraining.validation.behaviour.nulls import corrected, quantiles_of
from retraining.validation.behaviour.tracing import named_rows, nothing_measured

MEASURE = "nats that the challenger likes a user's labels better than the champion does (median)"
MARGIN = float(np.log(2))  # what is not even twice as probable was not memorised
_MIN_ROWS, _MIN_OTHERS = 5, 100


def memorisation(look: Look) -> BehaviourResult:
    """Rank what the challenger learned from each user's new rows among what it learned at all."""
    users = look.new.rows.users
    if look.champion is None or not (users >= 0).any():
        return nothing_measured(
            "memorisation",
            MEASURE,
            "there is no champion to compare the challenger with."
            if look.champion is None
            else "no new row names its user.",
        )
    names, counts = np.unique(users[users >= 0], return_counts=True)
    asked = names[(counts >= _MIN_ROWS) & (len(users) - counts >= _MIN_OTHERS)]
    if len(asked) == 0:
        return nothing_measured(
            "memorisation",
            MEASURE,
            f"no user has {_MIN_ROWS} new rows, beside {_MIN_OTHERS} of others.",
        )
    rows = look.new.rows
    learned = of_own_label(look.challenger.log_probabilities(rows.features), rows.labels)
    learned = learned - of_own_label(look.champion.log_probabilities(rows.features), rows.labels)
    p_values = np.array([_p_value(learned, users == user) for user in asked])
    medians = np.array([np.median(learned[users == user]) for user in asked])
    worst = int(np.lexsort((-medians, p_values))[0])
    mine: Mask = np.asarray(users == asked[worst])
    p_value = corrected(float(p_values[worst]), len(asked))
    return BehaviourResult(
        name="memorisation",
        measure=MEASURE,
        statistic=round(float(medians[worst]), 6),
        p_value=p_value,
        null="the same of every other user",
        n_null=len(asked) - 1,
        null_quantiles=_others(medians, worst),
        sentence=f"The challenger likes the labels of one user's {int(mine.sum())} rows"
        f" {np.exp(medians[worst]):.1f} times as much as the champion does (median), those of all"
        f" rows {np.exp(np.median(learned)):.1f} times; {len(asked)} users were looked at.",
        **(named_rows(look.new, mine) if p_value <= look.case.false_alarm_rate else {}),
    )


def _p_value(learned: Reals, mine: Mask) -> float:
    test = mannwhitneyu(
        np.round(learned[mine] - MARGIN, 9), np.round(learned[~mine], 9), alternative="greater"
    )
    return float(test.pvalue)


def _others(medians: Reals, worst: int) -> tuple[float, ...]:
    others = np.delete(medians, worst)
    return quantiles_of(others) if len(others) else ()
