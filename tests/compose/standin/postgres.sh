#!/bin/bash
# The official entrypoint's first start, as far as docker-compose.yaml relies on it.
set -euo pipefail
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    # shellcheck disable=SC2086
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust \
        $POSTGRES_INITDB_ARGS >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --silent -o "-c listen_addresses=''" start
    export PGUSER=$POSTGRES_USER
    [[ ${POSTGRES_DB:-postgres} == postgres ]] || createdb "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sh; do
        # shellcheck source=/dev/null
        . "$script"
    done
    pg_ctl --wait --silent -m fast stop
fi
exec "$@" -c listen_addresses='*'
