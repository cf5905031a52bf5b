"""Judge the rows of a batch against trusted rows, and disarm what is found.

One look: surrogates with and without the batch (`opinions`), the heads' scores, one number of
evidence per row, the rows that stand out, and those that stand out once it is known where the
others lie. Then the rows with most evidence are asked which values carry it (`transplant`); all
rows that carry such a pattern go, and the rest is asked again until nothing is found any more.

Surrogates and heads are fitted on bounded samples; every other row is then scored in chunks, so
memory is bounded by settings and a few numbers per row. No privacy budget is spent on any of this.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from retraining.screening.evidence import Evidence
from retraining.screening.heads import Head, all_heads
from retraining.screening.heads.gap import Gap
from retraining.screening.neighbours import mean_near
from retraining.screening.opinions import Opinions, View, form_opinions
from retraining.screening.pockets import share_of_pocket, stand_out_by_source
from retraining.screening.rows import SEED, Columns, Integers, Mask, Reals, Rows
from retraining.screening.surrogate import Surrogate, fit_surrogate
from retraining.screening.transplant import Finding, Pair, find_patterns

_CHUNK_ROWS = 8192
_NOT_ODD = -8.0  # evidence of rows that nobody contradicts, against others of the same oddness
_CARRIES = 50.0  # evidence of rows that carry a pattern, above all others
_CHAMPION_SEED, _CHALLENGER_SEED = 7, 90
_POCKET_ROUNDS = 2  # a third changes next to nothing


@dataclass(frozen=True)
class Effort:
    """How much is looked at; bounds time and memory.

    Attributes:
        sample_rows: Of the batch, that surrogates and heads are fitted on.
        rounds: Of looking for patterns; each but the first looks at what the last one left.
    """

    sample_rows: int = 20_000
    rounds: int = 3


@dataclass(frozen=True)
class Judgement:
    """What one look found about n batch rows.

    Attributes:
        opinions: Of both surrogates, about the sampled and the trusted rows.
        sampled: Which batch rows stand in the pool, in its order.
        scores: Of each head [n, h].
        p_values: Per head the share of trusted rows at least as odd [n].
        evidence: Of poison [n]; only its order means something.
        p_value: Share of trusted rows with as much evidence [n].
        held: Rows that are held for it [n].
        findings: Patterns, in the order in which they were found.
        carriers: Per finding the rows that carry it with its label and were taught by it [n].
    """

    opinions: Opinions
    sampled: Integers
    scores: Reals
    p_values: dict[str, Reals]
    evidence: Reals
    p_value: Reals
    held: Mask
    findings: tuple[Finding, ...]
    carriers: tuple[Mask, ...]

    def found(self) -> Iterator[tuple[Finding, Mask]]:
        """Each finding with the rows that carry it [n]."""
        return zip(self.findings, self.carriers, strict=True)

    @property
    def purged(self) -> Mask:
        """Rows that are held, or carry a pattern [n]."""
        return np.asarray(np.any([self.held, *self.carriers], axis=0))


def judge_rows(
    batch: Rows,
    trusted: Rows,
    *,
    columns: Columns,
    n_classes: int,
    false_discovery_rate: float,
    effort: Effort,
) -> Judgement:
    """Judge n rows that nobody vetted against rows that somebody did, or that passed before.

    The same for the same input, byte for byte, on one machine.
    """
    # One thread: how many there are must not change the order in which sums are added up.
    with threadpool_limits(limits=1):
        sampled = _sample(len(batch), effort.sample_rows)
        opinions = form_opinions(batch.take(sampled), trusted, columns=columns, n_classes=n_classes)
        heads = all_heads()
        for head in heads:
            head.fit(opinions, columns)
        n_sample = opinions.n_sample
        of_pool = _scores(heads, opinions.pool)
        weighed = Evidence([head.name for head in heads], of_pool[:n_sample], of_pool[n_sample:])

        scores = np.empty((len(batch), len(heads)))
        evidence = np.empty(len(batch))
        near = np.empty((len(batch), opinions.pool.near.shape[1]), dtype=np.int64)
        scores[sampled], evidence[sampled] = of_pool[:n_sample], weighed.of_sample
        near[sampled] = opinions.pool.near[:n_sample]
        others = np.setdiff1d(np.arange(len(batch)), sampled, assume_unique=True)
        for start in range(0, len(others), _CHUNK_ROWS):
            chunk = others[start : start + _CHUNK_ROWS]
            view = opinions.view(batch.take(chunk))
            scores[chunk], near[chunk] = _scores(heads, view), view.near
            evidence[chunk] = weighed.score(scores[chunk])

        p_value = weighed.p_values(evidence, scores)
        held = stand_out_by_source(p_value, batch.sources, false_discovery_rate)
        marks = np.zeros(len(opinions.pool))
        for _ in range(_POCKET_ROUNDS):
            marks[:n_sample] = held[sampled]
            share = share_of_pocket(mean_near(marks, near), batch, held)
            held = stand_out_by_source(p_value * (1 - share), batch.sources, false_discovery_rate)
        evidence = np.where(
            weighed.is_odd(scores), evidence - np.log1p(-share), evidence + _NOT_ODD
        )
        gap = scores[:, [head.name for head in heads].index(Gap.name)]
        findings, carriers = _patterns(
            batch, opinions, sampled, evidence, held, gap, columns, n_classes, effort.rounds
        )
    carries = np.any(carriers, axis=0) if carriers else np.zeros(len(batch), dtype=bool)
    return Judgement(
        opinions=opinions,
        sampled=sampled,
        scores=scores,
        p_values=weighed.p_values_by_head(scores),
        evidence=evidence + _CARRIES * carries,
        p_value=p_value,
        held=held,
        findings=tuple(findings),
        carriers=tuple(carriers),
    )


def _patterns(
    batch: Rows,
    opinions: Opinions,
    sampled: Integers,
    evidence: Reals,
    held: Mask,
    gap: Reals,
    columns: Columns,
    n_classes: int,
    rounds: int,
) -> tuple[list[Finding], list[Mask]]:
    """Find patterns among the sampled rows, take out all rows that carry them, look again."""
    n_sample = opinions.n_sample
    trusted = opinions.pool.rows.take(slice(n_sample, None))

    def fit(rows: Rows, seed: int) -> Surrogate:
        return fit_surrogate(
            rows.features, rows.labels, n_classes=n_classes, is_image=columns.is_image, seed=seed
        )

    champion = fit(trusted, _CHAMPION_SEED)
    findings: list[Finding] = []
    carriers: list[Mask] = []
    left = np.ones(len(batch), dtype=bool)
    for number in range(rounds):
        asked = sampled[left[sampled]]
        rows = batch.take(asked)
        if len(rows) == 0:
            break
        found = find_patterns(
            Pair(champion, fit(Rows.joined([rows, trusted]), _CHALLENGER_SEED + number)),
            rows,
            trusted,
            evidence=evidence[asked],
            trusted_opinion=opinions.pool.champion[n_sample:],
            columns=columns,
            random=np.random.RandomState(SEED + number),
        )
        if not found:
            break
        for finding in found:
            carries = (batch.labels == finding.label) & (gap > 0)
            findings.append(finding)
            carriers.append(carries & finding.carried_by(batch.features))
        # Later rounds look at what is left: neither what carries a pattern, nor what was held.
        left &= ~np.any([held, *carriers], axis=0)
    return findings, carriers


def _sample(n_rows: int, most: int) -> Integers:
    """Which rows surrogates are fitted on, in their order."""
    if n_rows <= most:
        return np.arange(n_rows, dtype=np.int64)
    return np.sort(np.random.RandomState(SEED).permutation(n_rows)[:most]).astype(np.int64)


def _scores(heads: tuple[Head, ...], view: View) -> Reals:
    table: Reals = np.column_stack([head.score(view) for head in heads])
    return np.round(table, 6)
