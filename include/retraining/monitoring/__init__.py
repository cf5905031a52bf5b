"""Monitoring: one day of the champion, measured, and what of it is not acceptable.

`joining` finds the answer that each label is about, `metrics` says how good the answers were,
`drift` how far inputs and answers moved, `judging` holds every value against its range, and
`incidents` says which of them somebody has to hear of. It measures and tells; it never retrains.

Every value comes with an interval, and is breached only when the whole interval lies outside its
range: a small clean day raises nothing.
"""

from retraining.monitoring.day import MeasuredDay, Serving, measure_day
from retraining.monitoring.set_aside import Delivered

__all__ = ["Delivered", "MeasuredDay", "Serving", "measure_day"]
