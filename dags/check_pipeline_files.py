"""Makes no DAG: shows mistakes in pipeline files among Airflow's import errors.

A file of its own, because Airflow stops every DAG of a file that has an import error, and one
model's misspelt field should stop no other model.
"""

from retraining_airflow.dag_factory import check_pipeline_files

check_pipeline_files()
