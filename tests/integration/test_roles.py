"""The roles of the stack and of production, made by one who is no superuser, as on Cloud SQL, and what they may do."""

import subprocess

import psycopg
import pytest

from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings import PROJECT
from taxi_assets.resources.settings_store import SettingsStore
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


def make(server, file, database, **passwords):
    where = ["--host", "127.0.0.1", "--port", str(server.port), "--username", "taxi_admin", "--dbname", database]
    given = "".join(f"\\set {name} {password}\n" for name, password in passwords.items())
    subprocess.run(
        [server.binaries / "psql", "--no-psqlrc", "--quiet", *where, "--file", "-"],
        input=given + (PROJECT / "deploy" / file).read_text(), text=True, check=True, env={"PGPASSWORD": "admin"},
    )  # fmt: skip


def make_dagster(server, password):
    make(server, "gcp/dagster_role.sql", "dagster", dagster_password=password)


def make_loader_and_reader(server, password="first"):
    make(server, "postgres/roles.sql", "ny_taxi", loader_password=password, reader_password=f"{password}-reader")


def url(server, user, password, database="ny_taxi"):
    return f"postgresql://{user}:{password}@127.0.0.1:{server.port}/{database}"


def run(where, statement):
    with psycopg.connect(where) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def as_dagster(server, database, password, statement):
    return run(url(server, "dagster", password, database), statement)


def test_dagster_owns_its_history_and_sees_nothing_else(managed_server):
    make_dagster(managed_server, "first")
    as_dagster(managed_server, "dagster", "first", "CREATE TABLE runs (id int)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_dagster(managed_server, "ny_taxi", "first", "SELECT * FROM trips")


def test_run_again_it_changes_the_password(managed_server):
    make_dagster(managed_server, "first")
    make_dagster(managed_server, "second")
    as_dagster(managed_server, "dagster", "second", "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        as_dagster(managed_server, "dagster", "first", "SELECT 1")


@pytest.mark.filterwarnings("default:.*has already been granted membership")
def test_the_loader_loads_and_the_reader_reads(managed_server, green):
    make_loader_and_reader(managed_server)
    make_loader_and_reader(managed_server)  # nothing is wrong with a second time
    loader, reader = url(managed_server, "taxi_loader", "first"), url(managed_server, "taxi_reader", "first-reader")
    trip_file, path = green
    postgres = Postgres(url=loader)
    assert postgres.stage(trip_file, path).rows == 2000
    assert postgres.merge(trip_file).inserted == 2000
    SettingsStore(postgres=postgres).set("GCP_DATASET", "trips")
    assert run(reader, "SELECT count(*) FROM green_tripdata") == [(2000,)]


@pytest.mark.parametrize(
    ("who", "password", "statement"),
    [
        ("taxi_loader", "first", "SELECT * FROM trips"),
        ("taxi_loader", "first", "DROP TABLE trips"),
        ("taxi_loader", "first", "CREATE ROLE more"),
        ("taxi_reader", "first-reader", "SELECT * FROM trips"),
        ("taxi_reader", "first-reader", "CREATE TABLE mine ()"),
        ("taxi_reader", "first-reader", "CREATE TEMPORARY TABLE mine ()"),
        ("taxi_reader", "first-reader", "CREATE SCHEMA mine"),
        ("taxi_reader", "first-reader", "SELECT * FROM taxi.settings"),
        ("taxi_reader", "first-reader", "DELETE FROM green_tripdata"),
        ("taxi_reader", "first-reader", "DROP TABLE green_tripdata"),
    ],
)
def test_what_they_may_not_do(managed_server, who, password, statement):
    make_loader_and_reader(managed_server)
    run(url(managed_server, "taxi_loader", "first"), "CREATE SCHEMA IF NOT EXISTS taxi")
    run(url(managed_server, "taxi_loader", "first"), "CREATE TABLE IF NOT EXISTS taxi.settings ()")
    run(url(managed_server, "taxi_loader", "first"), "CREATE TABLE IF NOT EXISTS green_tripdata ()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(url(managed_server, who, password), statement)


def test_passwords_are_changed(managed_server):
    make_loader_and_reader(managed_server, "first")
    make_loader_and_reader(managed_server, "second")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        run(url(managed_server, "taxi_loader", "first"), "SELECT 1")
    assert run(url(managed_server, "taxi_reader", "second-reader"), "SELECT 1") == [(1,)]
