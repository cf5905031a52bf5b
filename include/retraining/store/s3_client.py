"""The S3 client, and what its many errors mean to us.

Messages carry the error's code, the address and the server, never the server's own text: that can
repeat a key id or a signed header.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions as aws
from boto3.exceptions import Boto3Error
from botocore.config import Config

from retraining.errors import ConfigError, RetrainingError, StoreUnreachableError
from retraining.store.opening import S3ClientFactory

_URI = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)

# Three attempts with 2 s each and botocore's pauses between them (up to 1 s, then up to 2 s): a
# dead server is reported within 10 s. Airflow's retries, minutes apart, cover longer outages.
CLIENT_CONFIG = Config(
    connect_timeout=2,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 3},
    response_checksum_validation="when_required",  # our digests say it better than a CRC
    user_agent_extra="secure-retraining",
)
_UNREACHABLE = (
    aws.ConnectionError,
    aws.HTTPClientError,
    aws.FlexibleChecksumError,
    aws.IncompleteReadError,
    aws.ResponseStreamingError,
)
_BUSY_CODES = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
_ADVICE = {
    "NoSuchBucket": "Create the bucket, or correct the address.",
    "AccessDenied": "Allow these credentials s3:GetObject, s3:PutObject and s3:ListBucket there.",
    "InvalidAccessKeyId": "The server does not know this access key: check the credentials.",
    "SignatureDoesNotMatch": "The secret does not fit the access key: check the credentials.",
    "ExpiredToken": "The session has expired: renew the credentials.",
    "RequestTimeTooSkewed": "This machine's clock is wrong: set it.",
    "PermanentRedirect": "The bucket is in another region: set AWS_REGION.",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set AWS_REGION.",
    "NotImplemented": "The server lacks a feature that the store needs, such as If-None-Match.",
}


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Split s3://bucket/key into bucket and key (no slash at its ends), or raise ConfigError."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise ConfigError(f"Found the address {uri!r}; expected s3://bucket or s3://bucket/prefix.")
    return match[1], (match[2] or "").strip("/")


def make_client(client_factory: S3ClientFactory | None) -> Any:
    """Return the S3 client of `client_factory`, or one from the usual AWS chain."""
    if client_factory is not None:
        return client_factory()
    try:
        return boto3.session.Session().client("s3", config=CLIENT_CONFIG)
    except (aws.BotoCoreError, Boto3Error, ValueError) as error:  # ValueError: a malformed endpoint
        raise ConfigError(
            f"No S3 client can be made from the AWS settings here ({type(error).__name__})."
            " Check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL."
        ) from None


@contextmanager
def s3_errors(client: Any, uri: str) -> Iterator[None]:
    """Turn what boto3 raises while it works on `uri` into our errors."""
    try:
        yield
    except Boto3Error as error:
        # upload_file wraps the server's answer, and keeps it only as the context.
        cause = error.__context__
        if not isinstance(cause, (aws.ClientError, aws.BotoCoreError)):
            raise ConfigError(f"{uri}: boto3 failed with {type(error).__name__}.") from error
        raise _meaning(cause, client, uri) from None
    except (aws.ClientError, aws.BotoCoreError) as error:
        raise _meaning(error, client, uri) from None


def status_of(error: aws.ClientError) -> int:
    """Return the HTTP status of the server's answer, or 0."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: aws.ClientError) -> str:
    """Return S3's code of the error, such as NoSuchKey; a HEAD has only the status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _meaning(error: Exception, client: Any, uri: str) -> RetrainingError:
    place = f"{uri} at {_server(client)}"
    if isinstance(error, aws.ClientError):
        code, status = code_of(error), status_of(error)
        busy = status == 429 or (status >= 500 and status != 501) or code in _BUSY_CODES
        said = f"{place} answered {error.operation_name} with {code or status} (status {status})."
        if busy:
            return StoreUnreachableError(f"{said} Try again later.")
        default = _ADVICE["AccessDenied"] if status == 403 else "Check the address and the server."
        return ConfigError(f"{said} {_ADVICE.get(code, default)}")
    kind = type(error).__name__
    if isinstance(error, _UNREACHABLE):
        return StoreUnreachableError(
            f"{place} does not answer ({kind}). Check that the server runs and that this machine"
            " can reach it, then try again."
        )
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        return ConfigError(
            f"{place}: no AWS credentials were found ({kind}). Set AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, a profile, a role, or an Airflow connection."
        )
    return ConfigError(f"{place}: the AWS settings do not work ({kind}). Check them.")


def _server(client: Any) -> str:
    parts = urlsplit(client.meta.endpoint_url)  # may hold user:password@
    return parts.hostname + (f":{parts.port}" if parts.port else "") if parts.hostname else "S3"
