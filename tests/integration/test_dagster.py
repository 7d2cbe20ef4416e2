"""Real Dagster runs: what a run loads, says of itself, checks, and how it fails."""

import gzip
import os

import dagster as dg
import pytest

from taxi_assets.assets.steps import RETRIES
from taxi_assets.checks import TABLE_CHECKS
from taxi_assets.definitions import defs
from taxi_assets.errors import TaxiError, TransientError
from taxi_assets.history import why
from taxi_assets.instance import dagster_instance
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.source import TripSource
from taxi_assets.trips import COLORS, TripFile
from tests.integration.conftest import KEY, failure, loaded, run
from tests.servers import one


def checks(result):
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def metadata(result, asset):
    [materialization] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in materialization.metadata.items()}


@pytest.mark.parametrize("color", COLORS)
def test_a_partition_walks_through_the_graph(instance, files, color):
    result = run(instance, f"{color}|2020-04")
    assert result.success

    tags = instance.get_run_by_id(result.run_id).tags
    assert tags["taxi"] == color
    assert tags["file"] == f"{color}_tripdata_2020-04.csv"
    assert tags["dagster/partition/color"] == color
    assert tags["dagster/partition/month"] == "2020-04"

    raw, staged, merged = (metadata(result, name) for name in ("raw_trips", "postgres_staging_trips", "postgres_trips"))
    file = files / f"{color}_tripdata_2020-04.csv.gz"
    assert raw["dagster/partition_row_count"] == staged["dagster/partition_row_count"] == 1000
    assert raw["bytes"] == file.stat().st_size
    assert raw["source"] == str(file)
    assert len(raw["sha256"]) == 64
    assert raw["fetched"] is True
    assert staged["bytes"] == len(gzip.decompress(file.read_bytes()).split(b"\r\n", 1)[1].replace(b"\r", b""))
    assert merged["dagster/partition_row_count"] == 1000
    assert merged["dagster/table_name"] == f"public.{color}_tripdata"
    assert (merged["rows_inserted"], merged["rows_there_already"]) == (1000, 0)
    columns = [column.name for column in merged["dagster/column_schema"].columns]
    assert columns == [column.postgres_name for column in COLORS[color].table_columns]
    assert len(merged["preview"].records) == 10
    assert merged["trips_per_day"].startswith("![trips per day](data:image/svg+xml;base64,PHN2Zy")

    evaluations = checks(result)
    assert set(evaluations) == {"header", "staged_rows_equal_file", *TABLE_CHECKS}
    for name, check in evaluations.items():
        assert check.passed == (name != "published_row_count"), name
    assert evaluations["published_row_count"].severity == dg.AssetCheckSeverity.WARN
    assert 0 < evaluations["pickups_in_month"].metadata["outside"].value < 10
    assert evaluations["shared_ids"].metadata["rows"].value > 0


def test_again_inserts_nothing(instance):
    assert run(instance).success
    again = run(instance)
    assert again.success
    assert metadata(again, "raw_trips")["fetched"] is False
    merged = metadata(again, "postgres_trips")
    assert (merged["rows_inserted"], merged["rows_there_already"]) == (0, 1000)


def test_history_is_in_the_database_it_was_told(instance, monkeypatch):
    result = run(instance)
    url = os.environ["DAGSTER_POSTGRES_URL"]
    assert one(url, f"SELECT status FROM runs WHERE run_id = '{result.run_id}'") == "SUCCESS"
    with dagster_instance() as another:
        assert another.get_run_by_id(result.run_id).status == dg.DagsterRunStatus.SUCCESS
        keys = another.get_materialized_partitions(dg.AssetKey("postgres_trips"))
        assert keys == {KEY}


def test_merge_without_staging(instance):
    result = run(instance, selection=["postgres_trips"])
    step, told = failure(result)
    assert step == "postgres_trips"
    assert "staging.green_tripdata_2020_04 is not there: materialize postgres_staging_trips" in told.description


def test_staging_without_the_file(instance):
    step, told = failure(run(instance, selection=["postgres_staging_trips"]))
    assert step == "postgres_staging_trips"
    assert f"materialize raw_trips for {KEY} first" in told.description


def test_options_of_the_merge(instance, home):
    raw = TripSource().raw_path(TripFile.of("green", "2020-04"))
    assert run(instance, config={"keep_staging": True}).success
    assert Postgres().staged() == {"green_tripdata_2020_04"}
    assert raw.exists()
    result = run(instance, config={"purge_raw_file": True})
    assert result.success
    assert checks(result)["merged_rows_equal_file"].passed
    assert Postgres().staged() == set()
    assert not raw.exists()


def test_a_wrong_header_is_stopped_by_its_check(instance, files):
    file = files / "green_tripdata_2020-04.csv.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"trip_type", b"type_of_trip", 1)))
    result = run(instance)
    assert not result.success
    check = checks(result)["header"]
    assert not check.passed
    assert "green_tripdata_2020-04.csv.gz: missing trip_type; unexpected 'type_of_trip'" in check.description
    assert result.asset_materializations_for_node("postgres_staging_trips") == []
    assert one(Postgres().conninfo(), "SELECT to_regnamespace('staging') IS NULL")
    assert why(instance, result.run_id) == check.description  # what `taxi status` and `taxi backfill` say


def test_a_bad_row_fails_in_one_sentence(instance, files):
    file = files / "green_tripdata_2020-04.csv.gz"
    text = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(text + b"2,2020-04-0"))
    step, told = failure(run(instance))
    assert step == "postgres_staging_trips"
    assert "green_tripdata_2020-04.csv.gz, line 1002, column lpep_pickup_datetime" in told.description
    assert told.metadata == {}
    assert Postgres().staged() == set()


class Crashing(Postgres):
    """A server that crashes when a month is staged, and is back at once: what it does not log is empty then."""

    def stage(self, trip_file, path, progress=None):
        staged = super().stage(trip_file, path, progress)
        if not path.with_name("crashed").exists():
            path.with_name("crashed").touch()
            with self.connect() as connection:
                connection.execute("TRUNCATE staging.green_tripdata_2020_04")
        return staged


def test_a_server_that_crashes_between_staging_and_merge(instance):
    result = loaded(run(instance, postgres=Crashing()))
    assert metadata(result, "postgres_trips")["rows_inserted"] == 1000
    check = checks(result)["staged_rows_equal_file"]
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    assert "has lost its rows" in check.description
    assert Postgres().staged() == set()


def test_the_merge_after_a_run_that_was_killed_between_its_commit_and_its_event(instance):
    """Dagster retries such a run from the merge on; what it staged is merged and gone."""
    killed = run(instance)
    retried = run(instance, selection=["postgres_trips"], tags={"dagster/parent_run_id": killed.run_id})
    assert retried.success
    merged = metadata(retried, "postgres_trips")
    assert (merged["dagster/partition_row_count"], merged["rows_inserted"]) == (1000, 0)


ERRORS = {"moment": TransientError("no answer"), "good": TaxiError("not there"), "bug": KeyError("x")}


class Flaky(TripSource):
    """A source that fails for a moment, or for good."""

    error: str

    def fetch(self, trip_file, progress=None):
        marker = self.raw_path(trip_file).with_name("failed-once")
        if not marker.exists():
            marker.parent.mkdir(parents=True)
            marker.touch()
            raise {"moment": TransientError("no answer"), "good": TaxiError("not there"), "bug": KeyError("x")}[
                self.error
            ]
        return super().fetch(trip_file, progress)


@pytest.mark.parametrize(("error", "retried"), [("moment", True), ("good", False), ("bug", False)])
def test_only_what_fails_for_a_moment_is_tried_again(instance, monkeypatch, error, retried):
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda policy, attempt: 0.1 * attempt)
    result = run(instance, source=Flaky(error=error))
    assert result.success == retried
    assert any(event.is_step_up_for_retry for event in result.all_events) == retried
    if error == "good":
        assert failure(result)[1].description == "not there"


def test_what_fails_again_and_again_fails_with_its_sentence(instance, monkeypatch):
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda policy, attempt: 0.1)
    result = run(instance, source=TripSource(location="http://127.0.0.1:9/{file}", attempts=1))
    assert sum(event.is_step_up_for_retry for event in result.all_events) == RETRIES.max_retries
    assert "green_tripdata_2020-04.csv.gz could not be fetched" in failure(result)[1].description
    assert "could not be fetched" in why(instance, result.run_id)


def test_retries_wait_longer_from_one_to_the_next_and_never_the_same():
    waits = [[RETRIES.calculate_delay(attempt) for attempt in (1, 2, 3)] for _ in range(50)]
    for first, second, third in waits:
        assert 0 <= first <= 10 <= second <= 20 < 30 <= third <= 40
    assert len({first for first, _, _ in waits}) > 40


def test_a_missing_file(instance):
    result = run(instance, "green|2020-05")
    step, told = failure(result)
    assert step == "raw_trips"
    assert "green_tripdata_2020-05.csv.gz is not in" in told.description


BAD_KEYS = ["blue|2020-04", "2020-04|green", "green|2020-4", "green|2020-13", "green|2018-12", "green|2099-01", "green"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_none(instance, key):
    with pytest.raises(dg.DagsterUnknownPartitionError, match=r"keys are color\|month, such as green\|2020-04"):
        run(instance, key)
    assert instance.get_runs() == []


def test_the_checks_count_in_the_table_itself(instance):
    """A row that got into the table beside the merge is found."""
    run(instance)
    with Postgres().connect() as connection:
        connection.execute("INSERT INTO green_tripdata SELECT * FROM green_tripdata LIMIT 1")
    again = run(instance)
    assert metadata(again, "postgres_trips")["rows_inserted"] == 0
    check = checks(again)["merged_rows_equal_file"]
    assert not check.passed
    assert (check.metadata["expected"].value, check.metadata["found"].value) == (1000, 1001)


def test_snapshot_of_the_code_location():
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        "raw_trips", "postgres_staging_trips", "postgres_trips",
        "gcs_trips", "bigquery_external_trips", "bigquery_staging_trips", "bigquery_trips",
    }  # fmt: skip
    assert {f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys} == {
        "raw_trips:header",
        "postgres_staging_trips:staged_rows_equal_file",
        "postgres_trips:merged_rows_equal_file",
        "postgres_trips:published_row_count",
        "postgres_trips:pickups_in_month",
        "postgres_trips:shared_ids",
        "gcs_trips:rows",
        "bigquery_staging_trips:staged_rows_equal_file",
        "bigquery_trips:merged_rows_equal_file",
        "bigquery_trips:published_row_count",
        "bigquery_trips:pickups_in_month",
        "bigquery_trips:shared_ids",
        "bigquery_trips:same_ids_as_postgres",
    }
    assert {job.name for job in defs.resolve_all_job_defs()} == {
        "__ASSET_JOB", "postgres_trips_job", "bigquery_trips_job", "set_settings", "gcp_setup_job",
    }  # fmt: skip
    assert {node.group_name for node in graph.asset_nodes} == {"raw", "postgres", "bigquery"}
    partitions = {node.partitions_def for node in graph.asset_nodes}
    assert len(partitions) == 1
    keys = partitions.pop().get_partition_keys()
    assert {"green|2019-01", "yellow|2019-01", "yellow|2021-07"} <= set(keys)


@pytest.mark.parametrize(("asset", "attribute"), [("postgres_trips", "postgres_name"), ("bigquery_trips", "name")])
def test_every_column_is_described_in_the_catalog(asset, attribute):
    node = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    schema = node.metadata["dagster/column_schema"]
    described = {column.name: column.description for column in schema.columns}
    for color in COLORS.values():
        for column in color.table_columns:
            assert described[getattr(column, attribute)]


def test_resources_are_replaced_in_one_place(instance):
    assert run(instance, source=TripSource(location="sample")).success
    assert one(Postgres().conninfo(), "SELECT count(*) FROM green_tripdata") == 12_000
