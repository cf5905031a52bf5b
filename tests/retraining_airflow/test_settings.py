"""Airflow's connections as credentials of the store."""

import pytest

from retraining.errors import ArtifactMissingError, ConfigError
from retraining.store import open_store
from tests.fixtures.s3 import S3Server

pytestmark = [pytest.mark.airflow, pytest.mark.s3]


def test_the_store_uses_the_credentials_of_an_airflow_connection(
    moto_server: S3Server, no_aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retraining_airflow.settings import s3_client_factory

    endpoint = moto_server.endpoint.replace(":", "%3A").replace("/", "%2F")
    monkeypatch.setenv(
        "AIRFLOW_CONN_BUCKETS",
        f"aws://{moto_server.access_key}:{moto_server.secret_key}@/"
        f"?endpoint_url={endpoint}&region_name=us-east-1",
    )
    uri = f"s3://{moto_server.new_bucket()}/store"

    store = open_store(uri, client_factory=s3_client_factory("buckets"))

    assert store.get(store.put(b"rows")) == b"rows"
    with pytest.raises(ArtifactMissingError):
        store.read("registry/nothing")


def test_a_missing_connection_is_named_and_no_other_credentials_are_tried(
    moto_server: S3Server, no_aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retraining_airflow.settings import s3_client_factory

    for name, value in moto_server.settings().items():
        monkeypatch.setenv(name, value)  # what the hook alone would fall back to

    with pytest.raises(ConfigError, match="Airflow has no connection 'bukets'"):
        open_store("s3://some-bucket/store", client_factory=s3_client_factory("bukets"))


def test_without_a_connection_the_usual_aws_chain_is_used() -> None:
    from retraining_airflow.settings import s3_client_factory

    assert s3_client_factory("") is None
