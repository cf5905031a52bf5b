"""One rollback DAG per pipeline file, started by hand: request → restore."""

from retraining_airflow.dag_factory import build_dags, build_rollback

globals().update(build_dags(build_rollback))
