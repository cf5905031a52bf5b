"""The contract of a store on Ceph's radosgw, and what only a server that checks can show."""

import re
from pathlib import Path

import pytest

from retraining.errors import ConfigError
from retraining.store import open_inbox, open_store
from tests.fixtures.s3 import S3Server
from tests.retraining.store.backends import s3_backend
from tests.retraining.store.contract import Backend, StoreContract
from tests.retraining.store.test_inbox import Drop, InboxContract, demand_refusal
from tests.retraining.store.test_s3 import DIGEST, demand_clean_message, every_use

# One cluster is enough, also when xdist spreads the tests.
pytestmark = [pytest.mark.radosgw, pytest.mark.xdist_group("radosgw")]


class TestRadosgw(StoreContract):
    """In a bucket without versioning."""

    @pytest.fixture
    def backend(self, radosgw_settings: S3Server) -> Backend:
        return s3_backend(radosgw_settings, radosgw_settings.new_bucket())


class TestInboxOnRadosgw(InboxContract):
    @pytest.fixture
    def drop(self, radosgw_settings: S3Server) -> Drop:
        bucket, client = radosgw_settings.new_bucket(), radosgw_settings.client()

        def deliver(name: str, data: bytes) -> None:
            client.put_object(Bucket=bucket, Key=f"drop/{name}", Body=data)

        return Drop(f"s3://{bucket}/drop", deliver)


def test_a_bucket_with_versions_ignores_the_condition_and_fails_the_self_test(
    radosgw_settings: S3Server,
) -> None:
    store = open_store(f"s3://{radosgw_settings.new_bucket(versioned=True)}/store")
    with pytest.raises(
        ConfigError, match=r"written twice.*radosgw does so in buckets with versioning"
    ):
        store.self_test()


def test_a_wrong_secret_is_a_mistake_in_the_settings(
    radosgw_settings: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri = f"s3://{radosgw_settings.new_bucket()}/store"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    for use in every_use(open_store(uri), tmp_path):
        with pytest.raises(ConfigError, match=r"\(status 403\)\..*credentials") as refusal:
            use()
        assert "wrong-secret" not in str(refusal.value)
        demand_clean_message(refusal.value, radosgw_settings)


def test_an_unknown_access_key_is_named_as_such(
    radosgw_settings: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(ConfigError, match=r"InvalidAccessKeyId.*does not know this access key"):
        open_store("s3://bucket/store").get(DIGEST)


def test_a_missing_bucket_is_a_mistake_in_the_settings(
    radosgw_settings: S3Server, tmp_path: Path
) -> None:
    for use in every_use(open_store("s3://no-such-bucket/store"), tmp_path):
        with pytest.raises(ConfigError, match=r"s3://no-such-bucket/store at "):
            use()


@pytest.mark.parametrize("key", ["week/../x", "week//x", "week/a\n2026-01-01 INFO promoted"])
def test_a_key_that_no_file_may_have_refuses_the_batch(
    radosgw_settings: S3Server, key: str
) -> None:
    bucket = radosgw_settings.new_bucket()
    radosgw_settings.client().put_object(Bucket=bucket, Key=key, Body=b"1")
    inbox = open_inbox(f"s3://{bucket}/week")
    demand_refusal("bad_name", inbox.files, match=re.escape("ask the provider"))


def test_an_object_of_another_key_is_the_provider_s_fault(radosgw_settings: S3Server) -> None:
    # Encrypted under a key that only its writer has: it is listed, and cannot be read.
    bucket = radosgw_settings.new_bucket()
    radosgw_settings.client().put_object(Bucket=bucket, Key="week/a.csv", Body=b"1")
    inbox = open_inbox(f"s3://{bucket}/week")
    chunks = inbox.stream("a.csv")
    radosgw_settings.client().put_bucket_policy(
        Bucket=bucket,
        Policy='{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*",'
        f' "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{bucket}/week/*"}}]}}',
    )
    demand_refusal("unreadable", lambda: list(chunks), match="AccessDenied")
