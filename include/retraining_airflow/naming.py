"""Names that several parts agree on."""

WEEKLY = "secure_retraining"
CONSOLE = "/retraining"  # where Airflow mounts our pages
DIGITS = 16  # of a digest in the address of a page: a log cuts off what is longer than its lines


def dag_id_of(kind: str, model: str) -> str:
    """The DAG of that kind of one model, such as `secure_retraining__spam_filter`."""
    return f"{kind}__{model}"
