"""Head: do rows like this one, of the same label, teach something new together?

The mean gap of the nearest rows of the same label. A region whose label was turned, a walk of one
source into another class and a flood of near-copies show here although each row by itself does not.
"""

from retraining.screening.neighbours import mean_near
from retraining.screening.opinions import Opinions, View
from retraining.screening.rows import Columns, Reals


class Region:
    """Mean gap of the nearest rows of the same label, batch and trusted ones."""

    name = "region"
    sentence = "Rows like it, with the same label, teach something that trusted rows contradict."

    def fit(self, opinions: Opinions, columns: Columns) -> None:
        """Keep the gaps of the pool."""
        self._gap = opinions.pool.gap

    def score(self, view: View) -> Reals:
        """In nats [m]; 0 for a class with hardly a row."""
        return mean_near(self._gap, view.near)
