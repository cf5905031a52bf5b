"""Adds the on-call's pages to Airflow's API server.

Airflow imports every file here under its bare name, in every process: nothing else belongs here.
"""

from airflow.plugins_manager import AirflowPlugin

from retraining_airflow.naming import CONSOLE
from retraining_console import console


class RetrainingPlugin(AirflowPlugin):
    """The page of a gate's decision, under the address that the gate's log names."""

    name = "secure_retraining"
    fastapi_apps = [{"app": console, "url_prefix": CONSOLE, "name": "Secure Retraining"}]  # noqa: RUF012 - Airflow's interface
