"""One weekly DAG per pipeline file.

pin → ingest → provenance (per source) → screen → train → validate → gate → promote; a mistake in a
pipeline file is shown by Airflow as an import error of `check_pipeline_files.py`.
"""

from retraining_airflow.dag_factory import build_dags, build_weekly

globals().update(build_dags(build_weekly))
