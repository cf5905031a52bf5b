"""One incident DAG per pipeline file, started by hand: poison found late is taken back."""

from retraining_airflow.dag_factory import build_dags, build_incident

globals().update(build_dags(build_incident))
