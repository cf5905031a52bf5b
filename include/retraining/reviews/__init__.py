"""What reviewers decided, as later runs take it: rows released, and what is never trained on again.

A review is an entry of an append-only chain that only reviewers can write. A run pins the newest
entry when it starts, so a decision changes the accepted rows of the next run, and of no run before.

For the same row, pattern or batch the later entry wins. A released row that lies in a confirmed
batch, or carries a confirmed pattern, stays confirmed until that is released.
"""

from retraining.reviews.carriers import carriers
from retraining.reviews.founded import named_screening, refuse_unfounded, suspicious_rows
from retraining.reviews.reviewed import CONFIRMED, Reviewed, Reviews, fold

__all__ = [
    "CONFIRMED",
    "Reviewed",
    "Reviews",
    "carriers",
    "fold",
    "named_screening",
    "refuse_unfounded",
    "suspicious_rows",
]
