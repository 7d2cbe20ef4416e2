#!/bin/sh
# Takes POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_INITDB_ARGS and scripts *.sh, as the image's page says.
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres "$(dirname "$(dirname "$PGDATA")")" /var/run/postgresql
    chmod 700 "$PGDATA"
    exec gosu postgres sh "$0" "$@"
fi
socket=/var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    export PGPASSWORD="${POSTGRES_PASSWORD:?}" PGHOST=$socket
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    # shellcheck disable=SC2086  # several options
    initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile /tmp/password $POSTGRES_INITDB_ARGS
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl --pgdata "$PGDATA" --options "-c listen_addresses='' -c unix_socket_directories=$socket" --wait start
    [ "$POSTGRES_DB" = postgres ] || createdb --username "$POSTGRES_USER" --maintenance-db postgres "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh) sh "$script" ;;
            */\*) ;;
            *) echo "the stand-in runs *.sh alone, not $script" >&2; exit 1 ;;
        esac
    done
    pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
    unset PGPASSWORD PGHOST
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=$socket
