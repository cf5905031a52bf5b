"""The domain: what each retraining step does, without Airflow and without TensorFlow."""
