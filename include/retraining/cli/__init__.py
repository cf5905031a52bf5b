"""The command line: the same steps without Airflow, for a laptop, a test and an auditor.

`common` holds the application; each other module adds its commands to it. Nothing slow is imported
here: a command imports what it needs when it runs, so that `retraining --help` answers at once.
"""

# In the order of `--help`.
# isort: off
from retraining.cli import start, weeks, approvals, models, reviews, feedback, monitoring, rollback
from retraining.cli import incident
from retraining.cli import verification, gate_report, keys, tables

# isort: on
from retraining.cli.common import app

__all__ = [
    "app",
    "approvals",
    "feedback",
    "gate_report",
    "incident",
    "keys",
    "models",
    "monitoring",
    "reviews",
    "rollback",
    "start",
    "tables",
    "verification",
    "weeks",
]
