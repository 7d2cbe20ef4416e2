#!/bin/sh
# Run by the image of Postgres once, when it has made its database.
set -eu
# Nobody has anything to do in the other two databases of this server.
psql --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --command 'REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'
exec psql --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set loader_password="$TAXI_LOADER_PASSWORD" --set reader_password="$TAXI_READER_PASSWORD" --file /roles.sql
