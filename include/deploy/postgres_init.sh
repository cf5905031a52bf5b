#!/bin/bash
# Run by the Postgres image when its volume is new: two databases, each with an owner who sees no other.
set -euo pipefail

for name in airflow mlflow; do
    psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" \
        --set name="$name" --set password="$(<"/run/secrets/${name}_database_password")" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
