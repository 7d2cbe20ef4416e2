#!/bin/sh
# Takes PGADMIN_DEFAULT_EMAIL, PGADMIN_DEFAULT_PASSWORD, PGADMIN_LISTEN_PORT and /pgadmin4/servers.json.
set -eu
: "${PGADMIN_DEFAULT_EMAIL:?}" "${PGADMIN_DEFAULT_PASSWORD:?}"
package=$(echo /venv/lib/python3*/site-packages/pgadmin4)
export PYTHONPATH=$package PGADMIN_SETUP_EMAIL=$PGADMIN_DEFAULT_EMAIL PGADMIN_SETUP_PASSWORD=$PGADMIN_DEFAULT_PASSWORD
cd "$package"
if [ ! -f /var/lib/pgadmin/pgadmin4.db ]; then
    /venv/bin/python setup.py setup-db
    /venv/bin/python setup.py load-servers /pgadmin4/servers.json --user "$PGADMIN_DEFAULT_EMAIL"
fi
exec /venv/bin/gunicorn --bind "0.0.0.0:${PGADMIN_LISTEN_PORT:-80}" --workers 1 --threads 25 pgAdmin4:app
