"""The path into BigQuery: real Google clients over HTTP, real Dagster runs, emulators behind them."""

import gzip
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

from taxi_assets.definitions import defs
from taxi_assets.errors import BadTripFileError, TaxiError
from taxi_assets.resources.bigquery import BigQuery, NotStagedError
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings_store import SettingsStore
from taxi_assets.resources.source import TripSource
from taxi_assets.sample import write_sample
from taxi_assets.status import statuses
from taxi_assets.trips import COLORS, TripFile
from tests.integration.cloud import WHERE, services
from tests.integration.conftest import KEY, failure, loaded, run
from tests.integration.test_dagster import checks, metadata
from tests.proxies import EveryThird, proxied
from tests.servers import rows

pytestmark = pytest.mark.parametrize("cloud", WHERE, indirect=True)

GREEN = TripFile.of("green", "2020-04")
GREEN_ROWS = 35_612


def load(instance, key=KEY, **options):
    return run(instance, key, target="bigquery", **options)


def put_in_source(files, path, month="2020-04", color="green"):
    shutil.copy(path, files / TripFile.of(color, month).gz_name)


@pytest.fixture
def google(cloud, password_server, monkeypatch):
    """Bucket and dataset as the assets use them, without Dagster."""
    return services(Postgres(url=password_server.make_database()))


def stage(google, trip_file, path):
    cloud_storage, bigquery = google
    cloud_storage.upload(trip_file, path)
    bigquery.make_external_table(trip_file, cloud_storage.uri(trip_file), "run")
    return bigquery.stage(trip_file, "run")


@pytest.mark.parametrize("color", COLORS)
def test_a_partition_walks_through_the_graph(instance, cloud, files, color):
    result = loaded(load(instance, f"{color}|2020-04"))
    trip_file = TripFile.of(color, "2020-04")
    raw = files / trip_file.gz_name

    uploaded, external, staged, merged = (
        metadata(result, name)
        for name in ("gcs_trips", "bigquery_external_trips", "bigquery_staging_trips", "bigquery_trips")
    )
    assert uploaded["dagster/uri"] == external["dagster/uri"] == f"gs://{cloud.bucket}/{trip_file.gz_name}"
    assert uploaded["bytes"] == raw.stat().st_size
    assert uploaded["uploaded"] is True
    assert cloud.storage.bucket(cloud.bucket).get_blob(trip_file.gz_name).crc32c == uploaded["crc32c"]
    assert (
        cloud.storage.bucket(cloud.bucket).blob(trip_file.gz_name).download_as_bytes(raw_download=True)
        == raw.read_bytes()
    )
    assert external["dagster/table_name"] == f"{cloud.project}.{cloud.name}.{color}_tripdata_2020_04_ext"
    assert staged["dagster/table_name"] == f"{cloud.project}.{cloud.name}.{color}_tripdata_2020_04"
    assert staged["dagster/partition_row_count"] == 1000
    assert merged["dagster/table_name"] == f"{cloud.project}.{cloud.name}.{color}_tripdata"
    assert (merged["rows_inserted"], merged["rows_there_already"]) == (1000, 0)
    assert merged["bytes_processed"] > 0
    assert merged["bytes_billed"] % 2**20 == 0
    assert merged["slot_seconds"] >= 0
    assert [column.name for column in merged["dagster/column_schema"].columns] == [
        column.name for column in COLORS[color].table_columns
    ]
    assert len(merged["preview"].records) == 10
    assert merged["trips_per_day"].startswith("![trips per day](data:image/svg+xml;base64,")
    assert len(merged["pickup_days_outside_month"]) > 0

    job = cloud.bigquery.get_job(merged["job"].partition(".")[2])
    assert job.labels == {"taxi": color, "file": trip_file.stem, "run": result.run_id}

    evaluations = checks(result)
    for name, check in evaluations.items():
        assert check.passed == (name != "published_row_count"), name
    assert evaluations["rows"].metadata["rows"].value == 1000
    assert evaluations["same_ids_as_postgres"].description == "the month is not in Postgres"


def test_tables_are_as_the_nouns_say(instance, cloud):
    loaded(load(instance))
    table = cloud.bigquery.get_table(f"{cloud.name}.green_tripdata")
    assert table.time_partitioning.type_ == "DAY"
    assert table.time_partitioning.field == "lpep_pickup_datetime"
    assert table.clustering_fields == ["PULocationID", "DOLocationID"]
    assert [(field.name, field.description) for field in table.schema] == [
        (column.name, column.description) for column in GREEN.color.table_columns
    ]
    types = {field.name: field.field_type for field in table.schema}
    assert types["trip_type"] == types["VendorID"] == types["unique_row_id"] == "STRING"
    assert types["passenger_count"] == types["payment_type"] == "INTEGER"
    assert types["fare_amount"] == types["ehail_fee"] == "NUMERIC"
    assert types["lpep_pickup_datetime"] == "TIMESTAMP"
    assert table.expires is None
    for name in ("green_tripdata_2020_04", "green_tripdata_2020_04_ext"):
        of_month = cloud.bigquery.get_table(f"{cloud.name}.{name}")
        assert 2.9 < (of_month.expires - of_month.created).total_seconds() / 86400 < 3.1
        assert of_month.description.startswith("Made by taxi-assets from green_tripdata_2020-04.csv")


def test_again_sends_and_inserts_nothing(instance, cloud):
    loaded(load(instance))
    generation = cloud.storage.bucket(cloud.bucket).get_blob(GREEN.gz_name).generation
    again = loaded(load(instance))
    assert metadata(again, "gcs_trips")["uploaded"] is False
    assert metadata(again, "gcs_trips")["generation"] == str(generation)
    merged = metadata(again, "bigquery_trips")
    assert (merged["rows_inserted"], merged["rows_there_already"]) == (0, 1000)
    assert cloud.one("SELECT COUNT(*) FROM {dataset}.green_tripdata") == 1000


@pytest.mark.parametrize(
    ("color", "month", "file", "count"),
    [("green", "2020-04", "real/green_tripdata_2020-04.csv.gz", GREEN_ROWS),
     ("yellow", "2021-01", "head/yellow_tripdata_2021-01.csv.gz", 22_792)],
)  # fmt: skip
def test_real_months_have_the_same_ids_in_both_warehouses(instance, cloud, files, real_data, color, month, file, count):
    put_in_source(files, real_data / file, month, color)
    key = f"{color}|{month}"
    loaded(run(instance, key))
    for inserted in (count, 0):
        result = loaded(load(instance, key))
        assert metadata(result, "bigquery_trips")["rows_inserted"] == inserted
        assert cloud.one(f"SELECT COUNT(*) FROM {{dataset}}.{color}_tripdata") == count
        assert "with the same ids" in checks(result)["same_ids_as_postgres"].description
        assert checks(result)["published_row_count"].passed == (color == "green")
    in_postgres = rows(Postgres().conninfo(), f"SELECT unique_row_id FROM {color}_tripdata")
    assert Counter(cloud.ids(color)) == Counter(id_ for (id_,) in in_postgres)
    if color == "green":
        sums = "SUM(total_amount), SUM(fare_amount), MAX(trip_distance), COUNTIF(VendorID = '')"
        [found] = cloud.query(f"SELECT {sums} FROM {{dataset}}.green_tripdata")
        assert [str(value) for value in found] == ["701002.26", "590863.2", "55027.35", "11110"]


def test_other_ids_than_in_postgres_are_a_warning(instance, cloud):
    loaded(run(instance))
    with Postgres().connect() as connection:
        connection.execute("UPDATE green_tripdata SET unique_row_id = md5(unique_row_id) WHERE ctid IN "
                           "(SELECT ctid FROM green_tripdata LIMIT 1)")  # fmt: skip
    result = load(instance)
    check = checks(result)["same_ids_as_postgres"]
    assert result.success
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.description == "1,000 rows, in Postgres 1,000 with other ids"


def test_every_third_request_broken(instance, cloud, emulators, monkeypatch):
    """Refused, cut in the middle, answered with 429 or 503, or done and the answer lost: the table is the same."""
    loaded(load(instance))
    undisturbed = cloud.ids()
    cloud.bigquery.delete_dataset(cloud.name, delete_contents=True)
    cloud.storage.bucket(cloud.bucket).delete(force=True)
    cloud.make()
    breaks = EveryThird()
    with proxied(cloud.storage_url, breaks) as storage, proxied(cloud.bigquery_url, breaks) as bigquery:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery.url)
        result = loaded(load(instance))
        broken = Counter(asked.broken for asked in storage.asked + bigquery.asked)
    assert len(broken) >= 5, broken
    assert cloud.ids() == undisturbed
    assert checks(result)["merged_rows_equal_file"].passed


def test_two_loads_of_one_month_at_once(google, cloud, green, emulators):
    """BigQuery would let two merges insert the same rows: neither sees what the other has not committed."""
    trip_file, path = green
    _, bigquery = google
    staged = stage(google, trip_file, path).rows
    emulators[1].latency = lambda job: time.sleep(0.3)
    try:
        found = []
        threads = [threading.Thread(target=lambda: found.append(bigquery.merge(trip_file, "run"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        emulators[1].latency = lambda job: None
    assert sorted(merged.inserted for merged in found) == [0, 0, staged]
    assert cloud.one("SELECT COUNT(*) FROM {dataset}.green_tripdata") == staged


def test_a_merge_that_outlives_its_process(google, cloud, green, emulators):
    """Killed after the statement was sent: whoever comes next waits for its end, and finds its rows there."""
    trip_file, path = green
    _, bigquery = google
    stage(google, trip_file, path)
    merged = bigquery.merge(trip_file, "first")
    [job] = [job for job in cloud.bigquery.list_jobs() if job.job_id == merged.cost.job.partition(".")[2]]
    cloud.bigquery.delete_table(f"{cloud.name}.green_tripdata")
    bigquery._make_final_table(trip_file, "again")
    with bigquery.settings_store.postgres.alone(f"bigquery {bigquery.table_name('green_tripdata')}") as note:
        note.set("taxi_merge_left_alone")
    emulators[1].latency = lambda job: time.sleep(1)
    try:
        cloud.bigquery.query(job.query, job_id="taxi_merge_left_alone", job_retry=None)
        again = bigquery.merge(trip_file, "second")
    finally:
        emulators[1].latency = lambda job: None
    assert again.inserted == 0
    assert cloud.one("SELECT COUNT(*) FROM {dataset}.green_tripdata") == merged.rows


def test_a_merge_that_was_noted_and_never_sent_can_never_begin(google, cloud, green):
    from google.api_core.exceptions import Conflict

    trip_file, path = green
    _, bigquery = google
    stage(google, trip_file, path)
    with bigquery.settings_store.postgres.alone(f"bigquery {bigquery.table_name('green_tripdata')}") as note:
        note.set("taxi_merge_on_its_way")
    assert bigquery.merge(trip_file, "run").inserted == 2000
    with pytest.raises(Conflict):
        cloud.bigquery.query("SELECT 1", job_id="taxi_merge_on_its_way", job_retry=None)


def test_rows_that_share_an_id_are_all_inserted_and_never_again(google, cloud, tmp_path, green_text):
    trip_file = TripFile.of("green", "2020-04")
    path = tmp_path / "twice.csv.gz"
    header, _, body = green_text.partition(b"\r\n")
    path.write_bytes(gzip.compress(header + b"\r\n" + body + body))
    _, bigquery = google
    staged = stage(google, trip_file, path).rows
    assert bigquery.merge(trip_file, "run").inserted == staged == 4000
    assert bigquery.merge(trip_file, "run").inserted == 0
    days = [day for day, _ in bigquery.merge(trip_file, "run").trips_per_day if f"{day:%Y-%m}" != "2020-04"]
    counted = bigquery.count(trip_file, days, "run")
    assert (counted.rows, counted.sharing_an_id) == (4000, 4000)
    assert 0 < counted.outside_month < 40


def test_months_in_any_order_give_the_same_table(cloud, google, tmp_path):
    """Each file has a few pickups in other months, some of them the same trips as in the other's file."""
    first, second = TripFile.of("green", "2020-04"), TripFile.of("green", "2020-05")
    april, may = tmp_path / first.gz_name, tmp_path / second.gz_name
    write_sample(first, april, rows=500)
    write_sample(second, may, rows=500)
    shared = gzip.decompress(april.read_bytes()).split(b"\r\n")[1:21]
    may.write_bytes(gzip.compress(gzip.decompress(may.read_bytes()) + b"\r\n".join(shared) + b"\r\n"))
    _, bigquery = google
    ids = []
    for order in ((first, second), (second, first)):
        cloud.bigquery.delete_table(f"{cloud.name}.green_tripdata", not_found_ok=True)
        for trip_file in order:
            stage(google, trip_file, april if trip_file == first else may)
            bigquery.merge(trip_file, "run")
        ids.append(cloud.ids())
    assert len(ids[0]) == 1000
    assert ids[0] == ids[1]


def test_the_merge_reads_what_the_month_touches_however_many_are_there(cloud, google, tmp_path):
    processed = []
    _, bigquery = google
    for number in range(12):
        trip_file = TripFile.of("green", f"2020-{number + 1:02}")
        path = tmp_path / trip_file.gz_name
        write_sample(trip_file, path, rows=500)
        stage(google, trip_file, path)
        processed.append(bigquery.merge(trip_file, "run").cost.bytes_processed)
    assert processed[11] <= 1.1 * processed[1]


def test_a_bad_row_is_stopped_by_its_check(instance, cloud, files):
    """BigQuery itself would take the time with a zone, and guess."""
    loaded(load(instance))
    before = cloud.ids()
    file = files / GREEN.gz_name
    text = gzip.decompress(file.read_bytes()).split(b"\r\n")
    text[7] = text[7].replace(b" ", b"T", 1)
    file.write_bytes(gzip.compress(b"\r\n".join(text)))
    result = load(instance)
    assert not result.success
    check = checks(result)["rows"]
    assert not check.passed
    assert "green_tripdata_2020-04.csv.gz, line 8, column lpep_pickup_datetime" in check.description
    assert result.asset_materializations_for_node("bigquery_external_trips") == []
    assert cloud.ids() == before


def test_a_row_that_bigquery_cannot_read(google, cloud, tmp_path, green_text):
    """Where the check was left out: the table is untouched, and the sentence says where."""
    trip_file = TripFile.of("green", "2020-04")
    lines = green_text.split(b"\r\n")
    fields = lines[5].split(b",")
    fields[7] = b"1.0"
    path = tmp_path / trip_file.gz_name
    path.write_bytes(gzip.compress(b"\r\n".join([*lines[:5], b",".join(fields), *lines[6:]])))
    with pytest.raises(BadTripFileError, match=r"BigQuery cannot read green_tripdata_2020-04.csv.gz \(Could not parse"):
        stage(google, trip_file, path)
    with pytest.raises(NotStagedError, match="green_tripdata_2020_04 is not there, or has expired: materialize"):
        google[1].merge(trip_file, "run")
    assert "green_tripdata" not in google[1].tables()


def test_the_asset_names_the_line_that_bigquery_cannot_read(instance, cloud, files):
    file = files / GREEN.gz_name
    text = gzip.decompress(file.read_bytes()).split(b"\r\n")
    fields = text[3].split(b",")
    fields[7] = b"x"
    text[3] = b",".join(fields)
    file.write_bytes(gzip.compress(b"\r\n".join(text)))
    job = defs.resolve_job_def("bigquery_trips_job")
    without_checks = job.get_subset(
        asset_selection=set(job.asset_layer.executable_asset_keys), asset_check_selection=set()
    )
    result = without_checks.execute_in_process(partition_key=KEY, instance=instance, raise_on_error=False)
    step, told = failure(result)
    assert step == "bigquery_staging_trips"
    assert (
        "green_tripdata_2020-04.csv.gz, line 4, column passenger_count: 'x' is not a whole number" in told.description
    )


def test_a_table_of_somebody_else(google, cloud, green):
    trip_file, path = green
    cloud.bigquery.query(f"CREATE TABLE {cloud.name}.green_tripdata AS SELECT 1 AS one").result()
    stage(google, trip_file, path)
    with pytest.raises(TaxiError, match="is there already with other columns .*rename it, or set GCP_DATASET"):
        google[1].merge(trip_file, "run")
    assert cloud.query("SELECT * FROM {dataset}.green_tripdata") == [(1,)]


def test_purging_the_raw_file(instance, cloud, home):
    result = loaded(load(instance, config={"purge_raw_file": True}))
    assert not list((home / "raw").rglob("*.gz"))
    assert checks(result)["merged_rows_equal_file"].passed


def test_plain_csv(instance, cloud, files, monkeypatch):
    monkeypatch.setenv("GCP_UPLOAD_GZIP", "false")
    loaded(load(instance))
    [blob] = cloud.storage.list_blobs(cloud.bucket)
    assert blob.name == "green_tripdata_2020-04.csv"
    assert blob.download_as_bytes() == gzip.decompress((files / GREEN.gz_name).read_bytes())
    assert cloud.one("SELECT COUNT(*) FROM {dataset}.green_tripdata") == 1000
    assert metadata(load(instance), "gcs_trips")["uploaded"] is False


def test_settings_are_read_anew_by_each_run(instance, cloud, monkeypatch):
    loaded(load(instance))
    monkeypatch.setenv("GCP_DATASET", "another_one")
    step, told = failure(load(instance))
    assert step == "bigquery_external_trips"
    assert "The dataset is not there" in told.description
    assert "taxi gcp setup" in told.description


def test_missing_settings_are_named_all_at_once(instance, cloud, monkeypatch):
    monkeypatch.setenv("GCP_PROJECT_ID", "")
    monkeypatch.setenv("GCP_DATASET", "")
    step, told = failure(load(instance))
    assert step == "gcs_trips"
    assert "GCP_PROJECT_ID" in told.description
    assert "GCP_DATASET" in told.description
    assert "taxi settings set GCP_PROJECT_ID" in told.description
    assert "GCP_BUCKET_NAME" not in told.description


def test_the_bucket_is_gone(instance, cloud):
    cloud.storage.bucket(cloud.bucket).delete()
    step, told = failure(load(instance))
    assert step == "gcs_trips"
    assert told.description == f"The bucket {cloud.bucket} is not there: `taxi gcp setup` makes it."


def test_a_limit_on_bytes_billed(instance, cloud, monkeypatch):
    loaded(load(instance))
    before = cloud.ids()
    monkeypatch.setenv("GCP_MAXIMUM_BYTES_BILLED", "10485760")
    step, told = failure(load(instance))
    assert step == "bigquery_trips"  # the merge reads two tables, of which each counts 10 MB at least
    assert "GCP_MAXIMUM_BYTES_BILLED" in told.description
    assert cloud.ids() == before


def test_location_of_the_jobs(instance, cloud, monkeypatch):
    monkeypatch.setenv("GCP_LOCATION", "EU")
    step, told = failure(load(instance))
    assert step == "bigquery_external_trips"
    assert "was not found in location EU" in told.description
    assert "set GCP_LOCATION to where it is" in told.description


@pytest.fixture
def taxi(cloud, home, files, password_server, monkeypatch):
    """`taxi` as a process, in an installation of its own."""
    monkeypatch.setenv("TAXI_POSTGRES_URL", password_server.make_database())
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", password_server.make_database())
    monkeypatch.setenv("TAXI_SOURCE", str(files))

    def call(*arguments):
        command = [Path(sys.executable).with_name("taxi"), *arguments]
        return subprocess.run(
            command, env=os.environ | {"COLUMNS": "120"}, text=True, capture_output=True, timeout=120
        )  # fmt: skip

    return call


def test_backfill_and_status(taxi, cloud):
    april = ("backfill", "--from", "2020-04", "--to", "2020-05", "--color", "green", "--target", "bigquery")
    done = taxi(*april)
    assert done.returncode == 1, "there is no file of May"
    assert "1,000 rows,     1,000 inserted" in done.stdout
    status = taxi("status", "--target", "bigquery")
    assert f"Trips in {cloud.project}.{cloud.name} of BigQuery" in status.stdout
    assert "1 loaded" in status.stdout
    assert "failed green  2020-05  green_tripdata_2020-05.csv.gz is not in" in status.stdout
    assert "0 loaded" in taxi("status").stdout, "nothing is in Postgres"
    assert "1 of 2 partitions to load (1 failed)" in taxi(*april, "--dry-run").stdout

    cloud.bigquery.delete_table(f"{cloud.name}.green_tripdata")
    assert "0 loaded" in taxi("status", "--target", "bigquery").stdout


def test_backfill_without_settings(taxi, monkeypatch):
    monkeypatch.setenv("GCP_DATASET", "")
    done = taxi("backfill", "--from", "2020-04", "--to", "2020-04", "--target", "bigquery")
    assert done.returncode == 1
    assert done.stderr == "taxi: GCP_DATASET is not set: taxi settings set GCP_DATASET trips.\n"


def test_settings_of_the_store_reach_a_run(instance, cloud, monkeypatch):
    store = SettingsStore(postgres=Postgres())
    for name in ("GCP_PROJECT_ID", "GCP_LOCATION", "GCP_BUCKET_NAME", "GCP_DATASET"):
        monkeypatch.setenv(name, "")
        store.set(name, cloud.settings[name])
    loaded(load(instance))
    assert cloud.one("SELECT COUNT(*) FROM {dataset}.green_tripdata") == 1000
    store.set("GCP_DATASET", "another")
    assert f"Not found: Dataset {cloud.project}:another" in failure(load(instance))[1].description


def test_the_dataset_goes_in_the_middle_of_a_backfill(taxi, cloud, files):
    """What is left fails with the mend; once it is there again, the same command loads all, also what was lost."""
    may = TripFile.of("green", "2020-05")
    write_sample(may, files / may.gz_name, rows=500)
    months = ("backfill", "--color", "green", "--target", "bigquery", "--from", "2020-04", "--to")
    assert taxi(*months, "2020-04").returncode == 0
    cloud.bigquery.delete_dataset(cloud.name, delete_contents=True)
    gone = taxi(*months, "2020-05")
    assert gone.returncode == 1
    assert "The dataset is not there" in gone.stderr + gone.stdout
    cloud.make_dataset()
    assert "2 of 2 partitions to load" in taxi(*months, "2020-05").stdout
    assert cloud.query("SELECT filename, COUNT(*) FROM {dataset}.green_tripdata GROUP BY filename ORDER BY 1") == [
        ("green_tripdata_2020-04.csv", 1000), ("green_tripdata_2020-05.csv", 500),
    ]  # fmt: skip


def test_what_was_loaded_into_another_dataset_is_missing_in_this_one(instance, cloud, files, monkeypatch):
    may = TripFile.of("green", "2020-05")
    write_sample(may, files / may.gz_name, rows=500)
    loaded(load(instance))
    loaded(load(instance, "green|2020-05"))

    def states():
        bigquery = services(Postgres())[1]
        found = statuses(instance, TripSource(), bigquery, [GREEN, may])
        return [status.state for status in found]

    assert states() == ["loaded", "loaded"]
    # Made anew under the same name, and one month into it.
    cloud.bigquery.delete_table(f"{cloud.name}.green_tripdata")
    assert states() == ["missing", "missing"]
    loaded(load(instance, "green|2020-05"))
    assert states() == ["missing", "loaded"]


def test_a_month_staged_anew_before_its_merge(google, cloud, tmp_path, monkeypatch):
    """Published anew, with trips that another month's file had: nothing gets in between the look and the merge."""
    april, may = TripFile.of("green", "2020-04"), TripFile.of("green", "2020-05")
    first, second, other = (tmp_path / name for name in ("first.gz", "second.gz", "may.gz"))
    write_sample(april, first, rows=300)
    write_sample(may, other, rows=300)
    shared = [line for line in gzip.decompress(other.read_bytes()).split(b"\r\n") if b",2020-05-1" in line][:20]
    second.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()) + b"\r\n".join(shared) + b"\r\n"))
    _, bigquery = google
    stage(google, may, other)
    assert bigquery.merge(may, "run").inserted == 300
    stage(google, april, first)
    begun = threading.Event()
    another = threading.Thread(
        target=lambda: begun.set() or stage(services(bigquery.settings_store.postgres), april, second)
    )
    write = BigQuery._write

    def slowly(self, note, sql, verb, trip_file, run_id):
        if verb == "merge":
            another.start()
            begun.wait()
            another.join(2)  # it must not be done by then
        return write(self, note, sql, verb, trip_file, run_id)

    monkeypatch.setattr(BigQuery, "_write", slowly)
    assert bigquery.merge(april, "run").inserted == 300
    another.join()
    monkeypatch.setattr(BigQuery, "_write", write)
    assert bigquery.merge(april, "run").inserted == 0, "the 20 are in the table, as May's"
    assert cloud.query("SELECT COUNT(*), COUNT(DISTINCT unique_row_id) FROM {dataset}.green_tripdata")[0][0] == 600


@pytest.mark.parametrize("name", ["green_tripdata_2020_04", "green_tripdata_2020_04_ext"])
def test_a_month_s_table_of_somebody_else_is_not_replaced(google, cloud, green, name):
    cloud.bigquery.query(f"CREATE TABLE {cloud.name}.{name} AS SELECT 1 AS mine").result()
    with pytest.raises(
        TaxiError, match=f"{name} is there already, made by somebody else: rename it, or set GCP_DATASET"
    ):
        stage(google, *green)
    assert cloud.query(f"SELECT mine FROM {{dataset}}.{name}") == [(1,)]
