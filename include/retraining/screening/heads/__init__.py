"""Heads: complementary ways to see that a row is odd, one module each.

A head gives every row one number, larger is odder, from what both surrogates say about rows that
they never saw. It judges trusted rows in the same way, which says what is to be expected of honest
ones; `evidence` weighs the heads by that, so a head with nothing to say costs nothing.

To add one: write a module with a class like `Head`, put it into `all_heads`, and keep it only if
the ablation in include/docs/screening.md shows what it adds.
"""

from typing import Protocol

from retraining.screening.heads.consensus import Consensus
from retraining.screening.heads.contradiction import Contradiction
from retraining.screening.heads.gap import Gap
from retraining.screening.heads.isolation import Isolation
from retraining.screening.heads.region import Region
from retraining.screening.opinions import Opinions, View
from retraining.screening.rows import Columns, Reals


class Head(Protocol):
    """One way to see that a row is odd.

    Attributes:
        name: Stands in reasons and columns.
        sentence: What it means for a row, for a person.
    """

    name: str
    sentence: str

    def fit(self, opinions: Opinions, columns: Columns) -> None:
        """Look at the sampled batch rows and the trusted rows."""

    def score(self, view: View) -> Reals:
        """Of rows [m]."""


def all_heads() -> tuple[Head, ...]:
    """New ones, not yet fitted."""
    return (Contradiction(), Consensus(), Gap(), Region(), Isolation())
