"""Set-up, preflight and teardown: as commands and as a job, and what they say when something is in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import bigquery

from taxi_assets.definitions import build_defs
from taxi_assets.errors import TaxiError
from taxi_assets.resources.gcp_setup import check, set_up, tear_down
from taxi_assets.resources.postgres import Postgres
from tests.integration.cloud import LOCATION, PROJECT, Cloud, services
from tests.integration.test_bigquery import stage

TAXI = Path(sys.executable).with_name("taxi")


@pytest.fixture
def empty(emulators, monkeypatch):
    """A project without the bucket and the dataset that the settings name."""
    cloud = Cloud(emulators[0].url, emulators[1].url)
    cloud.use(monkeypatch)
    return cloud


@pytest.fixture
def google(password_server, empty):
    return services(Postgres(url=password_server.make_database()))


def told(action, google):
    lines = []
    action(*google, tell=lines.append)
    return lines


def problems(google):
    return {finding.what: finding.problem for finding in check(*google) if finding.problem}


def test_from_nothing_and_back(google, empty, green):
    assert problems(google) == {
        "bucket": f"The bucket {empty.bucket} is not there: `taxi gcp setup` makes it.",
        "dataset": f"The dataset {empty.name} is not there: `taxi gcp setup` makes it.",
    }
    assert told(set_up, google) == [
        f"The bucket {empty.bucket} is made, in {LOCATION}.",
        f"The dataset {empty.name} is made, in {LOCATION}.",
    ]
    assert empty.bigquery.get_dataset(empty.name).location == LOCATION
    assert empty.bigquery.get_dataset(empty.name).labels == {"taxi": "trips"}
    assert told(set_up, google) == [f"The bucket {empty.bucket} is there.", f"The dataset {empty.name} is there."]
    assert problems(google) == {}

    trip_file, path = green
    stage(google, trip_file, path)
    google[1].merge(trip_file, "run")
    assert told(tear_down, google) == [
        f"Files deleted from the bucket {empty.bucket}: 1. The bucket is deleted.",
        f"Tables deleted from the dataset {empty.name}: 3. The dataset is deleted.",
    ]
    assert empty.storage.lookup_bucket(empty.bucket) is None
    assert [dataset.dataset_id for dataset in empty.bigquery.list_datasets() if dataset.dataset_id == empty.name] == []
    assert told(tear_down, google) == [
        f"The bucket {empty.bucket} is not there.", f"The dataset {empty.name} is not there.",
    ]  # fmt: skip


def test_what_was_there_before_stays(google, empty, green):
    empty.make()
    trip_file, path = green
    told(set_up, google)
    stage(google, trip_file, path)
    assert told(tear_down, google) == [
        f"Files deleted from the bucket {empty.bucket}: 1. The bucket was there before and stays.",
        f"Tables deleted from the dataset {empty.name}: 2. The dataset was there before and stays.",
    ]
    assert empty.storage.lookup_bucket(empty.bucket)
    assert empty.bigquery.get_dataset(empty.name)


def test_what_others_put_there_stays(google, empty):
    """Also where it has the name of a trip file, or of one of our tables; and once it is gone, the rest can go too."""
    told(set_up, google)
    bucket = empty.storage.bucket(empty.bucket)
    bucket.blob("green_tripdata_2019-01.csv.gz").upload_from_string("a course's own")
    empty.bigquery.query(f"CREATE TABLE {empty.name}.green_tripdata_2019_01 AS SELECT 1 AS one").result()
    assert told(tear_down, google) == [
        f"Files deleted from the bucket {empty.bucket}: 0. The bucket holds what others put there (1) and stays.",
        f"Tables deleted from the dataset {empty.name}: 0. The dataset holds what others put there (1) and stays.",
    ]
    assert bucket.blob("green_tripdata_2019-01.csv.gz").exists()
    assert empty.query("SELECT one FROM {dataset}.green_tripdata_2019_01") == [(1,)]

    bucket.delete_blob("green_tripdata_2019-01.csv.gz")
    empty.bigquery.delete_table(f"{empty.name}.green_tripdata_2019_01")
    assert told(tear_down, google) == [
        f"Files deleted from the bucket {empty.bucket}: 0. The bucket is deleted.",
        f"Tables deleted from the dataset {empty.name}: 0. The dataset is deleted.",
    ]


def test_check_sees_a_table_of_others(google, empty):
    told(set_up, google)
    empty.bigquery.query(f"CREATE TABLE {empty.name}.green_tripdata AS SELECT 1 AS one").result()
    [problem] = [finding.problem for finding in check(*google) if finding.problem]
    assert f"{empty.name}.green_tripdata is there already with other columns (missing " in problem


def test_a_dataset_in_another_place(google, empty):
    dataset = bigquery.Dataset(f"{PROJECT}.{empty.name}")
    dataset.location = "EU"
    empty.bigquery.create_dataset(dataset)
    said = rf"The dataset {empty.name} is in EU, GCP_LOCATION is {LOCATION}.*taxi settings set GCP_LOCATION EU"
    with pytest.raises(TaxiError, match=said):
        told(set_up, google)


def test_a_bucket_in_another_place(google, empty, monkeypatch):
    empty.make()
    monkeypatch.setenv("GCP_LOCATION", "europe-west3")
    said = rf"The bucket {empty.bucket} is in US-CENTRAL1, GCP_LOCATION is europe-west3"
    with pytest.raises(TaxiError, match=said):
        told(set_up, google)
    assert "is in US-CENTRAL1" in problems(google)["bucket"]


def test_check_begins_with_the_settings(google, empty, monkeypatch):
    monkeypatch.setenv("GCP_BUCKET_NAME", "")
    found = list(check(*google))
    assert [finding.what for finding in found] == ["settings"]
    assert "taxi settings set GCP_BUCKET_NAME" in found[0].problem


def call(home, *arguments):
    return subprocess.run(
        [TAXI, *arguments], env=os.environ | {"TAXI_HOME": str(home), "COLUMNS": "120"}, text=True, capture_output=True,
        timeout=120,
    )  # fmt: skip


def test_as_commands(home, empty, password_server, monkeypatch):
    monkeypatch.setenv("TAXI_POSTGRES_URL", password_server.make_database())
    before = call(home, "gcp", "check")
    assert before.returncode == 1
    assert f"✗ bucket   The bucket {empty.bucket} is not there" in before.stdout
    assert call(home, "gcp", "setup").stdout == (
        f"The bucket {empty.bucket} is made, in {LOCATION}.\nThe dataset {empty.name} is made, in {LOCATION}.\n"
    )
    after = call(home, "gcp", "check")
    assert after.returncode == 0, after.stdout
    assert after.stdout.count("✓") == 5
    asked = call(home, "gcp", "teardown")
    assert asked.returncode == 1
    assert "Aborted" in asked.stderr
    assert call(home, "gcp", "teardown", "--yes").returncode == 0
    assert empty.storage.lookup_bucket(empty.bucket) is None


def test_as_a_job(instance, empty):
    job = build_defs().resolve_job_def("gcp_setup_job")
    assert job.execute_in_process(instance=instance).success
    assert empty.storage.lookup_bucket(empty.bucket)
    assert empty.bigquery.get_dataset(empty.name)


def test_a_job_that_may_not(instance, empty, monkeypatch):
    monkeypatch.setenv("GCP_DATASET", "")
    result = build_defs().resolve_job_def("gcp_setup_job").execute_in_process(instance=instance, raise_on_error=False)
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert "taxi settings set GCP_DATASET" in event.step_failure_data.user_failure_data.description
