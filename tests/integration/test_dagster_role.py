"""The role that owns Dagster's history on a managed server, made by one who is no superuser, as on Cloud SQL."""

import subprocess

import psycopg
import pytest

from taxi_assets.resources.settings import PROJECT
from tests.servers import Server

# What Cloud SQL gives: databases of a group, and a user in it who may make roles and databases.
# https://docs.cloud.google.com/sql/docs/postgres/users
MANAGED = """
    CREATE ROLE cloudsqlsuperuser NOLOGIN CREATEDB CREATEROLE;
    CREATE ROLE taxi_admin LOGIN CREATEDB CREATEROLE PASSWORD 'admin' IN ROLE cloudsqlsuperuser;
    CREATE DATABASE ny_taxi OWNER cloudsqlsuperuser;
    CREATE DATABASE dagster OWNER cloudsqlsuperuser;
"""


@pytest.fixture(scope="module", params=[16, 18])
def managed_server(request, open_tmp):
    server = Server(open_tmp(), request.param, tcp=True)
    server.start()
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for statement in MANAGED.strip().split(";")[:-1]:
            connection.execute(statement)
    with psycopg.connect(server.url("ny_taxi"), autocommit=True) as connection:
        connection.execute("CREATE TABLE trips (id int)")
    yield server
    server.stop("immediate")


def make_role(server, password):
    sql = (PROJECT / "deploy" / "gcp" / "dagster_role.sql").read_text()
    where = ["--host", "127.0.0.1", "--port", str(server.port), "--username", "taxi_admin", "--dbname", "dagster"]
    subprocess.run(
        [server.binaries / "psql", "--no-psqlrc", "--quiet", *where, "--file", "-"],
        input=f"\\set dagster_password {password}\n{sql}", text=True, check=True, env={"PGPASSWORD": "admin"},
    )  # fmt: skip


def as_dagster(server, database, password, statement):
    where = f"host=127.0.0.1 port={server.port} user=dagster dbname={database} password={password}"
    with psycopg.connect(where) as connection:
        connection.execute(statement)


def test_dagster_owns_its_history_and_sees_nothing_else(managed_server):
    make_role(managed_server, "first")
    as_dagster(managed_server, "dagster", "first", "CREATE TABLE runs (id int)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_dagster(managed_server, "ny_taxi", "first", "SELECT * FROM trips")


def test_run_again_it_changes_the_password(managed_server):
    make_role(managed_server, "first")
    make_role(managed_server, "second")
    as_dagster(managed_server, "dagster", "second", "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        as_dagster(managed_server, "dagster", "first", "SELECT 1")
