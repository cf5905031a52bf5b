"""Do values of rows that the challenger learned from turn trusted rows?

The transplant test of screening, on the real challenger, private noise and all: the rows that it
likes best against another model are donors, and the few values that carry it are pasted into
trusted rows of other classes (`pasting`).

The null is made of rows that neither model learned from. They stand in the same queue of donors:
what the noise of either model lets a row turn, it lets a trusted row turn as well, so for a clean
challenger the rows that turn many hosts are spread over both kinds by chance alone (`counting`).
The rows of one source are counted alone as well: a drip hides in the crowd of a window, but not in
its source. A source has to stand out from the trusted rows, and from the other sources.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from retraining.records import BatchId, BehaviourResult
from retraining.screening.rows import SEED, Integers, Mask, Reals, Rows
from retraining.screening.shared_values import SAME_VALUE, SharedValues
from retraining.screening.surrogate import Surrogate
from retraining.screening.transplant import (
    members_of,
    shared_columns,
    telling_columns,
)
from retraining.spec import BehaviourName
from retraining.validation.behaviour.counting import Count, strata_of
from retraining.validation.behaviour.look import Look, Sampled, of_own_label
from retraining.validation.behaviour.nulls import N_CHECKS, corrected
from retraining.validation.behaviour.pasting import Pasting
from retraining.validation.behaviour.tracing import (
    named,
    nothing_measured,
    share_by_source,
    trace,
)
from retraining.validation.behaviour.widening import widened

LEAST_TURNED = (0.35, 0.55, 0.75)  # shares of hosts; a row that turns fewer is not counted
PLANTED = (0.005, 0.01, 0.05)  # shares of the learned rows, for the power
MEASURE = "rows whose values turn trusted rows"
_NULL = "trusted rows that neither model learned from"
MIN_TRUSTED = 100  # rows that neither model learned from, and hosts: below it nothing is measured
_MAX_DONORS = 200
_FIRST = (25, _MAX_DONORS)  # of the queue: few poisoned rows stand at its head


@dataclass(frozen=True)
class Turned:
    """Which rows turn how many hosts.

    Attributes:
        share: Share of hosts turned, challenger minus other model [n]; 0 for rows not asked.
        columns: Which columns of each row were pasted [n, d].
        place: In the queue of donors, by what the challenger learned about them [n].
        strata: Rows of one label that the other model finds about as likely [n].
    """

    share: Reals
    columns: Mask
    place: Integers
    strata: Integers


def turned_by(look: Look, other: Surrogate, donors: Rows, hosts: Rows) -> Turned:
    """Ask the donors that the challenger likes better than the other model does, most first."""
    old = other.log_probabilities(donors.features)
    new = look.challenger.log_probabilities(donors.features)
    likelihood = of_own_label(old, donors.labels)
    gap = of_own_label(new, donors.labels) - likelihood
    order = np.argsort(-gap, kind="stable")
    order = order[gap[order] > 0][:_MAX_DONORS]
    rows = np.column_stack([donors.features[order], donors.labels[order]])
    _, first = np.unique(rows, axis=0, return_index=True)  # a copy is no second donor
    order = order[np.sort(first)]
    share, columns = np.zeros(len(donors)), np.zeros(donors.features.shape, dtype=bool)
    varies = np.ptp(np.concatenate([donors.features, hosts.features]), axis=0) > 0
    members = members_of(look.columns, varies)
    if len(order) and len(members):
        pasting = Pasting(look.challenger, other, hosts, members)
        share[order], columns[order] = pasting.run(donors.take(order), np.random.RandomState(SEED))
    place = np.argsort(np.argsort(-gap, kind="stable"), kind="stable")
    return Turned(np.round(share, 6), columns, place, strata_of(donors.labels, likelihood))


@dataclass(frozen=True)
class Measured:
    """A result, and which share of planted attacks it would have refused, by their name."""

    result: BehaviourResult
    power: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """Some learned rows, held against others of the queue.

    Attributes:
        source: Whose rows; empty for those of all.
        mine: Which rows of the queue are asked [all].
        counted: Which of the queue turn enough hosts [all].
        counts: Against trusted rows; those of one source against those of other sources, too.
    """

    source: str
    mine: Mask
    counted: Mask
    counts: tuple[Count, ...]

    @property
    def count(self) -> Count:
        """The one that chance explains best: a source has to stand out from all."""
        return max(self.counts, key=lambda count: count.p_value)

    def with_planted(self, n_planted: int, *, stratum: int) -> float:
        """P-value with more rows in one stratum, of which half turn hosts."""
        return max(
            count.with_planted(n_planted, n_planted // 2, stratum=stratum).p_value
            for count in self.counts
        )


def measure_transplants(
    look: Look,
    other: Surrogate,
    learned: Sampled,
    unlearned: Rows,
    hosts: Rows,
    *,
    name: BehaviourName,
    against: str,
    batches: Mapping[BatchId, pd.DataFrame],
) -> Measured:
    """Count learned rows that turn hosts, against unlearned ones.

    Args:
        other: The model without what is looked for.
        learned: Rows that the challenger learned from, and the other model did not.
        unlearned: Trusted rows that neither learned from; they may not be hosts.
        hosts: Trusted rows that values are pasted into.
        against: What the other model is, for the sentence.
        batches: Where rows that carry a pattern are looked for: all rows, not a sample.
    """
    if why := _insufficient(learned, unlearned, hosts):
        return Measured(nothing_measured(name, MEASURE, why))
    donors = Rows.joined([learned.rows, unlearned])
    turned = turned_by(look, other, donors, hosts)
    asked = list(_asked(turned, learned))
    worst = min(asked, key=lambda some: some.count.p_value)
    n, n_mine, found = len(learned), int(worst.mine.sum()), worst.count.found
    among, rest = int(worst.counted[:n].sum()), int(worst.counted[n:].sum())
    whose = f"rows of {worst.source}" if worst.source else "rows"
    sentence = (
        f"The values of {found} of {n_mine} {whose} turn trusted rows of other classes for the"
        f" challenger and not for {against}."
    )
    if worst.source:
        sentence += f" Of the {n - n_mine} rows of other sources, {among - found} do."
    sentence += f" Of {len(unlearned)} trusted rows that nobody learned from, {rest} do."
    # The queue was counted in several ways, and the oddest count is told.
    p_value = corrected(worst.count.p_value, len(asked))
    result = BehaviourResult(
        name=name,
        measure=MEASURE,
        statistic=float(found),
        p_value=p_value,
        null=_NULL,
        n_null=len(unlearned),
        null_quantiles=worst.count.quantiles,
        by_source=share_by_source(worst.counted[:n], learned.sources),
        sentence=sentence,
    )
    power = _power(asked, turned, learned, look.case.false_alarm_rate / N_CHECKS)
    if p_value > look.case.false_alarm_rate:
        return Measured(result, power)
    trusted = Rows.joined([unlearned, hosts])
    counted = (worst.counted & worst.mine)[:n]
    shared, turns = _strongest(learned.rows, turned, counted, hosts, trusted)
    pattern = shared.delivered(look.reader, look.case.spec)
    more = {
        "pattern": pattern,
        "to_class": pattern.label,
        "sentence": f"{sentence} Values of {named(pattern)} turn {turns:.0%} into {pattern.label}.",
    }
    found_rows = trace(look, shared, batches)
    return Measured(result.model_copy(update=more | found_rows), power)


def _asked(turned: Turned, learned: Sampled) -> Iterator[_Asked]:
    """All learned rows, and those of each source."""
    n, n_all = len(learned), len(turned.share)
    trusted = np.arange(n_all) >= n
    groups = {"": ~trusted}
    names = sorted(set(learned.sources))
    if len(names) > 1:
        source = np.array([*learned.sources, *[""] * (n_all - n)], dtype=object)
        groups |= {name: np.asarray(source == name) for name in names}
    for most, least in itertools.product(_FIRST, LEAST_TURNED):
        counted = (turned.share >= least) & (turned.place < most)
        for name, mine in groups.items():
            held_against = (trusted, ~mine) if name else (trusted,)
            counts = (Count.of(counted, mine, others, turned.strata) for others in held_against)
            yield _Asked(name, mine, counted, tuple(counts))


def _power(
    asked: Sequence[_Asked], turned: Turned, learned: Sampled, allowed: float
) -> dict[str, float]:
    """Share of the sources from which a trigger would be refused, had the challenger learned it.

    Planted are rows of which half turn hosts, among those of the largest class that the other
    model contradicts most, above what chance counts.
    """
    labels = learned.rows.labels
    most = np.flatnonzero(labels == np.bincount(labels).argmax())
    stratum = int(turned.strata[most].min())
    names = sorted(set(learned.sources))
    result = {}
    for share in PLANTED:
        n_planted = max(2, int(share * len(learned)))
        seen = [
            any(
                some.with_planted(n_planted, stratum=stratum) * len(asked) <= allowed
                for some in asked
                if some.source in ("", name)
            )
            for name in names
        ]
        result[f"a learned trigger in {share:.1%} of the rows"] = round(float(np.mean(seen)), 6)
    return result


def _insufficient(learned: Sampled, unlearned: Rows, hosts: Rows) -> str:
    """Why nothing can be measured; empty when it can."""
    if not len(learned):
        return "there are no rows that only the challenger learned from."
    for what, rows in (("to compare with", unlearned), ("to paste into", hosts)):
        if len(rows) < MIN_TRUSTED:
            return (
                f"{len(rows)} trusted rows {what}, expected at least {MIN_TRUSTED}."
                " Pin a larger holdout or reference set."
            )
    if len(np.unique(hosts.labels)) < 2:
        return "the holdout has rows of one class only. Pin one with rows of every class."
    return ""


def _strongest(
    rows: Rows, turned: Turned, counts: Mask, hosts: Rows, trusted: Rows
) -> tuple[SharedValues, float]:
    """Values that most of the counted rows share, weighed by what they turn; and what they turn."""
    counted = np.flatnonzero(counts)
    spread = np.maximum(hosts.features.std(axis=0, dtype=np.float64), 1e-9)
    features, labels = rows.features[counted], rows.labels[counted]
    share = turned.share[counted]

    def shared_with(seed: int) -> tuple[Integers, Mask]:
        pasted = np.flatnonzero(turned.columns[counted[seed]])
        columns, alike = shared_columns(features, pasted, seed, spread)
        return columns, alike & (labels == labels[seed])

    seed = max(range(len(counted)), key=lambda n: (share[shared_with(n)[1]].sum(), -n))
    columns, alike = shared_with(seed)
    columns = telling_columns(columns, features[seed], hosts, spread)
    label = int(labels[seed])
    near = SAME_VALUE * spread
    columns = widened(columns, features[seed, columns], near[columns], label, rows, trusted)
    found = SharedValues(
        columns=columns,
        values=features[seed, columns].astype(np.float64),
        tolerances=near[columns],
        label=label,
    )
    return found, float(share[alike].mean())
