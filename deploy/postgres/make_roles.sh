#!/bin/sh
# Run by the image of Postgres once, when it has made its database.
set -eu
exec psql --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set loader_password="$TAXI_LOADER_PASSWORD" --set reader_password="$TAXI_READER_PASSWORD" --file /roles.sql
