#!/bin/bash
# One time before each start, as the service airflow-init: the database is brought up to date, there is
# somebody who can log in, and keys and store are looked at while a mistake is still one sentence.
set -euo pipefail

if ! retraining keys list; then
    echo "The stack has no keys that fit its store. Make them: docker compose run --rm keys" >&2
    exit 1
fi
airflow db migrate
# Does nothing when there is a user of this name; change the password in the pages.
airflow users create --username admin --role Admin --email admin@localhost \
    --firstname Admin --lastname Istrator --password "$(</run/secrets/admin_password)"
