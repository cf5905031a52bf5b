"""Makes what `docker compose up` needs before it can start: passwords, tokens, folders, and .env.

`make compose-secrets` runs it; the standard library is all it takes. What is there already stays as
it is, so running it again changes nothing and finishes what was interrupted.

    secrets/                 0700, yours: nobody else on this machine comes in
      *                      0444, one secret per file; a container gets the files it needs and no
                             other, and reads them as its own user
      workers/<worker>/      what one worker gets: its keys, and its way to S3
      keys/                  made next, by `docker compose run --rm keys`
    .env                     addresses and sizes; no secret
"""

import argparse
import base64
import os
import secrets
import sys
from pathlib import Path

WORKERS = ("default", "training", "promotion")
CONSOLE = "console"  # the API server, which shows pages of the store
SERVICES = ("init", CONSOLE, *WORKERS)  # who talks to S3

_AWS_CONFIG = """\
[default]
region = us-east-1
# For an S3 server of your own without a name per bucket:
# s3 =
#     addressing_style = path
"""
_AWS_CREDENTIALS = """\
# May {may} objects and list the bucket; nothing here ever deletes.
[default]
aws_access_key_id =
aws_secret_access_key =
"""
_DOTENV = """\
# What docker-compose.yaml asks this installation; made by `make compose-secrets`. Holds no secret.

# The store, on S3: conditional writes (If-None-Match) have to work there.
RETRAINING_STORE={store}
# Empty for AWS; else the address of your server, as the containers reach it.
AWS_ENDPOINT_URL_S3={endpoint}
# Whom the training and the promotion worker may reach, host:port, separated by spaces: S3 (AWS:
# <bucket>.s3.<region>.amazonaws.com:443 for each bucket), and what tells people of a red gate.
RETRAINING_EGRESS={egress}

# Pages and API: loopback unless you say otherwise. Put a proxy with TLS before them.
RETRAINING_BIND=127.0.0.1
RETRAINING_PORT=8080
RETRAINING_URL=http://localhost:8080

# Your pipeline files, and the folder with the secrets.
RETRAINING_PIPELINES=./include/pipelines
RETRAINING_SECRETS={secrets}
# Who owns that folder: `docker compose run --rm keys` writes as this user.
RETRAINING_UID={uid}
"""


def main(argv: list[str]) -> int:
    """Make what is missing; say what to do next."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--secrets", type=Path, default=Path("secrets"), help="folder to fill")
    parser.add_argument("--env-file", type=Path, default=Path(".env"), help="file to write")
    parser.add_argument("--store", default="", metavar="URI", help="s3://bucket/prefix")
    parser.add_argument("--endpoint", default="", metavar="URL", help="of an S3 server of your own")
    parser.add_argument("--egress", default="", metavar="HOSTS", help="allowed host:port, spaced")
    given = parser.parse_args(argv)
    folder: Path = given.secrets
    os.umask(0o022)
    for path in (folder, folder / "keys"):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    for name in SERVICES:
        home = folder / "workers" / name
        (home / "keys").mkdir(parents=True, exist_ok=True)
        _write(home / "aws_config", _AWS_CONFIG)
        may = "read" if name == CONSOLE else "read and write"
        _write(home / "aws_credentials", _AWS_CREDENTIALS.format(may=may), mode=0o644)
    for name, value in _secrets(folder).items():
        _write(folder / name, value)
    where = str(folder) if folder.is_absolute() else f"./{folder}"
    text = _DOTENV.format(
        store=given.store,
        endpoint=given.endpoint,
        egress=given.egress,
        secrets=where,
        uid=os.getuid(),
    )
    _write(given.env_file, text, mode=0o644)
    print(
        f"Secrets are in {folder}, settings in {given.env_file}. Next:\n"
        f"  1. Set RETRAINING_STORE (and the server's address, if it is not AWS) in"
        f" {given.env_file}.\n"
        f"  2. Put S3 credentials into {folder}/workers/*/aws_credentials; they may differ.\n"
        "  3. docker compose build\n"
        "  4. docker compose run --rm keys        (makes keys and the first trust list)\n"
        "  5. docker compose up --detach --wait\n"
        f"  6. Log in as admin; the password is in {folder}/admin_password."
    )
    return 0


def _secrets(folder: Path) -> dict[str, str]:
    """File to content. Addresses hold a password made before, if there is one."""

    def password(name: str) -> str:
        path = folder / name
        return path.read_text() if path.exists() else secrets.token_urlsafe(24)

    postgres, redis = password("postgres_password"), password("redis_password")
    airflow, mlflow = password("airflow_database_password"), password("mlflow_database_password")
    return {
        "postgres_password": postgres,
        "airflow_database_password": airflow,
        "mlflow_database_password": mlflow,
        "redis_password": redis,
        "airflow_database_url": f"postgresql+psycopg2://airflow:{airflow}@postgres/airflow",
        "mlflow_database_url": f"postgresql+psycopg2://mlflow:{mlflow}@postgres/mlflow",
        "broker_url": f"redis://:{redis}@redis:6379/0",
        "result_backend": f"redis://:{redis}@redis:6379/1",
        "admin_password": secrets.token_urlsafe(12),
        "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "api_secret_key": secrets.token_hex(32),
        "jwt_secret": secrets.token_hex(64),
    }


def _write(path: Path, text: str, *, mode: int = 0o444) -> None:
    """Write a file whole or not at all; one that exists stays as it is."""
    if path.exists():
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.write_text(text)
    unfinished.chmod(mode)
    unfinished.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
