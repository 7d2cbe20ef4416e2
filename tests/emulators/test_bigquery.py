"""The fake BigQuery does what BigQuery's documentation says, through Google's own client, and refuses the rest.

Every group of expectations names the page that it comes from, below https://cloud.google.com/bigquery/docs/.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from taxi_assets.sql import bigquery as statement
from taxi_assets.trips import COLORS, TripFile
from tests.emulators.bigquery import FakeBigQuery, Fault, GoogleError, service_disabled
from tests.emulators.storage import StorageEmulator

PROJECT = "a-project"
MEGABYTE = 1 << 20
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def emulated_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageEmulator]:
    with StorageEmulator(tmp_path_factory.mktemp("storage")) as emulator:
        make_storage(emulator).create_bucket("bucket")
        yield emulator


@pytest.fixture(scope="module")
def server(emulated_storage: StorageEmulator) -> Iterator[FakeBigQuery]:
    with FakeBigQuery(emulated_storage.url) as server:
        yield server


@pytest.fixture
def fake(server: FakeBigQuery) -> Iterator[FakeBigQuery]:
    server.requests.clear()
    yield server
    server.faults.clear()
    server.latency = lambda job: None


@pytest.fixture
def client(fake: FakeBigQuery) -> Iterator[bigquery.Client]:
    with make_client(fake.url) as client:
        client.create_dataset("d")
        yield client
        for dataset in client.list_datasets():
            client.delete_dataset(dataset.reference, delete_contents=True)


@pytest.fixture
def job_id() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def query(client: bigquery.Client) -> Query:
    """Runs statements; the rows of the last one."""

    def run(*statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for text in statements:
            rows = [tuple(row.values()) for row in client.query(text, job_retry=None).result(job_retry=None)]
        return rows

    return run


@pytest.fixture
def upload(emulated_storage: StorageEmulator) -> Callable[[str, bytes], str]:
    def put(name: str, content: bytes) -> str:
        make_storage(emulated_storage).bucket("bucket").blob(name).upload_from_string(content)
        return f"gs://bucket/{name}"

    return put


def make_client(url: str, location: str | None = None) -> bigquery.Client:
    return bigquery.Client(PROJECT, AnonymousCredentials(), location=location, client_options={"api_endpoint": url})


def make_storage(emulator: StorageEmulator) -> storage.Client:
    return storage.Client(PROJECT, AnonymousCredentials(), client_options={"api_endpoint": emulator.url})


def run(client: bigquery.Client, text: str, **options: Any) -> bigquery.QueryJob:
    job = client.query(text, bigquery.QueryJobConfig(**options), job_retry=None)
    job.result(job_retry=None)
    return job


def dry_run(client: bigquery.Client, text: str, **options: Any) -> bigquery.QueryJob:
    return client.query(text, bigquery.QueryJobConfig(dry_run=True, **options), job_retry=None)


def fail(client: bigquery.Client, text: str, **options: Any) -> bigquery.QueryJob:
    job = client.query(text, bigquery.QueryJobConfig(**options), job_retry=None)
    with pytest.raises(exceptions.GoogleAPICallError):
        job.result(job_retry=None)
    job.reload()  # the answer to the request for results names no rows
    return job


def refused(query: Query, text: str) -> str:
    """What a statement fails with."""
    with pytest.raises(exceptions.BadRequest) as caught:
        query(text)
    return str(caught.value)


# The project's own statements, on a real file


def parts(trip_file: TripFile, uri: str) -> dict[str, str]:
    color, pickup = trip_file.color, f"`{trip_file.color.pickup}`"
    by_name = {column.name: column for column in color.columns}
    texts = {"STRING": "`{}`", "TIMESTAMP": "FORMAT_TIMESTAMP('%F %T', `{}`)", "NUMERIC": "CAST(`{}` AS STRING)"}
    days = "({0} >= TIMESTAMP '2020-02-01' AND {0} < TIMESTAMP '2020-05-01') OR ({0} < TIMESTAMP '2009-01-02')"
    return {
        "external": f"`{PROJECT}.d.{trip_file.external_table}`",
        "staging": f"`{PROJECT}.d.{trip_file.staging_table}`",
        "table": f"`{PROJECT}.d.{color.table}`",
        "columns": ", ".join(f"`{column.name}` {column.bigquery_type}" for column in color.columns),
        "described": ", ".join(
            f"`{column.name}` {column.bigquery_type} OPTIONS (description = 'of {column.name}')"
            for column in color.table_columns
        ),
        "names": ", ".join(f"`{column.name}`" for column in color.columns),
        "all_names": ", ".join(f"`{column.name}`" for column in color.table_columns),
        "row_id": ", ".join(
            f"COALESCE({texts[by_name[name].bigquery_type].format(name)}, '')" for name in color.row_id
        ),
        "uri": f"'{uri}'",
        "compression": "'GZIP'",
        "description": r"'The month\'s trips'",
        "labels": "[('taxi', 'green'), ('file', 'a')]",
        "expiration_seconds": "259200",
        "filename": f"'{trip_file.csv_name}'",
        "pickup": pickup,
        "days": days.format(pickup),
        "merged_days": days.format(f"merged.{pickup}"),
        "first_day": "TIMESTAMP '2020-04-01'",
        "next_month": "TIMESTAMP '2020-05-01'",
    }


@pytest.fixture(scope="module")
def real_rows(real_data: Path) -> list[dict[str, str]]:
    text = gzip.decompress((real_data / "real" / "green_tripdata_2020-04.csv.gz").read_bytes()).decode()
    return [dict(zip(COLORS["green"].header, line.split(","), strict=True)) for line in text.splitlines()[1:]]


@pytest.mark.parametrize("color", ["green", "yellow"])
def test_a_real_month(
    color: str, client: bigquery.Client, query: Query, upload: Any, real_data: Path, real_rows: list[dict[str, str]]
) -> None:
    trip_file = TripFile.of(color, "2020-04")
    header, content = trip_file.color.header, (real_data / "real" / "green_tripdata_2020-04.csv.gz").read_bytes()
    if color == "yellow":  # the same trips, written as those of yellow taxis
        rows = [[row[name.replace("tpep", "lpep")] for name in header] for row in real_rows]
        content = gzip.compress("\r\n".join(map(",".join, [header, *rows])).encode(), 1)
    filled = parts(trip_file, upload(trip_file.gz_name, content))

    query(statement("create_external_table", **filled))
    staged = run(client, statement("create_staging_table", **filled))
    query(statement("create_final_table", **(filled | {"columns": filled["described"]})))
    merge = statement("merge_into_final_table", **filled)
    assert [run(client, merge).num_dml_affected_rows for _ in range(2)] == [35612, 0]

    assert (staged.statement_type, staged.ddl_operation_performed) == ("CREATE_TABLE_AS_SELECT", "CREATE")
    assert sum(trips for _, trips in query(statement("count_trips_per_day", **filled))) == 35612
    assert query(f"SELECT SUM(total_amount), COUNT(*) FROM d.{color}_tripdata") == [(Decimal("701002.26"), 35612)]
    ids = sorted(make_id(row) for row in real_rows)
    assert [row[0] for row in query(f"SELECT unique_row_id FROM d.{color}_tripdata ORDER BY 1")] == ids
    id_sum = sum(int(row_id[:8], 16) for row_id in ids)
    assert query(statement("count_rows_of_file", **filled)) == [(35612, 6, 0, id_sum)]

    table = client.get_table(f"d.{color}_tripdata")
    assert (table.num_rows, table.table_type, table.location) == (35612, "TABLE", "US")
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", trip_file.color.pickup)
    assert table.clustering_fields == ["PULocationID", "DOLocationID"] and table.expires is None
    assert (table.description, table.labels) == ("The month's trips", {"taxi": "green", "file": "a"})
    assert table.schema[2] == bigquery.SchemaField("VendorID", "STRING", "NULLABLE", description="of VendorID")
    assert [field.field_type for field in table.schema[3:5]] == ["TIMESTAMP", "TIMESTAMP"]
    staging = client.get_table(f"d.{trip_file.staging_table}")
    assert timedelta(days=2) < staging.expires - datetime.now(timezone.utc) <= timedelta(days=3)


def make_id(row: dict[str, str]) -> str:
    numbers = [repr(float(row[name])).removesuffix(".0") for name in ("fare_amount", "trip_distance")]
    texts = [row[name] for name in COLORS["green"].row_id[:5]]
    return hashlib.md5("".join(texts + numbers).encode()).hexdigest()


# Values and expressions


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        # reference/standard-sql/conversion_functions
        ("CAST(CAST('5' AS NUMERIC) AS STRING)", "5"),
        ("CAST(CAST('.79' AS NUMERIC) AS STRING)", "0.79"),
        ("CAST(CAST('-5.000' AS NUMERIC) AS STRING)", "-5"),
        ("CAST(CAST('-0.50' AS NUMERIC) AS STRING)", "-0.5"),
        ("CAST(CAST('0' AS NUMERIC) AS STRING)", "0"),
        ("CAST(CAST('12.50' AS NUMERIC) AS STRING)", "12.5"),
        ("CAST(CAST('100' AS NUMERIC) AS STRING)", "100"),
        ("CAST('0.123456789' AS NUMERIC)", Decimal("0.123456789")),
        ("CAST('0.1234567895' AS NUMERIC)", Decimal("0.12345679")),
        ("CAST('0xffffffff' AS INT64)", 4294967295),
        ("CAST('-12' AS INT64)", -12),
        ("CAST(CAST('2.5' AS NUMERIC) AS INT64)", 3),
        ("CAST(2.5 AS INT64)", 3),
        ("CAST(-2.5 AS INT64)", -3),
        ("CAST(7 AS STRING)", "7"),
        ("CAST(TRUE AS STRING)", "true"),
        ("CAST(NULL AS STRING)", None),
        ("CAST(TIMESTAMP '2020-04-30 23:59:59' AS DATE)", date(2020, 4, 30)),
        # reference/standard-sql/operators#arithmetic_operators
        ("1 / 2", 0.5),
        ("2000000000 * 2", 4000000000),
        ("CAST('0.1' AS NUMERIC) + CAST('0.2' AS NUMERIC)", Decimal("0.3")),
        ("CAST('0.000000001' AS NUMERIC) * CAST('0.5' AS NUMERIC)", Decimal("0.000000001")),
        ("CAST('1' AS NUMERIC) / 3", Decimal("0.333333333")),
        ("CAST('-2' AS NUMERIC) / 3", Decimal("-0.666666667")),
        ("CAST('0.1' AS NUMERIC) = 0.1", True),
        ("-(3 - 5)", 2),
        # reference/standard-sql/operators#logical_operators
        ("NULL AND FALSE", False),
        ("NULL OR FALSE", None),
        ("NOT TRUE", False),
        ("NULL IS NULL", True),
        ("(1 = 2) IS FALSE", True),
        ("2 BETWEEN 1 AND 2", True),
        ("'a_b' LIKE 'a\\\\_b'", True),
        ("'axb' NOT LIKE 'a\\\\_b'", True),
        ("1 IN (2, 3)", False),
        # reference/standard-sql/string_functions
        ("CONCAT('a', NULL)", None),
        ("CONCAT('a', 'b', 'c')", "abc"),
        ("'a' || 'b'", "ab"),
        ("SUBSTR('abcdef', 2, 3)", "bcd"),
        ("LENGTH('zürich')", 6),
        ("UPPER('a')", "A"),
        ("STARTS_WITH('abc', 'ab')", True),
        ("TO_HEX(MD5('abc'))", "900150983cd24fb0d6963f7d28e17f72"),
        ("MD5('')", bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")),
        ("'it\\'s'", "it's"),
        ("' DROP EXTERNAL TABLE d.e'", " DROP EXTERNAL TABLE d.e"),
        # reference/standard-sql/conditional_expressions
        ("COALESCE(NULL, 'x')", "x"),
        ("IFNULL(NULL, 1)", 1),
        ("NULLIF(1, 1)", None),
        ("IF(NULL, 1, 2)", 2),
        ("CASE WHEN 1 > 2 THEN 'a' END", None),
        # reference/standard-sql/timestamp_functions, and the names of format elements
        ("TIMESTAMP '2020-04-01'", datetime(2020, 4, 1, tzinfo=timezone.utc)),
        ("TIMESTAMP '2020-04-01 01:02:03.5+02:00'", datetime(2020, 3, 31, 23, 2, 3, 500000, timezone.utc)),
        ("FORMAT_TIMESTAMP('%F %T', TIMESTAMP '2020-04-01 01:02:03.9')", "2020-04-01 01:02:03"),
        ("DATE(TIMESTAMP '2008-12-31 23:59:59')", date(2008, 12, 31)),
        (
            "TIMESTAMP_ADD(TIMESTAMP '2020-02-28 23:59:59', INTERVAL 1 SECOND)",
            datetime(2020, 2, 29, tzinfo=timezone.utc),
        ),
        ("TIMESTAMP_TRUNC(TIMESTAMP '2020-02-28 23:59:59', HOUR)", datetime(2020, 2, 28, 23, tzinfo=timezone.utc)),
        ("EXTRACT(YEAR FROM DATE '2020-02-28')", 2020),
        ("DATE '2020-01-01' = '2020-01-01'", True),
        # reference/standard-sql/mathematical_functions
        ("ROUND(CAST('2.345' AS NUMERIC), 2)", Decimal("2.35")),
        ("ROUND(-2.5)", -3.0),
        ("ABS(-1)", 1),
    ],
)
def test_values(expression: str, value: Any, query: Query) -> None:
    [(found,)] = query(f"SELECT {expression}")
    assert (found, type(found)) == (value, type(value))


def test_aggregates(query: Query) -> None:
    """reference/standard-sql/aggregate_functions: NULL is left out, and nothing at all sums up to NULL."""
    query(
        "CREATE TABLE d.numbers AS SELECT 'a' AS name, 1 AS n, CAST('1.1' AS NUMERIC) AS amount",
        insert("numbers", "SELECT 'a' AS name, 2 AS n, CAST('2.2' AS NUMERIC) AS amount"),
        insert("numbers", "SELECT 'b' AS name, CAST(NULL AS INT64) AS n, CAST(NULL AS NUMERIC) AS amount"),
    )
    everything = "COUNT(*), COUNT(n), COUNT(DISTINCT name), SUM(n), SUM(amount), AVG(n), AVG(amount), MIN(n), MAX(name)"
    assert query(f"SELECT {everything} FROM d.numbers") == [(3, 2, 2, 3, Decimal("3.3"), 1.5, Decimal("1.65"), 1, "b")]
    nothing = "SELECT SUM(n), SUM(amount), AVG(amount), COUNTIF(n > 0), COUNT(*) FROM d.numbers WHERE FALSE"
    assert query(nothing) == [(None, None, None, 0, 0)]
    grouped = "SELECT name AS n, SUM(n) AS s FROM d.numbers AS t GROUP BY n HAVING s IS NULL OR s > 2 ORDER BY s DESC"
    assert query(grouped) == [("a", 3), ("b", None)]  # a name in GROUP BY means the column of the answer


def insert(table: str, source: str) -> str:
    return f"MERGE d.{table} USING ({source}) ON FALSE WHEN NOT MATCHED THEN INSERT ROW"


def test_order_and_limit(query: Query) -> None:
    """reference/standard-sql/query-syntax#order_by_clause: NULL comes first, and last where it goes down."""
    query(
        "CREATE TABLE d.t AS SELECT 1 AS a",
        insert("t", "SELECT CAST(NULL AS INT64) AS a"),
        insert("t", "SELECT 2 AS a"),
    )
    assert query("SELECT a FROM d.t ORDER BY a") == [(None,), (1,), (2,)]
    assert query("SELECT DISTINCT a FROM d.t ORDER BY 1 DESC") == [(2,), (1,), (None,)]
    assert query("SELECT a FROM d.t ORDER BY a NULLS LAST LIMIT 1 OFFSET 1") == [(2,)]


def test_names(client: bigquery.Client, query: Query) -> None:
    """reference/standard-sql/lexical#case_sensitivity: tables are sensitive to case, columns are not."""
    query("CREATE TABLE d.Trips AS SELECT 1 AS VendorID, 2 AS other")
    for name in (f"`{PROJECT}.d.Trips`", f"`{PROJECT}`.`d`.`Trips`", "`d.Trips`", "d.Trips"):
        assert query(f"SELECT vendorid, t.OTHER FROM {name} AS t WHERE VENDORID = 1") == [(1, 2)]
    columns = [field.name for field in client.query("SELECT *, 1, 'x' FROM d.Trips").result().schema]
    assert columns == ["VendorID", "other", "f0_", "f1_"]
    with pytest.raises(exceptions.NotFound, match=f"Not found: Table {PROJECT}:d.trips was not found in location US"):
        query("SELECT 1 FROM d.trips")
    default = bigquery.QueryJobConfig(default_dataset=f"{PROJECT}.d")
    assert [tuple(row) for row in client.query("SELECT other FROM Trips", default).result()] == [(2,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT foo", "Unrecognized name: foo at [1:8]"),
        ("SELECT 1,\n  a + foo FROM d.t", "Unrecognized name: foo at [2:7]"),
        ("SELECT t.foo FROM d.t", "Name foo not found inside t at [1:10]"),
        ("SELECT u.a FROM d.t", "Unrecognized name: u at [1:8]"),
        ("SELECT a, COUNT(*) FROM d.t", "neither grouped nor aggregated"),
        ("SELECT a, A FROM d.t", "Duplicate column names in the result are not supported"),
        ("SELECT a FROM t", 'Table "t" must be qualified with a dataset'),
        ("SELEC 1", "Syntax error"),
        ("", "Required parameter is missing: query"),
        ("SELECT 1 FROM d.t WHERE a", "should return type BOOL"),
        ("SELECT a / 0 FROM d.t", "division by zero"),
        ("SELECT CAST('1.0' AS INT64)", "Bad int64 value: 1.0"),
        ("SELECT CAST('x' AS NUMERIC)", "Invalid NUMERIC value: x"),
        ("SELECT TIMESTAMP '01/01/2021 0:30'", 'Could not cast literal "01/01/2021 0:30" to type TIMESTAMP'),
        ("SELECT 9223372036854775807 + a FROM d.t", "Overflow"),
        ("MERGE d.t USING d.t AS s ON TRUE WHEN NOT MATCHED THEN INSERT (b) VALUES (1)", "Column b is not present"),
        ("MERGE d.t USING d.t AS s ON TRUE WHEN NOT MATCHED THEN INSERT (a) VALUES (1, 2)", "wrong column count"),
        ("CREATE TABLE d.u (a STRING) PARTITION BY DATE(a)", "needs a column of type TIMESTAMP"),
        ("CREATE TABLE d.u AS SELECT a, 1 FROM d.t", "CREATE TABLE columns must be named, but column 2 has no name"),
        ("CREATE TABLE d.u (a STRING) CLUSTER BY b", "The field specified for clustering cannot be found"),
        (
            "CREATE OR REPLACE TABLE d.t (a TIMESTAMP) PARTITION BY DATE(a) CLUSTER BY a",
            "Cannot replace a table with a different partitioning spec. Instead, DROP the table, and then recreate it. "
            "New partitioning spec is interval(type:day,field:a) clustering(a) and existing spec is none",
        ),
        ("DROP EXTERNAL TABLE d.t", "which this DROP is not for"),
    ],
)
def test_mistakes(text: str, message: str, query: Query) -> None:
    """error-messages: reasons, and the words that BigQuery finds."""
    query("CREATE TABLE d.t AS SELECT 1 AS a")
    assert message in refused(query, text)


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE d.t SET a = 1 WHERE TRUE",
        "DELETE FROM d.t WHERE TRUE",
        "INSERT INTO d.t (a) VALUES (1)",
        "TRUNCATE TABLE d.t",
        "SELECT 1; SELECT 2",
        "BEGIN SELECT 1; END",
        "DECLARE x INT64",
        "CALL d.p()",
        "CREATE FUNCTION d.f(x INT64) AS (x)",
        "CREATE VIEW d.v AS SELECT 1 AS a",
        "CREATE TEMP TABLE u AS SELECT 1 AS a",
        "CREATE TABLE d.u LIKE d.t",
        "CREATE TABLE d.u (a STRING NOT NULL)",
        "CREATE TABLE d.u (a STRING DEFAULT 'x')",
        "CREATE TABLE d.u (a GEOGRAPHY)",
        "CREATE TABLE d.u (a NUMERIC(5, 2))",
        "CREATE TABLE d.u (a ARRAY<INT64>)",
        "CREATE TABLE d.u (a STRING) OPTIONS (kms_key_name = 'k')",
        "CREATE TABLE d.u (a STRING OPTIONS (rounding_mode = 'x'))",
        "CREATE TABLE d.u (a DATE) PARTITION BY a",
        "CREATE TABLE d.u (a TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(a, MONTH)",
        "CREATE EXTERNAL TABLE d.e (a STRING) OPTIONS (format = 'CSV', uris = ['gs://b/*.csv'])",
        "CREATE EXTERNAL TABLE d.e (a STRING) OPTIONS (format = 'PARQUET', uris = ['gs://b/a'])",
        "CREATE EXTERNAL TABLE d.e (a STRING) OPTIONS (format = 'CSV', uris = ['gs://b/a'], max_bad_records = 1)",
        "CREATE EXTERNAL TABLE d.e (a BOOL) OPTIONS (format = 'CSV', uris = ['gs://b/a'])",
        "CREATE EXTERNAL TABLE d.e OPTIONS (format = 'CSV', uris = ['gs://b/a'])",
        "MERGE d.t USING d.t AS s ON TRUE WHEN MATCHED THEN DELETE",
        "MERGE d.t USING d.t AS s ON TRUE WHEN NOT MATCHED BY SOURCE THEN DELETE",
        "MERGE d.t USING d.t AS s ON TRUE WHEN NOT MATCHED AND a > 1 THEN INSERT ROW",
        "MERGE d.t USING (SELECT 1 AS b) ON TRUE WHEN NOT MATCHED THEN INSERT ROW",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "SELECT a FROM d.t UNION ALL SELECT a FROM d.t",
        "SELECT t.a FROM d.t JOIN d.t AS u ON t.a = u.a",
        "SELECT a FROM d.t, d.t AS u",
        "SELECT a FROM d.t WHERE a IN (SELECT a FROM d.t)",
        "SELECT (SELECT 1)",
        "SELECT * EXCEPT (a) FROM d.t",
        "SELECT x FROM UNNEST([1]) AS x",
        "SELECT [1, 2]",
        "SELECT STRUCT(1 AS a)",
        "SELECT ROW_NUMBER() OVER () FROM d.t",
        "SELECT a FROM d.t QUALIFY TRUE",
        "SELECT a FROM d.t TABLESAMPLE SYSTEM (10 PERCENT)",
        "SELECT a FROM d.t FOR SYSTEM_TIME AS OF TIMESTAMP '2020-01-01'",
        "SELECT a FROM d.`t*`",
        "SELECT table_name FROM d.INFORMATION_SCHEMA.TABLES",
        "SELECT FARM_FINGERPRINT('x')",
        "SELECT SAFE_CAST('x' AS INT64)",
        "SELECT SAFE.SUBSTR('x', 1)",
        "SELECT SUM(DISTINCT a) FROM d.t",
        "SELECT CAST(1.5 AS STRING)",
        "SELECT CAST('1' AS NUMERIC) * 1.5",
        "SELECT CONCAT('a', 1)",
        "SELECT SUBSTR('abc', -1)",
        "SELECT FORMAT_TIMESTAMP('%c', TIMESTAMP '2020-01-01')",
        "SELECT DATE(TIMESTAMP '2020-01-01', 'America/New_York')",
        "SELECT CAST('2020-01-01 00:00:00 America/New_York' AS TIMESTAMP FORMAT 'x')",
        "SELECT 1 = '1'",
        "SELECT @p",
        "SELECT b'x'",
    ],
)
def test_refusals(text: str, query: Query) -> None:
    query("CREATE TABLE d.t AS SELECT 1 AS a")
    assert "Unsupported by the fake BigQuery: " in refused(query, text)


# Tables: reference/standard-sql/data-definition-language


def test_creating_tables(client: bigquery.Client, query: Query) -> None:
    create = "TABLE {} d.t (a STRING, b INT64) OPTIONS (description = 'one')"
    jobs = [run(client, f"CREATE {create.format(extra)}") for extra in ("", "IF NOT EXISTS")]
    jobs.append(run(client, f"CREATE OR REPLACE {create.format('')}"))
    assert [job.ddl_operation_performed for job in jobs] == ["CREATE", "SKIP", "REPLACE"]
    assert {job.statement_type for job in jobs} == {"CREATE_TABLE"}
    assert jobs[0].ddl_target_table == bigquery.TableReference.from_string(f"{PROJECT}.d.t")
    assert {job.total_bytes_billed for job in jobs} == {0}
    with pytest.raises(exceptions.Conflict, match=f"Already Exists: Table {PROJECT}:d.t"):
        query(f"CREATE {create.format('')}")
    assert run(client, "DROP TABLE d.t").statement_type == "DROP_TABLE"
    query("DROP TABLE IF EXISTS d.t")
    with pytest.raises(exceptions.NotFound):
        query("DROP TABLE d.t")


def test_a_replaced_table_keeps_nothing(client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.t (a STRING) OPTIONS (labels = [('x', 'y')])", "CREATE OR REPLACE TABLE d.t AS SELECT 1 AS b")
    table = client.get_table("d.t")
    assert ([field.name for field in table.schema], table.labels, table.num_rows) == (["b"], {}, 1)


def test_an_expired_table_is_gone(client: bigquery.Client, query: Query) -> None:
    soon = "OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 SECOND))"
    query(f"CREATE TABLE d.t {soon} AS SELECT 1 AS a")
    assert client.get_table("d.t").expires and query("SELECT a FROM d.t") == [(1,)]
    time.sleep(1)
    with pytest.raises(exceptions.NotFound):
        query("SELECT a FROM d.t")
    with pytest.raises(exceptions.NotFound):
        client.get_table("d.t")
    assert not list(client.list_tables("d"))


# MERGE: reference/standard-sql/dml-syntax#merge_statement and data-manipulation-language#concurrent_jobs


def merge(source: str) -> str:
    return (
        f"MERGE d.t AS merged USING ({source}) AS staged ON merged.a = staged.a "
        "WHEN NOT MATCHED BY TARGET THEN INSERT (a, b) VALUES (a, CONCAT(b, '!'))"
    )


def test_merge(client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.t (c INT64, b STRING, a INT64)", "CREATE TABLE d.s AS SELECT 1 AS a, 'x' AS b")
    query(insert("s", "SELECT 1 AS a, 'y' AS b"), insert("s", "SELECT CAST(NULL AS INT64) AS a, 'z' AS b"))
    job = run(client, merge("SELECT a, b FROM d.s"))
    assert (job.statement_type, job.num_dml_affected_rows, job.dml_stats.inserted_row_count) == ("MERGE", 3, 3)
    again = run(client, merge("SELECT a, b FROM d.s"))
    assert again.num_dml_affected_rows == 1  # NULL equals nothing, not even NULL
    assert query("SELECT a, b, c FROM d.t ORDER BY 1, 2") == [
        (None, "z!", None), (None, "z!", None), (1, "x!", None), (1, "y!", None)
    ]  # fmt: skip


def test_merges_at_once_insert_both(fake: FakeBigQuery, client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.t (a INT64, b STRING)")
    both = threading.Barrier(2)
    fake.latency = lambda job: both.wait(10)
    jobs = [client.query(merge("SELECT 1 AS a, 'x' AS b"), job_retry=None) for _ in range(2)]
    assert [job.result() and job.num_dml_affected_rows for job in jobs] == [1, 1]
    fake.latency = lambda job: None
    assert query("SELECT a FROM d.t") == [(1,), (1,)]


def test_a_merge_is_seen_whole_and_when_it_has_ended(fake: FakeBigQuery, client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.t (a INT64, b STRING)")
    go_on = threading.Event()
    fake.latency = lambda job: go_on.wait(10) if job.statement.type == "MERGE" else None
    job = client.query(merge("SELECT 1 AS a, 'x' AS b"), job_retry=None)
    assert job.state in ("PENDING", "RUNNING") and query("SELECT a FROM d.t") == []
    assert not job.done() and [found.job_id for found in client.list_jobs(state_filter="running")] == [job.job_id]
    go_on.set()
    job.result()
    assert query("SELECT a FROM d.t") == [(1,)]
    assert fake.seconds < 5


def test_a_merge_into_what_was_replaced(fake: FakeBigQuery, client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.t (a INT64, b STRING)")
    go_on = threading.Event()
    fake.latency = lambda job: go_on.wait(10) if job.statement.type == "MERGE" else None
    job = client.query(merge("SELECT 1 AS a, 'x' AS b"), job_retry=None)
    query("CREATE OR REPLACE TABLE d.t (a INT64, b STRING)")
    go_on.set()
    with pytest.raises(exceptions.BadRequest, match="aborted due to concurrent update"):
        job.result(job_retry=None)
    assert query("SELECT a FROM d.t") == []


# External tables: loading-data-cloud-storage-csv and external-data-cloud-storage

COLUMNS = "name STRING, n INT64, amount NUMERIC, at TIMESTAMP, day DATE"


def external(*uris: str, **options: str) -> str:
    given = {"format": "'CSV'", "uris": f"[{', '.join(map(repr, uris))}]", "skip_leading_rows": "1", **options}
    written = ", ".join(f"{name} = {value}" for name, value in given.items())
    return f"CREATE OR REPLACE EXTERNAL TABLE d.e ({COLUMNS}) OPTIONS ({written})"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("gz", [False, True])
def test_csv(ends: str, gz: bool, query: Query, upload: Any) -> None:
    lines = [
        "h,e,a,d,er",
        "a,1,.79,2020-04-01 00:06:00,2020-04-01",
        ",,,,",
        "b,-7,1e3,2020-04-01 00:06:00.25 UTC,2020-4-1",
        '"c, ""d""",0,-12345678901234567890123456789.123456789,2020-04-01T02:06:00+02,2020-04-01',
        "e,0,0.10,2020-04-01 00:06:00Z,2020-04-01,more",
    ]
    content = ends.join(lines).encode()
    uri = upload("file", gzip.compress(content) if gz else content)
    query(external(uri, compression="'GZIP'" if gz else "'NONE'", ignore_unknown_values="TRUE"))
    at, day = datetime(2020, 4, 1, 0, 6, tzinfo=timezone.utc), date(2020, 4, 1)
    assert query("SELECT * FROM d.e") == [
        ("a", 1, Decimal(".79"), at, day),
        ("", None, None, None, None),
        ("b", -7, Decimal(1000), at + timedelta(milliseconds=250), day),
        ('c, "d"', 0, Decimal("-12345678901234567890123456789.123456789"), at, day),
        ("e", 0, Decimal(".1"), at, day),
    ]


GOOD = "a,1,2,2020-04-01 00:06:00,2020-04-01"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,1.0,,,", "Could not parse '1.0' as INT64 for field n (position 1) starting at location {} with message "),
        ("a,9223372036854775808,,,", "as INT64 for field n"),
        ("a,,x,,", "Could not parse 'x' as NUMERIC for field amount (position 2)"),
        ("a,,0.1234567891,,", "with message 'Invalid NUMERIC value: 0.1234567891' File: gs://bucket/file"),
        ("a,,1e-10,,", "Invalid NUMERIC value: 1e-10"),
        ("a,,,01/01/2021 0:30,", "Could not parse '01/01/2021 0:30' as TIMESTAMP for field at (position 3)"),
        ("a,,,2021-02-30 00:00:00,", "as TIMESTAMP for field at"),
        ("a,,,,x", "Could not parse 'x' as DATE for field day (position 4)"),
        ("a,1,2,", "references column position 4, but line starting at position:{} contains only 4 columns"),
        ("a,,,,,", "Too many values in row starting at position: {}. Found 6 column(s) while expected 5."),
        ('"a,,,,', "Missing close double quote"),
        ('"a"b,,,,', "Data between close double quote"),
        ("a\0b,,,,", "Bad character (ASCII 0) encountered"),
    ],
)
def test_bad_rows(row: str, message: str, client: bigquery.Client, query: Query, upload: Any) -> None:
    uri = upload("file", "\n".join(["name,n,amount,at,day", GOOD, row, GOOD, ""]).encode())
    query(external(uri))
    job = fail(client, "CREATE TABLE d.t AS SELECT * FROM d.e")
    assert job.error_result["reason"] == "invalid"
    assert job.error_result["message"] == (
        "Error while reading table: d.e, error message: CSV table encountered too many errors, giving up. Rows: 2; "
        "errors: 1. Please look into the errors[] collection for more details."
    )
    place = len("name,n,amount,at,day\n") + len(GOOD) + 1
    assert message.format(place) in job.errors[1]["message"]
    assert job.errors[1]["message"].startswith("Error while reading data, error message: ")
    assert not [table for table in client.list_tables("d") if table.table_id == "t"]


@pytest.mark.parametrize("row", ["", "a\rb,1,,,", 'a"b,1,,,', "a,\N{NO-BREAK SPACE}1,,,"[:0] + "\xff", 'x"", ,,,'])
def test_csv_that_is_refused(row: str, query: Query, upload: Any) -> None:
    query(external(upload("file", f"header\n{GOOD}\n{row}\n".encode("latin-1"))))
    assert "Unsupported by the fake BigQuery: " in refused(query, "SELECT * FROM d.e")


def test_the_file_is_read_when_it_is_queried(client: bigquery.Client, query: Query, upload: Any) -> None:
    job = run(client, external("gs://bucket/late", description="'d'", labels="[('a', 'b')]"))
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_EXTERNAL_TABLE", "CREATE")
    with pytest.raises(exceptions.NotFound, match="Not found: Files gs://bucket/late"):
        query("SELECT 1 FROM d.e")
    upload("late", f"header\n{GOOD}\n".encode())
    query(external("gs://bucket/late", "gs://bucket/late"))
    assert query("SELECT name FROM d.e") == [("a",), ("a",)]
    upload("late", f"header\n{GOOD.replace('a', 'z')}".encode())
    assert query("SELECT name FROM d.e") == [("z",), ("z",)]
    upload("late", b"header\n")
    assert query("SELECT name FROM d.e") == []
    table = client.get_table("d.e")
    assert (table.table_type, table.num_rows) == ("EXTERNAL", 0)
    assert table.external_data_configuration.source_uris == ["gs://bucket/late", "gs://bucket/late"]
    assert table.external_data_configuration.options.skip_leading_rows == 1
    with pytest.raises(exceptions.BadRequest, match="Cannot list a table of type EXTERNAL"):
        list(client.list_rows("d.e", selected_fields=table.schema))
    refused(query, "DROP TABLE d.e")
    query("-- words\nDROP EXTERNAL TABLE d.e", "DROP EXTERNAL TABLE IF EXISTS d.e")


@pytest.mark.parametrize(
    ("compression", "content"), [("GZIP", GOOD.encode()), ("NONE", gzip.compress(GOOD.encode() * 99, mtime=0))]
)
def test_the_wrong_compression(compression: str, content: bytes, query: Query, upload: Any) -> None:
    query(external(upload("file", content), compression=f"'{compression}'", skip_leading_rows="0"))
    assert "Error while reading" in refused(query, "SELECT * FROM d.e")


def test_a_truncated_file(query: Query, upload: Any) -> None:
    query(external(upload("file", gzip.compress(GOOD.encode() * 999)[:-20]), compression="'GZIP'"))
    assert "Error while reading data" in refused(query, "SELECT * FROM d.e")


# Costs: estimate-costs, best-practices-costs, querying-partitioned-tables, using-dml-with-partitioned-tables


@pytest.fixture
def days(client: bigquery.Client, query: Query) -> Callable[..., int]:
    """A table of four days with one row each, and bytes processed as both run and dry run tell."""
    query("CREATE TABLE d.days (name STRING, at TIMESTAMP, n INT64, amount NUMERIC) PARTITION BY DATE(at)")
    for day in range(1, 5):
        values = f"'ab' AS name, TIMESTAMP '2020-04-0{day} 12:00:00' AS at, {day} AS n, CAST(NULL AS NUMERIC) AS amount"
        query(insert("days", f"SELECT {values}"))

    def processed(text: str) -> int:
        dry = dry_run(client, text).total_bytes_processed
        assert run(client, text).total_bytes_processed == dry
        return int(dry)

    return processed


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("TRUE", 4),
        ("at >= TIMESTAMP '2020-04-02' AND at < TIMESTAMP '2020-04-03'", 1),
        ("t.AT >= '2020-04-02' AND at < TIMESTAMP '2020-04-03 00:00:01'", 2),
        ("at = TIMESTAMP '2020-04-02'", 1),
        ("TIMESTAMP '2020-04-02' <= at", 3),
        ("at BETWEEN TIMESTAMP '2020-04-02' AND TIMESTAMP '2020-04-03'", 2),
        ("(at < TIMESTAMP '2020-04-02') OR (at > TIMESTAMP '2020-04-03 23:59:59')", 3),
        ("at < TIMESTAMP '2020-04-02' AND at > TIMESTAMP '2020-04-03'", 0),
        ("DATE(at) = '2020-04-02' AND TRUE", 1),
        ("DATE(at) > DATE '2020-04-02'", 2),
        ("at < TIMESTAMP '2020-04-02' OR TRUE", 4),
        ("NOT at < TIMESTAMP '2020-04-02'", 4),
        ("TIMESTAMP_ADD(at, INTERVAL 1 DAY) < TIMESTAMP '2020-04-02'", 4),
    ],
)
def test_pruning(condition: str, rows: int, days: Callable[[str], int]) -> None:
    reads_at = condition != "TRUE"
    assert days(f"SELECT n FROM d.days AS t WHERE {condition}") == rows * (16 if reads_at else 8)


def test_bytes_of_columns(days: Callable[[str], int], client: bigquery.Client) -> None:
    assert days("SELECT COUNT(*) FROM d.days") == 0
    assert days("SELECT name FROM d.days") == 4 * 4
    assert days("SELECT amount FROM d.days") == 0
    assert days("SELECT * FROM d.days") == 4 * 20 == client.get_table("d.days").num_bytes
    assert days("SELECT n FROM (SELECT n, name FROM d.days)") == 4 * 12
    assert days("CREATE OR REPLACE TABLE d.copy AS SELECT n FROM d.days") == 32
    pruned = "merged.n = s.n AND merged.at < TIMESTAMP '2020-04-02'"
    insert_n = "WHEN NOT MATCHED THEN INSERT (n) VALUES (n)"
    assert days(f"MERGE d.days AS merged USING d.copy AS s ON {pruned} {insert_n}") == 32 + 16


def test_bytes_billed(client: bigquery.Client, days: Callable[[str], int], query: Query) -> None:
    query("CREATE TABLE d.other AS SELECT n FROM d.days")
    both = "MERGE d.days USING d.other ON days.n = other.n WHEN NOT MATCHED THEN INSERT (n) VALUES (n)"
    assert run(client, "SELECT n FROM d.days").total_bytes_billed == 10 * MEGABYTE
    assert run(client, both).total_bytes_billed == 20 * MEGABYTE
    assert (
        run(client, "SELECT 1").total_bytes_billed == run(client, "SELECT COUNT(*) FROM d.days").total_bytes_billed == 0
    )
    failed = fail(client, both, maximum_bytes_billed=10_000_000)
    assert failed.total_bytes_billed == fail(client, "SELECT n / 0 FROM d.days").total_bytes_billed == 0
    assert failed.error_result == {
        "reason": "bytesBilledLimitExceeded",
        "message": "Query exceeded limit for bytes billed: 10000000. 20971520 or higher required.",
    }
    assert run(client, both, maximum_bytes_billed=20 * MEGABYTE).num_dml_affected_rows == 0
    with pytest.raises(exceptions.BadRequest, match="20971520 or higher"):
        dry_run(client, both, maximum_bytes_billed=1)


def test_external_bytes(client: bigquery.Client, query: Query, upload: Any) -> None:
    content = f"header\n{GOOD}\n".encode()
    query(external(upload("file", gzip.compress(content)), compression="'GZIP'"))
    assert run(client, "SELECT name FROM d.e").total_bytes_processed == len(content)
    assert dry_run(client, "SELECT name FROM d.e").total_bytes_processed == 0


# Datasets and tables: reference/rest/v2/datasets and reference/rest/v2/tables


def test_datasets(client: bigquery.Client, query: Query) -> None:
    made = bigquery.Dataset(f"{PROJECT}.two")
    made.location, made.labels, made.description = "europe-west3", {"a": "b"}, "words"
    client.create_dataset(made)
    found = client.get_dataset("two")
    assert (found.location, found.labels, found.description) == ("europe-west3", {"a": "b"}, "words")
    assert [dataset.dataset_id for dataset in client.list_datasets(max_results=5, page_size=1)] == ["d", "two"]
    with pytest.raises(exceptions.Conflict, match=f"Already Exists: Dataset {PROJECT}:two"):
        client.create_dataset("two")
    query("CREATE TABLE d.t (a STRING)")
    with pytest.raises(exceptions.BadRequest, match="still in use") as caught:
        client.delete_dataset("d")
    assert caught.value.errors[0]["reason"] == "resourceInUse"
    client.delete_dataset("d", delete_contents=True)
    with pytest.raises(exceptions.NotFound, match=f"Not found: Dataset {PROJECT}:d"):
        client.get_dataset("d")
    with pytest.raises(exceptions.BadRequest, match="Invalid dataset ID"):
        client.create_dataset("a-b")


def test_tables(client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.a (x STRING, at TIMESTAMP) PARTITION BY DATE(at) OPTIONS (labels = [('k', 'v')])")
    query("CREATE TABLE d.b AS SELECT 1 AS n, TIMESTAMP '2020-04-01 00:00:00.000001' AS at, TRUE AS yes")
    for number in (2, 3):
        query(insert("b", f"SELECT {number} AS n, CAST(NULL AS TIMESTAMP) AS at, FALSE AS yes"))
    listed = list(client.list_tables("d", page_size=1))
    assert [(table.table_id, table.labels) for table in listed] == [("a", {"k": "v"}), ("b", {})]
    rows = list(client.list_rows("d.b", page_size=2))
    assert tuple(rows[0]) == (1, datetime(2020, 4, 1, 0, 0, 0, 1, timezone.utc), True)
    assert tuple(rows[2]) == (3, None, False)
    assert [row.n for row in client.list_rows("d.b", start_index=1, max_results=1)] == [2]
    before = client.get_table("d.b")
    query(insert("b", "SELECT 4 AS n, CAST(NULL AS TIMESTAMP) AS at, FALSE AS yes"))
    after = client.get_table("d.b")
    assert (before.num_rows, after.num_rows) == (3, 4) and before.etag != after.etag
    assert after.created <= after.modified
    client.delete_table("d.b")
    with pytest.raises(exceptions.NotFound, match=f"Not found: Table {PROJECT}:d.b"):
        client.get_table("d.b")
    with pytest.raises(exceptions.NotFound, match=f"Not found: Dataset {PROJECT}:none"):
        client.get_table("none.b")
    with pytest.raises(exceptions.BadRequest, match="Unsupported by the fake BigQuery: POST"):
        client.create_table(bigquery.Table(f"{PROJECT}.d.c"))
    with pytest.raises(exceptions.BadRequest, match="Unsupported by the fake BigQuery: PATCH"):
        client.update_table(client.get_table("d.a"), ["description"])


# Jobs: reference/rest/v2/jobs


def test_a_job(client: bigquery.Client, job_id: str) -> None:
    job = client.query(
        "SELECT 1 AS n",
        bigquery.QueryJobConfig(labels={"taxi": "green"}, priority="BATCH"),
        job_id=job_id,
        job_retry=None,
    )
    assert [tuple(row) for row in job.result()] == [(1,)]
    assert (job.state, job.location, job.statement_type, job.cache_hit) == ("DONE", "US", "SELECT", False)
    assert job.created <= job.started <= job.ended and job.slot_millis >= 1
    found = client.get_job(job_id)
    assert (found.labels, found.query, found.state) == ({"taxi": "green"}, "SELECT 1 AS n", "DONE")
    assert [tuple(row) for row in found.result()] == [(1,)]
    assert [listed.job_id for listed in client.list_jobs(max_results=1, all_users=True)] == [job_id]
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert not list(client.list_jobs(min_creation_time=later))
    assert not list(client.list_jobs(state_filter="running"))
    with pytest.raises(exceptions.NotFound, match=f"Not found: Job {PROJECT}:none"):
        client.get_job("none")


@pytest.mark.parametrize("first", ["SELECT 1", "SELECT foo"])
def test_an_id_is_taken_once(first: str, client: bigquery.Client, job_id: str) -> None:
    client.query(first, job_id=job_id, job_retry=None)
    with pytest.raises(exceptions.Conflict, match=f"Already Exists: Job {PROJECT}:US.{job_id}") as caught:
        client.query("SELECT 1", job_id=job_id, job_retry=None)
    assert caught.value.errors[0]["reason"] == "duplicate"
    client.query("SELECT 1", job_id=job_id, location="us-central1", job_retry=None).result()
    with pytest.raises(exceptions.NotFound):
        client.get_job(job_id, location="asia-east1")


def test_pages(client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.t AS SELECT 0 AS a", *(insert("t", f"SELECT {number} AS a") for number in range(1, 5)))
    job = client.query("SELECT a FROM d.t ORDER BY a")
    assert [row.a for row in job.result(page_size=2)] == [0, 1, 2, 3, 4]
    assert job.result().total_rows == 5
    assert [row.a for row in client.get_job(job.job_id).result(start_index=3)] == [3, 4]
    assert [row.a for row in client.get_job(job.job_id).result(max_results=2)] == [0, 1]


def test_query_and_wait(client: bigquery.Client, fake: FakeBigQuery) -> None:
    config = bigquery.QueryJobConfig(labels={"a": "b"}, maximum_bytes_billed=1)
    rows = client.query_and_wait("SELECT TIMESTAMP '2020-04-01' AS at", job_config=config)
    assert [row.at for row in rows] == [datetime(2020, 4, 1, tzinfo=timezone.utc)]
    with pytest.raises(exceptions.BadRequest, match="Unrecognized name: foo"):
        client.query_and_wait("SELECT foo", job_retry=None)
    fake.faults.append(Fault(lambda request: request.path.endswith("/queries"), after=True))
    client.query_and_wait("CREATE TABLE d.t (a STRING)")  # asked again, it is the same job
    assert client.get_table("d.t")


def test_a_dry_run_does_nothing(client: bigquery.Client, query: Query, job_id: str) -> None:
    create = "CREATE TABLE d.t AS SELECT 1 AS a"
    job = client.query(create, bigquery.QueryJobConfig(dry_run=True), job_id=job_id, job_retry=None)
    assert (job.state, job.total_bytes_processed, job.statement_type) == ("DONE", 0, "CREATE_TABLE_AS_SELECT")
    with pytest.raises(exceptions.NotFound):
        client.get_job(job_id)
    assert not list(client.list_tables("d"))
    with pytest.raises(exceptions.BadRequest, match="Unrecognized name: foo"):
        dry_run(client, "SELECT foo")
    with pytest.raises(exceptions.NotFound, match="Not found: Table"):
        dry_run(client, "SELECT a FROM d.t")
    query("CREATE TABLE d.t AS SELECT 1 AS a")
    with pytest.raises(exceptions.BadRequest, match="neither grouped"):
        dry_run(client, "SELECT a, COUNT(*) FROM d.t")


def test_locations(fake: FakeBigQuery, client: bigquery.Client) -> None:
    """locations: a job runs where its datasets are, and finds no others."""
    made = bigquery.Dataset(f"{PROJECT}.far")
    made.location = "us-central1"
    client.create_dataset(made)
    job = run(client, "CREATE TABLE far.t AS SELECT 1 AS a")
    assert job.location == "us-central1"
    with pytest.raises(exceptions.NotFound, match=f"Not found: Dataset {PROJECT}:far was not found in location EU"):
        client.query("SELECT a FROM far.t", location="EU", job_retry=None).result()
    with pytest.raises(exceptions.NotFound, match=f"Not found: Dataset {PROJECT}:none was not found in location US"):
        client.query("SELECT a FROM none.t", job_retry=None).result()
    with make_client(fake.url, location="us-central1") as near:
        assert [tuple(row) for row in near.query("SELECT a FROM far.t").result()] == [(1,)]


@pytest.mark.parametrize(
    ("option", "value"),
    [("use_legacy_sql", True), ("query_parameters", [bigquery.ScalarQueryParameter("p", "INT64", 1)]),
     ("destination", f"{PROJECT}.d.t"), ("write_disposition", "WRITE_APPEND"), ("create_session", True)],
)  # fmt: skip
def test_configuration_that_is_refused(option: str, value: Any, client: bigquery.Client) -> None:
    with pytest.raises(exceptions.BadRequest, match="Unsupported by the fake BigQuery: "):
        client.query("SELECT 1", bigquery.QueryJobConfig(**{option: value}))


def test_jobs_that_are_refused(client: bigquery.Client, query: Query) -> None:
    query("CREATE TABLE d.t (a INT64)")
    table = client.get_table("d.t")
    for send in (
        lambda: client.load_table_from_uri("gs://bucket/file", table),
        lambda: client.load_table_from_json([{"a": 1}], table),
        lambda: client.copy_table(table, f"{PROJECT}.d.u"),
        lambda: client.extract_table(table, "gs://bucket/file"),
        lambda: client.insert_rows_json(table, [{"a": 1}]),
    ):
        with pytest.raises(exceptions.BadRequest, match="Unsupported by the fake BigQuery: "):
            send()


def test_jobs_that_are_stopped(fake: FakeBigQuery, client: bigquery.Client) -> None:
    fake.latency = lambda job: time.sleep(0.3)
    for config in (bigquery.QueryJobConfig(), bigquery.QueryJobConfig(job_timeout_ms=50)):
        job = client.query("CREATE TABLE d.t AS SELECT 1 AS a", config, job_retry=None)
        if not config.job_timeout_ms:
            job.cancel()
        with pytest.raises(exceptions.GoogleAPICallError, match="Job execution was cancelled"):
            job.result(job_retry=None)
        job.reload()
        assert job.error_result["reason"] == "stopped"
    assert not list(client.list_tables("d"))


def test_results_are_waited_for(fake: FakeBigQuery, client: bigquery.Client) -> None:
    fake.latency = lambda job: time.sleep(0.5)
    job = client.query("SELECT 1")
    address = f"{fake.url}/bigquery/v2/projects/{PROJECT}/queries/{job.job_id}"
    with urllib.request.urlopen(f"{address}?timeoutMs=50&location=US") as response:
        assert json.load(response)["jobComplete"] is False
    with urllib.request.urlopen(f"{address}?timeoutMs=5000&location=US") as response:
        answer = json.load(response)
    assert answer["jobComplete"] and answer["rows"] == [{"f": [{"v": "1"}]}]


# Errors: error-messages; and the faults that tests order


def test_the_body_of_an_error(fake: FakeBigQuery, client: bigquery.Client) -> None:
    job = fail(client, "SELECT foo")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{fake.url}/bigquery/v2/projects/{PROJECT}/queries/{job.job_id}")
    message = "Unrecognized name: foo at [1:8]"
    found = {"message": message, "domain": "global", "reason": "invalidQuery"}
    assert caught.value.code == 400 and json.load(caught.value) == {
        "error": {"code": 400, "message": message, "errors": [found], "status": "INVALID_ARGUMENT"}
    }


@pytest.mark.parametrize(
    ("error", "raised", "reason"),
    [
        (GoogleError("rateLimitExceeded", "slower", code=429), exceptions.TooManyRequests, "rateLimitExceeded"),
        (GoogleError("backendError", "busy"), exceptions.ServiceUnavailable, "backendError"),
        (GoogleError("quotaExceeded", "used up"), exceptions.Forbidden, "quotaExceeded"),
        (GoogleError("accessDenied", "no"), exceptions.Forbidden, "accessDenied"),
        (service_disabled(PROJECT), exceptions.Forbidden, "accessNotConfigured"),
    ],
)
def test_faults(error: GoogleError, raised: type, reason: str, fake: FakeBigQuery, client: bigquery.Client) -> None:
    fake.faults.append(Fault(lambda request: request.path.endswith("/jobs"), error))
    with pytest.raises(raised) as caught:
        client.query("SELECT 1", retry=None, job_retry=None)
    assert caught.value.errors[0]["reason"] == reason
    if reason == "accessNotConfigured":
        assert caught.value.reason == "SERVICE_DISABLED" and caught.value.metadata["consumer"] == f"projects/{PROJECT}"
    assert client.query("SELECT 1", retry=None, job_retry=None).result()


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_connection(after: bool, fake: FakeBigQuery, client: bigquery.Client, job_id: str) -> None:
    fake.faults.append(Fault(lambda request: request.method == "POST", after=after))
    with pytest.raises(requests.exceptions.ConnectionError):
        client.query("SELECT 1", job_id=job_id, retry=None, job_retry=None)
    again = {"job_id": job_id, "retry": None, "job_retry": None}
    if after:
        with pytest.raises(exceptions.Conflict):
            client.query("SELECT 1", **again)
    else:
        client.query("SELECT 1", **again).result()
    assert [request.method for request in fake.requests if request.path.endswith("/jobs")] == ["POST", "POST"]
    assert fake.requests[-1].path and fake.requests[1].body["jobReference"]["jobId"] == job_id


# The fake itself


def test_it_keeps_tables_in_a_folder(tmp_path: Path, emulated_storage: StorageEmulator) -> None:
    with FakeBigQuery(emulated_storage.url, tmp_path) as fake, make_client(fake.url) as client:
        client.create_dataset("d")
        run(client, "CREATE TABLE d.t (a INT64, at TIMESTAMP) PARTITION BY DATE(at) OPTIONS (description = 'kept')")
        run(client, insert("t", "SELECT 1 AS a, TIMESTAMP '2020-04-01' AS at"))
    with FakeBigQuery(emulated_storage.url, tmp_path) as fake, make_client(fake.url) as client:
        assert [row.a for row in client.query("SELECT a FROM d.t").result()] == [1]
        assert (client.get_table("d.t").description, client.get_table("d.t").num_bytes) == ("kept", 16)


def test_it_runs_as_a_process(emulated_storage: StorageEmulator, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.emulators.bigquery", "--storage", emulated_storage.url]
    project = Path(__file__).parents[2]
    process = subprocess.Popen([*command, "--folder", str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=project)
    assert process.stdout
    try:
        url = process.stdout.readline().strip()
        with make_client(url) as client:
            client.create_dataset("d")
            assert [tuple(row) for row in client.query("SELECT 1").result()] == [(1,)]
        with urllib.request.urlopen(f"{url}/fake/account") as response:
            account = json.load(response)
        assert account["jobs"] == 1 and account["seconds"] > 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        process.stdout.close()


def test_a_request_costs_milliseconds(client: bigquery.Client) -> None:
    client.get_dataset("d")
    begin = time.perf_counter()
    for _ in range(50):
        client.get_dataset("d")
    assert (time.perf_counter() - begin) / 50 < 0.02
