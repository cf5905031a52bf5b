"""Head: what did the rest of the batch teach the challenger about the row's own label?

Where other rows of the batch make a label likelier that trusted rows speak against, they tell the
same story: a trigger, a relabelled region, a flood of copies.
"""

from retraining.screening.opinions import Opinions, View
from retraining.screening.rows import Columns, Reals


class Gap:
    """Log-probability of the own label, challenger minus champion, both without the row."""

    name = "gap"
    sentence = "Other rows of the batch teach its label, against what trusted rows say."

    def fit(self, opinions: Opinions, columns: Columns) -> None:
        """Nothing: the surrogates say it all."""

    def score(self, view: View) -> Reals:
        """In nats [m]."""
        return view.gap
