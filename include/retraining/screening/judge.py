"""A judge of one week: fitted on a sample of its rows and on trusted rows, asked about all of them.

Every row is first asked cheaply: what do both surrogates say, does it lie far out? Only of the odd
ones, which alone may ever be held, neighbours and evidence are looked at, so what is slow is asked
about few rows. Rows are asked part by part, in one process or in several: each answer is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from retraining.screening.evidence import Evidence
from retraining.screening.heads import Head, all_heads
from retraining.screening.heads.gap import Gap
from retraining.screening.opinions import View, form_opinions
from retraining.screening.rows import (
    Columns,
    Integers,
    Matrix,
    Reals,
    Rows,
    RowTable,
    drawn,
    rows_at,
)

_NOT_ODD = -8.0  # evidence of rows that nobody contradicts, against others of the same oddness


@dataclass(frozen=True)
class Answers:
    """What a judge says about some rows, c of which are odd.

    Attributes:
        places: Of the odd rows in the table, ascending [c].
        scores: Of each head [c, h].
        evidence: Of poison, by the row alone [c].
        near: Places in the pool of the nearest rows of the same label [c, neighbours].
        labels, sources, users: As in `Rows` [c].
        order: Of all rows by evidence, odd or not [n].
    """

    places: Integers
    scores: Reals
    evidence: Reals
    near: Integers
    labels: Integers
    sources: Integers
    users: Integers
    order: Matrix

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those about all rows, from those about each part of them."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


class Judge:
    """Two surrogates and five heads, calibrated on trusted rows.

    Args:
        table: The rows of the week [n].
        trusted: Rows that somebody vetted, or that passed before.
        sample_rows: Of the week, that surrogates and heads are fitted on.

    Attributes:
        sampled: Places of the sample in the table, ascending.
        opinions: Of both surrogates about the pool: the sample, then the trusted rows.
        names: Of the heads, in the order of their scores.
    """

    def __init__(
        self,
        table: RowTable,
        trusted: Rows,
        *,
        columns: Columns,
        n_classes: int,
        sample_rows: int,
    ) -> None:
        self.sampled = drawn(len(table), sample_rows)
        self.opinions = form_opinions(
            rows_at(table, self.sampled), trusted, columns=columns, n_classes=n_classes
        )
        self._heads = all_heads()
        self.names = [head.name for head in self._heads]
        for head in self._heads:
            head.fit(self.opinions, columns)
        n_sample = self.opinions.n_sample
        self._of_pool = _scores(self._heads, self.opinions.pool)
        self.evidence = Evidence(self.names, self._of_pool[:n_sample], self._of_pool[n_sample:])

    @property
    def sample(self) -> Rows:
        """The sampled rows, in the order of `sampled`."""
        return self.opinions.pool.rows.take(slice(self.opinions.n_sample))

    def ask(self, places: Integers, rows: Rows) -> Answers:
        """About one part of the table [m]; of sampled rows, models that did not see them."""
        in_pool = self._in_pool(places)
        seen, fresh = np.flatnonzero(in_pool >= 0), np.flatnonzero(in_pool < 0)
        scores = np.zeros((len(rows), len(self._heads)))
        evidence = np.zeros(len(rows))
        near = np.full((len(rows), self.opinions.pool.near.shape[1]), -1, dtype=np.int64)
        scores[seen] = self._of_pool[in_pool[seen]]
        evidence[seen] = self.evidence.of_sample[in_pool[seen]]
        near[seen] = self.opinions.pool.near[in_pool[seen]]
        view = self.opinions.view(rows.take(fresh))
        scores[fresh] = _scores(self._heads, view)
        odd = self.evidence.is_odd(scores)
        # Others are only ranked, behind all odd ones.
        order = np.where(odd, evidence, evidence + _NOT_ODD)
        order[fresh] = self.evidence.doubt(scores[fresh]) + 2 * _NOT_ODD
        asked = np.flatnonzero(odd[fresh])
        if len(asked):
            closer = self.opinions.closer(view, asked)
            near[fresh[asked]] = closer.near
            scores[fresh[asked]] = _scores(self._heads, closer)
            evidence[fresh[asked]] = self.evidence.score(scores[fresh[asked]])
        return Answers(
            places=places[odd],
            scores=scores[odd],
            evidence=evidence[odd],
            near=near[odd],
            labels=rows.labels[odd],
            sources=rows.sources[odd],
            users=rows.users[odd],
            order=order.astype(np.float32),
        )

    def trusted_p_values(self) -> Reals:
        """Of each trusted row the share of all of them with as much evidence."""
        of_trusted = self._of_pool[self.opinions.n_sample :]
        return self.evidence.p_values(self.evidence.of_trusted, of_trusted)

    def gap(self, places: Integers, rows: Rows) -> Reals:
        """What the week taught the challenger about the own label of each row [m], in nats."""
        in_pool = self._in_pool(places)
        seen = in_pool >= 0
        result = np.empty(len(rows))
        result[seen] = self._of_pool[in_pool[seen], self.names.index(Gap.name)]
        result[~seen] = np.round(self.opinions.view(rows.take(~seen)).gap, 6)
        return result

    def _in_pool(self, places: Integers) -> Integers:
        """Where rows stand in the pool [m]; -1 where they were not sampled."""
        found = np.searchsorted(self.sampled, places).clip(max=len(self.sampled) - 1)
        return np.where(self.sampled[found] == places, found, -1).astype(np.int64)


def _scores(heads: tuple[Head, ...], view: View) -> Reals:
    table: Reals = np.column_stack([head.score(view) for head in heads])
    return np.round(table, 6)
