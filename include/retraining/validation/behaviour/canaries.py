"""Canaries: does the challenger obey what is known as poison?

Known is what reviewers confirmed, and what an earlier challenger of the same run was refused for:
to take rows out and draw new noise must be no second try at the same lie. Each known pattern is
pasted into trusted rows of other classes. How many more the challenger turns than the champion is
compared with control pastes: as many other columns, with values of trusted rows or the ends of
their range. What private noise lets a harmless paste turn is in that null; beyond its largest value
the tail is continued as an exponential (Pickands 1975, shape 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retraining.records import BehaviourResult, Pattern
from retraining.screening.evidence import Tail
from retraining.screening.rows import SEED, Matrix, Reals, Rows
from retraining.screening.surrogate import Surrogate
from retraining.validation.behaviour.counting import Count
from retraining.validation.behaviour.look import Look
from retraining.validation.behaviour.nulls import corrected, quantiles_of
from retraining.validation.behaviour.tracing import named, nothing_measured
from retraining.validation.behaviour.transplants import LEAST_TURNED, turned_by
from retraining.validation.behaviour.window import ONE_CLASS, root_of

MEASURE = "share of trusted rows that obey a confirmed pattern, above the champion's"
_CONTROLS, _HOSTS = 400, 40
_MAX_ROWS = 500  # confirmed rows that are asked
_MIN_TRUSTED = 50


@dataclass(frozen=True)
class _Obeyed:
    """How one canary was obeyed.

    Attributes:
        share: More trusted rows that turn for the challenger than for the other model.
        p_value: Of one canary alone.
        controls: The same share for other values [controls].
        pattern: None for confirmed rows, which are asked all together.
        sentence: What was seen.
    """

    share: float
    p_value: float
    controls: Reals
    pattern: Pattern | None
    sentence: str


def canaries(look: Look) -> BehaviourResult:
    """Paste what reviewers confirmed, and see whether it turns more rows than it did before."""
    confirmed = [pattern for pattern in look.case.confirmed if _columns(look, pattern) is not None]
    rows = look.case.confirmed_rows
    if not confirmed and (rows is None or rows.empty):
        return nothing_measured("canaries", MEASURE, "no reviewer has confirmed any poison yet.")
    if min(len(look.judging), len(look.tuning)) < _MIN_TRUSTED:
        return nothing_measured(
            "canaries",
            MEASURE,
            f"halves of the holdout with {len(look.tuning)} and {len(look.judging)} rows, expected"
            f" at least {_MIN_TRUSTED} in each. Pin a larger holdout.",
        )
    than = "the champion"
    other: Surrogate | None = look.champion
    if other is None:
        than, other = "a model of the reference set alone", root_of(look)
    if other is None:
        return nothing_measured("canaries", MEASURE, ONE_CLASS)
    obeyed = [_pattern(look, other, pattern, than) for pattern in confirmed]
    if rows is not None and not rows.empty:
        obeyed.append(_rows(look, other, look.reader.read(rows), than))
    worst = min(obeyed, key=lambda canary: (canary.p_value, -canary.share))
    return BehaviourResult(
        name="canaries",
        measure=MEASURE,
        statistic=round(worst.share, 6),
        p_value=corrected(worst.p_value, len(obeyed)),
        null="other values pasted into trusted rows",
        n_null=len(worst.controls),
        null_quantiles=quantiles_of(worst.controls),
        sentence=f"{worst.sentence} {len(obeyed)} canaries were asked.",
        pattern=worst.pattern,
        to_class=worst.pattern.label if worst.pattern else "",
    )


def _columns(look: Look, pattern: Pattern) -> list[int] | None:
    """Numbers of its columns; None where the pipeline file has one of them no more."""
    names = {name: number for number, name in enumerate(look.columns.names)}
    if any(name not in names for name in pattern.columns):
        return None
    known = pattern.label in look.case.spec.label.classes
    return [names[name] for name in pattern.columns] if known else None


def _pattern(look: Look, other: Surrogate, pattern: Pattern, than: str) -> _Obeyed:
    """A confirmed pattern, pasted into the judging half."""
    columns = np.array(_columns(look, pattern), dtype=np.int64)
    values = (np.array(pattern.values) - look.reader.zeros[columns]) / look.reader.units[columns]
    label = look.case.spec.label.classes.index(pattern.label)
    random = np.random.RandomState(SEED)
    hosts = look.judging.features[look.judging.labels != label]
    pasted = hosts.copy()
    pasted[:, columns] = values
    share = float(_more(look, other, pasted, label).mean()) if len(hosts) else 0.0
    few = hosts[random.permutation(len(hosts))[:_HOSTS]]
    rows = _controls(few, look.tuning, len(columns), random)
    controls = np.zeros(_CONTROLS)
    if len(few):
        controls = np.round(_more(look, other, rows, label).reshape(_CONTROLS, -1).mean(axis=1), 6)
    return _Obeyed(
        share=share,
        p_value=float(Tail(controls).p_values(np.array([share]))[0]),
        controls=controls,
        pattern=pattern,
        sentence=f"The known pattern of {named(pattern)} turns {share:+.0%} trusted rows into"
        f" {pattern.label}, compared with {than}.",
    )


def _rows(look: Look, other: Surrogate, confirmed: Rows, than: str) -> _Obeyed:
    """Confirmed rows as donors, in one queue with trusted rows that nobody learned from."""
    n = min(len(confirmed), _MAX_ROWS)
    donors = Rows.joined([confirmed.take(slice(0, n)), look.tuning])
    turned = turned_by(look, other, donors, look.judging)
    counted = turned.share >= LEAST_TURNED[0]
    mine = np.arange(len(donors)) < n
    count = Count.of(counted, mine, ~mine, turned.strata)
    return _Obeyed(
        share=float(turned.share[:n].max()),
        p_value=count.p_value,
        controls=turned.share[n:],
        pattern=None,
        sentence=f"The values of {count.found} of {n} confirmed rows turn trusted rows for the"
        f" challenger and not for {than}; of {len(look.tuning)} rows that nobody learned from,"
        f" {int(counted[n:].sum())} do.",
    )


def _controls(hosts: Matrix, trusted: Rows, width: int, random: np.random.RandomState) -> Matrix:
    """Hosts with other values, one control after the other [controls x hosts, d]."""
    rows = np.repeat(hosts[None], _CONTROLS, axis=0)
    varying = np.flatnonzero(np.ptp(trusted.features, axis=0) > 0)
    ends = np.stack([trusted.features.min(axis=0), trusted.features.max(axis=0)])
    for number in range(_CONTROLS):
        columns = random.permutation(varying)[:width]
        if number % 2:
            values = trusted.features[random.randint(len(trusted)), columns]
        else:
            values = ends[random.randint(2, size=len(columns)), columns]
        rows[number][:, columns] = values
    return rows.reshape(-1, hosts.shape[1])


def _more(look: Look, other: Surrogate, rows: Matrix, label: int) -> Reals:
    """1 where only the challenger gives the label, -1 where only the other model does [m]."""
    turned: Sequence[Reals] = [
        (model.log_probabilities(rows).argmax(axis=1) == label).astype(np.float64)
        for model in (look.challenger, other)
    ]
    result: Reals = turned[0] - turned[1]
    return result
