"""What reviewers decided, as later runs take it: rows released, and what is never trained on again.

A review is an entry of an append-only chain that only reviewers can write. A run pins the newest
entry when it starts, so a decision changes the accepted rows of the next run, and of no run before.

For the same row, pattern, batch or user the later entry wins. A released row that lies in a
confirmed batch, carries a confirmed pattern or is a confirmed user's, stays confirmed until that is
released.
"""

from retraining.reviews.carriers import carriers, rows_of_users
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
    "rows_of_users",
    "suspicious_rows",
]
