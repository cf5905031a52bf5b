"""One DAG per pipeline file that asks for feedback: closes a week of it into a batch.

The batch is one more untrusted source of `secure_retraining__<model>`; run it before that one.
"""

from retraining_airflow.dag_factory import build_dags, build_feedback

globals().update(build_dags(build_feedback))
