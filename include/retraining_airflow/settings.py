"""What DAG files and tasks read from this installation of Airflow: the environment and connections.

The paths and addresses that the steps use stand in `retraining.settings`; here is what only Airflow
needs. Nothing in this module is imported at parse time that takes long: the connection's hook, and
boto3 with it, is loaded by the task that opens an s3:// store.
"""

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from retraining.errors import ConfigError

if TYPE_CHECKING:
    from retraining.store import S3ClientFactory


class DagSettings(BaseSettings):
    """How the DAGs of this installation run.

    Attributes:
        training_pool: RETRAINING_TRAINING_POOL: pool that training takes a slot of.
        training_queue: RETRAINING_TRAINING_QUEUE: Celery queue of the workers that have the
            trainer's environment; empty: Airflow's default queue.
        promotion_queue: RETRAINING_PROMOTION_QUEUE: queue of the worker that has the promoter's
            key: gate, promotion and rollback run there and nowhere else; empty: the default.
        console_url: RETRAINING_CONSOLE_URL: where people open Airflow, if its API server has our
            plugin and reads the store: a gate's log then links its page; empty: it names the
            command that writes the page.
        retry_seconds: RETRAINING_RETRY_SECONDS: pause before a task that broke is tried again,
            doubled each time.
    """

    model_config = SettingsConfigDict(env_prefix="RETRAINING_", frozen=True, extra="ignore")

    training_pool: str = Field(default="default_pool", min_length=1)
    training_queue: str = ""
    promotion_queue: str = ""
    console_url: str = Field(default="", pattern=r"^$|^https?://[^\s]+$")
    retry_seconds: float = Field(default=60, gt=0)

    @classmethod
    def load(cls) -> Self:
        """Read the environment; raises ConfigError."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                f"RETRAINING_{str(first['loc'][0]).upper()}: {first['msg']}."
            ) from None


def s3_client_factory(connection_id: str) -> "S3ClientFactory | None":
    """Return what makes S3 clients from an Airflow connection; None without connection.

    The client is made when the store is opened, so a wrong connection is reported there.
    """
    if not connection_id:
        return None

    def client() -> Any:
        try:
            from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        except ImportError as error:
            raise ConfigError(
                f"RETRAINING_STORE_CONNECTION is {connection_id!r}, but the Amazon provider is"
                " not installed. Install apache-airflow-providers-amazon, or leave the setting"
                " empty to use the AWS chain."
            ) from error
        from airflow.sdk.exceptions import AirflowNotFoundException

        # Not above: a DAG file that is parsed has no use for boto3.
        from retraining.store.s3_client import CLIENT_CONFIG

        hook = S3Hook(aws_conn_id=connection_id, config=CLIENT_CONFIG)
        try:
            # Asked for here, because the hook itself only warns of a missing connection and goes
            # on with whatever credentials the machine has.
            hook.get_connection(connection_id)
        except AirflowNotFoundException:
            raise ConfigError(
                f"Airflow has no connection {connection_id!r}, which RETRAINING_STORE_CONNECTION"
                " names. Create it (type: Amazon Web Services), or correct the setting."
            ) from None
        return hook.get_conn()

    return client
