"""The retraining steps as Airflow operators, and the factory that turns a spec into a DAG."""
