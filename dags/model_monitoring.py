"""One monitoring DAG per pipeline file that asks for it, every day: measure → alert."""

from retraining_airflow.dag_factory import build_dags, build_monitoring

globals().update(build_dags(build_monitoring))
