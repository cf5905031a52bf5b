"""Judge the rows of a week against trusted rows, and disarm what is found.

One look: a `judge` is fitted on a sample and asked about every part of the table; its odd rows that
stand out are held, and those that stand out once it is known where the others lie (`pockets`).
Then the rows with most evidence are asked which values carry it (`transplant`); all rows that
carry such a pattern go, and the rest is asked again until nothing is found any more. What is left
is searched for values that one source's rows share and nobody else's have (`contrasts`).

Memory is bounded by settings and the odd rows, not by the table: it is read in parts, once to draw
the sample, once to ask, and once more where a pattern was found. No privacy budget is spent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from retraining.screening.contrasts import Contrast, find_contrasts
from retraining.screening.finding import Finding
from retraining.screening.judge import Answers, Judge
from retraining.screening.neighbours import mean_near
from retraining.screening.pockets import Tally, honest_share, lies_nearby, usual_share
from retraining.screening.rows import SEED, Columns, Integers, Mask, Matrix, Reals, Rows, RowTable
from retraining.screening.shares import condemned_users
from retraining.screening.surrogate import Surrogate, fit_surrogate
from retraining.screening.transplant import Pair, find_patterns

_CARRIES = 50.0  # evidence of rows that carry a pattern, above all others
_CHAMPION_SEED, _CHALLENGER_SEED = 7, 90
_POCKET_ROUNDS = 2  # a third changes next to nothing
_TELL_ROWS = 100_000  # after which somebody who waits wants to hear something

Found = Finding | Contrast

Told = Callable[[int], None]  # how many rows were judged so far


@dataclass(frozen=True)
class Effort:
    """How much is looked at; bounds time and memory.

    Attributes:
        sample_rows: Of the week, that surrogates and heads are fitted on.
        rounds: Of looking for patterns; each but the first looks at what the last one left.
        only_sample: Whether no other row is held, unless it carries a pattern.
    """

    sample_rows: int = 20_000
    rounds: int = 3
    only_sample: bool = False


@dataclass(frozen=True)
class Judgement:
    """What one look found about n rows, c of which are odd.

    Attributes:
        judge: Who was asked.
        odd: The answers about the odd rows.
        order: Of all rows by evidence, odd or not [n]; 0 of those that were not asked about.
        p_value: Of each odd row the share of trusted rows with as much evidence [c].
        held: Odd rows that are held for it [c].
        findings: Patterns, in the order in which they were found.
        carriers: Per finding the places of all rows that carry it with its label.
        of_condemned: Places of all rows of users who have far more odd ones than an honest one.
        tally: Rows per source, user, and source and class.
    """

    judge: Judge
    odd: Answers
    order: Matrix
    p_value: Reals
    held: Mask
    findings: tuple[Found, ...]
    carriers: tuple[Integers, ...]
    of_condemned: Integers
    tally: Tally

    def found(self) -> Iterator[tuple[Found, Integers]]:
        """Each finding with the places of the rows that carry it."""
        return zip(self.findings, self.carriers, strict=True)

    @property
    def purged(self) -> Mask:
        """Rows that are held, or carry a pattern [n]."""
        found = np.zeros(len(self.order), dtype=bool)
        for places in (self.odd.places[self.held], *self.carriers):
            found[places] = True
        return found


def judge_rows(
    table: RowTable,
    trusted: Rows,
    *,
    columns: Columns,
    n_classes: int,
    false_discovery_rate: float,
    effort: Effort,
    answered: Mapping[int, Answers] | None = None,
    told: Told = lambda _: None,
) -> Judgement:
    """Judge n rows that nobody vetted against rows that somebody did, or that passed before.

    The same for the same input, byte for byte, on one machine.

    Args:
        answered: What a judge of the same rows said elsewhere, by the first place of the part.
        told: Is told now and then how many rows were judged so far.
    """
    # One thread: how many there are must not change the order in which sums are added up.
    with threadpool_limits(limits=1):
        judge = Judge(
            table, trusted, columns=columns, n_classes=n_classes, sample_rows=effort.sample_rows
        )
        odd, order, tally = _asked(judge, table, n_classes, effort, answered or {}, told)
        p_value = judge.evidence.p_values(odd.evidence, odd.scores)
        held, company = _held(judge, tally, odd, p_value, false_discovery_rate)
        order[odd.places] = odd.evidence - np.log(company)
        findings = _patterns(judge, order, odd.places[held], columns, n_classes, effort.rounds)
        carriers = _carriers(table, judge, findings)
        for places in carriers:
            order[places] += _CARRIES * (order[places] < _CARRIES)
        carrying = np.isin(odd.places, np.concatenate([np.zeros(0, np.int64), *carriers]))
        users = condemned_users(odd.users, p_value, held | carrying, tally)
    return Judgement(
        judge=judge,
        odd=odd,
        order=order,
        p_value=p_value,
        held=held,
        findings=tuple(findings),
        carriers=tuple(carriers),
        of_condemned=_rows_of_users(table, users),
        tally=tally,
    )


def answers_of_shard(
    table: RowTable,
    trusted: Rows,
    *,
    columns: Columns,
    n_classes: int,
    effort: Effort,
    shard: int,
    n_shards: int,
) -> dict[int, Answers]:
    """What `judge_rows` would say about one shard of n rows, part by part, by first places.

    Args:
        shard: From 0; the parts that begin in that share of the rows.
    """
    start, stop = (number * len(table) // n_shards for number in (shard, shard + 1))
    wanted = np.zeros(len(table), dtype=bool)
    wanted[start:stop] = True
    with threadpool_limits(limits=1):
        judge = Judge(
            table, trusted, columns=columns, n_classes=n_classes, sample_rows=effort.sample_rows
        )
        return {
            int(places[0]): judge.ask(places, rows)
            for places, rows in table.parts(wanted)
            if wanted[places[0]]
        }


def _asked(
    judge: Judge,
    table: RowTable,
    n_classes: int,
    effort: Effort,
    answered: Mapping[int, Answers],
    told: Told,
) -> tuple[Answers, Matrix, Tally]:
    """The answers about all odd rows, the order of all rows [n], and how many there are of each."""
    tally, parts, n_judged = Tally(n_classes), [], 0
    order = np.zeros(len(table), dtype=np.float32)
    for places, rows in [(judge.sampled, judge.sample)] if effort.only_sample else table.parts():
        tally.add(rows)
        part = answered.get(int(places[0])) or judge.ask(places, rows)
        order[places] = part.order
        parts.append(part)
        before, n_judged = n_judged, n_judged + len(places)
        if n_judged // _TELL_ROWS > before // _TELL_ROWS:
            told(n_judged)
    return Answers.joined(parts), order, tally


def _held(
    judge: Judge, tally: Tally, odd: Answers, p_value: Reals, rate: float
) -> tuple[Mask, Reals]:
    """Odd rows that are held [c], and what the p-value of each was multiplied by for its company.

    More and more are known to be held: so neighbours are asked again.
    """
    n_sample, pool = judge.opinions.n_sample, judge.opinions.pool.rows
    company = tally.company(
        odd,
        p_value,
        like=lies_nearby(odd.near, odd.labels, pool.labels, n_sample),
        usual=usual_share(judge.trusted_p_values(), pool.labels[n_sample:], tally.n_classes),
    )
    factor = np.ones(len(p_value))
    held = tally.stand_out(p_value, odd.sources, rate)
    for _ in range(_POCKET_ROUNDS):
        near = mean_near(_marks(judge, odd.places[held]), odd.near)
        factor = np.minimum(company, honest_share(near))
        held = tally.stand_out(p_value * factor, odd.sources, rate)
    return held, factor


def _marks(judge: Judge, held: Integers) -> Reals:
    """1 for rows of the pool that are held, else 0."""
    marks = np.zeros(len(judge.opinions.pool))
    marks[: len(judge.sampled)] = np.isin(judge.sampled, held)
    return marks


def _patterns(
    judge: Judge,
    order: Matrix,
    held: Integers,
    columns: Columns,
    n_classes: int,
    rounds: int,
) -> list[Found]:
    """Find patterns among the sampled rows, take out those that carry them, look again."""
    n_sample, pool = judge.opinions.n_sample, judge.opinions.pool
    sample, trusted = judge.sample, pool.rows.take(slice(n_sample, None))
    evidence, gap = order[judge.sampled].astype(np.float64), pool.gap[:n_sample]

    def fit(rows: Rows, seed: int) -> Surrogate:
        return fit_surrogate(
            rows.features, rows.labels, n_classes=n_classes, is_image=columns.is_image, seed=seed
        )

    champion = fit(trusted, _CHAMPION_SEED)
    findings: list[Found] = []
    left = np.ones(n_sample, dtype=bool)
    for number in range(rounds):
        rows = sample.take(left)
        if len(rows) == 0:
            break
        found = find_patterns(
            Pair(champion, fit(Rows.joined([rows, trusted]), _CHALLENGER_SEED + number)),
            rows,
            trusted,
            evidence=evidence[left],
            trusted_opinion=pool.champion[n_sample:],
            columns=columns,
            random=np.random.RandomState(SEED + number),
        )
        if not found:
            break
        findings += found
        # Later rounds look at what is left: neither what carries a pattern, nor what was held.
        left &= ~np.isin(judge.sampled, held)
        for finding in found:
            taught = (sample.labels == finding.label) & (gap > 0)
            left &= ~(taught & finding.carried_by(sample.features))
    return [*findings, *find_contrasts(sample.take(left), trusted, columns=columns)]


def _carriers(table: RowTable, judge: Judge, findings: Sequence[Found]) -> list[Integers]:
    """Per finding the places of all rows that carry it with its label.

    One that turns other rows has to have taught the challenger something about a row as well; of a
    contrast, other sources' rows have the values by chance.
    """
    carriers: list[list[Integers]] = [[] for _ in findings]
    seen: list[list[tuple[Integers, Integers]]] = [[] for _ in findings]
    for places, rows in table.parts() if findings else ():
        for number, finding in enumerate(findings):
            alike = np.flatnonzero(finding.carried_by(rows.features))
            seen[number].append((rows.sources[alike], rows.labels[alike]))
            alike = alike[rows.labels[alike] == finding.label]
            if isinstance(finding, Finding):
                alike = alike[judge.gap(places[alike], rows.take(alike)) > 0]
            carriers[number].append(np.stack([places[alike], rows.sources[alike]]))
    result = []
    for finding, of_all, mine in zip(findings, seen, carriers, strict=True):
        sources, labels = (np.concatenate(parts) for parts in zip(*of_all, strict=True))
        places, source = np.concatenate(mine, axis=1)
        result.append(places[np.isin(source, finding.sources_of(sources, labels))])
    return result


def _rows_of_users(table: RowTable, users: Integers) -> Integers:
    parts = table.parts() if len(users) else ()
    found = [places[np.isin(rows.users, users)] for places, rows in parts]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])
