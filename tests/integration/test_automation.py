"""The sensor against real sources and a real history: what is new, what is not, and when nobody answers."""

import http.server
import logging
import os
import threading
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickStatus,
)  # fmt: skip
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from taxi_assets.automation import FILES_PER_TICK, month_before
from taxi_assets.definitions import defs
from taxi_assets.partitions import color_and_month
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.source import TripSource
from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile
from tests.integration.cloud import services
from tests.integration.conftest import KEY, loaded, run

# Of Dagster about its own tags for the dimensions of a partition.
pytestmark = pytest.mark.filterwarnings("ignore:Non-compliant tag keys like .'dagster/partition/color'")

GREEN = TripFile.of("green", "2020-04")
TICKS = -(-len(color_and_month.get_partition_keys()) // FILES_PER_TICK)  # that it takes to ask for every file


class Archive(http.server.ThreadingHTTPServer):
    """A web server with some files; each file has an ETag."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, tuple[str, bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        self.status_of_others = 404
        self.source = TripSource(location=f"http://127.0.0.1:{self.server_port}/{{file}}", attempts=1)


class Answer(http.server.BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.server.asked.append((self.command, name))
        etag, data = self.server.files.get(name, ("", b""))
        self.send_response(200 if etag else self.server.status_of_others)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def archive(green):
    server = Archive()
    server.files[GREEN.gz_name] = ('"v1"', green[1].read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def tick(instance, source, cursor=None, sensor="new_trip_files_sensor"):
    resources = {"source": source, "bigquery": services(Postgres())[1]}
    with dg.build_sensor_context(
        instance, cursor=cursor, repository_def=defs.get_repository_def(), resources=resources
    ) as context:
        return defs.resolve_sensor_def(sensor).evaluate_tick(context)


def round_of_ticks(instance, source):
    """What all ticks of one round over the months ask for: partition and run key."""
    found, cursor = [], None
    for _ in range(TICKS):
        answer = tick(instance, source, cursor)
        found += [(request.partition_key, request.run_key) for request in answer.run_requests]
        cursor = answer.cursor
    return found


def test_a_new_file_is_requested_once_and_again_when_it_changes(instance, archive):
    assert round_of_ticks(instance, archive.source) == [(KEY, f"{KEY} v1")]
    assert {method for method, _ in archive.asked} == {"HEAD"}

    assert run(instance, source=archive.source).success
    assert round_of_ticks(instance, archive.source) == []

    archive.files[GREEN.gz_name] = ('"v2"', archive.files[GREEN.gz_name][1])
    assert round_of_ticks(instance, archive.source) == [(KEY, f"{KEY} v2")]


def test_few_questions_per_tick_until_every_file_was_asked_for(instance, archive):
    cursor = None
    for number in range(1, TICKS + 1):
        cursor = tick(instance, archive.source, cursor).cursor
        assert len(archive.asked) == number * FILES_PER_TICK
    names = [name for _, name in archive.asked]
    assert len(set(names)) == len(color_and_month.get_partition_keys())
    newest = max(color_and_month.get_partition_keys(), key=lambda key: key.partition("|")[2])
    assert newest.partition("|")[2] in names[0], "the newest months come first"


def test_a_month_that_failed_is_not_requested_again_and_again(instance, archive):
    archive.files[GREEN.gz_name] = ('"v1"', b"no gzip")
    assert not run(instance, source=archive.source).success
    # The same key each time: Dagster starts one run for a key.
    keys = {run_key for _ in range(2) for _, run_key in round_of_ticks(instance, archive.source)}
    assert keys == {f"{KEY} v1"}


def test_a_source_that_is_down_is_one_warning(instance, archive):
    cursor = tick(instance, archive.source).cursor
    archive.shutdown()
    archive.server_close()
    answer = tick(instance, archive.source, cursor)
    assert answer.run_requests == []
    assert answer.skip_message.count("does not answer") == 1
    assert answer.cursor == cursor, "the next tick goes on where this one stopped"


def test_a_server_that_hides_what_it_does_not_have(instance, archive):
    """Some answer 403 for every file that is not there."""
    archive.status_of_others = 403
    assert round_of_ticks(instance, archive.source) == [(KEY, f"{KEY} v1")]
    assert "answers HTTP 403" in tick(instance, archive.source).skip_message


def test_a_file_dropped_into_a_folder(instance, files):
    source = TripSource(location=str(files))
    assert tick(instance, source).run_requests == [], "it may still be being written"
    for path in files.iterdir():
        os.utime(path, (1e9, 1e9))
    assert {request.partition_key for request in tick(instance, source).run_requests} == {KEY, "yellow|2020-04"}
    assert run(instance, source=source).success
    assert {request.partition_key for request in tick(instance, source).run_requests} == {"yellow|2020-04"}

    write_sample(GREEN, files / GREEN.gz_name, rows=1500)
    os.utime(files / GREEN.gz_name, (1e9 + 1, 1e9 + 1))
    assert KEY in {request.partition_key for request in tick(instance, source).run_requests}


def test_a_month_on_its_way_is_not_requested(instance, archive):
    job = defs.resolve_job_def("postgres_trips_job")
    queued = instance.create_run_for_job(job, tags={"dagster/partition": KEY}, status=dg.DagsterRunStatus.STARTED)
    assert round_of_ticks(instance, archive.source) == []
    instance.report_run_failed(queued)
    assert round_of_ticks(instance, archive.source) == [(KEY, f"{KEY} v1")]


def test_each_warehouse_asks_for_what_it_has_not(instance, cloud, files):
    source = TripSource(location=str(files))
    for path in files.iterdir():
        os.utime(path, (1e9, 1e9))

    def asked(sensor):
        return {request.partition_key for request in tick(instance, source, sensor=sensor).run_requests}

    postgres, bigquery = "new_trip_files_sensor", "new_trip_files_bigquery_sensor"
    loaded(run(instance, source=source))
    assert (asked(postgres), asked(bigquery)) == ({"yellow|2020-04"}, {KEY, "yellow|2020-04"})
    loaded(run(instance, target="bigquery", source=source))
    assert asked(bigquery) == {"yellow|2020-04"}

    # Another table than the one that it was merged into.
    cloud.bigquery.delete_table(f"{cloud.name}.green_tripdata")
    assert asked(bigquery) == {KEY, "yellow|2020-04"}
    loaded(run(instance, target="bigquery", source=source))
    assert asked(bigquery) == {"yellow|2020-04"}

    # Published anew, and fetched for one of them: the other still wants it.
    write_sample(GREEN, files / GREEN.gz_name, rows=1500)
    os.utime(files / GREEN.gz_name, (1e9 + 1, 1e9 + 1))
    loaded(run(instance, source=source))
    assert (asked(postgres), asked(bigquery)) == ({"yellow|2020-04"}, {KEY, "yellow|2020-04"})


def test_a_sensor_of_bigquery_without_settings(instance, files):
    answer = tick(instance, TripSource(location=str(files)), sensor="new_trip_files_bigquery_sensor")
    assert answer.run_requests == []
    assert "GCP_PROJECT_ID, GCP_LOCATION, GCP_BUCKET_NAME and GCP_DATASET are not set" in answer.skip_message


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("sample", "none is ever published"),
        ("/no/such/folder", "/no/such/folder is not a folder"),
        ("https://example.org/trips", "is not a URL with {file} in it"),
    ],
)
def test_sources_without_news(instance, location, said):
    answer = tick(instance, TripSource(location=location))
    assert answer.run_requests == []
    assert said in answer.skip_message


def test_ticks_that_were_missed_while_the_daemon_was_down(instance, files):
    """Dagster's own scheduler, in a code location of its own: it evaluates the last of them, for its own month."""
    now = datetime.now(timezone.utc)
    month = month_before(now)
    for color in ("green", "yellow"):
        path = files / TripFile.of(color, month).gz_name
        write_sample(TripFile.of(color, month), path, rows=500)
        os.utime(path, (1e9, 1e9))
    target = ModuleTarget("taxi_assets.definitions", "defs", None, "taxi_assets")
    with create_test_daemon_workspace_context(target, instance) as workspace:
        [location] = workspace.create_request_context().code_locations
        [repository] = location.get_repositories().values()
        schedule = repository.get_schedule("green_schedule")
        since = ScheduleInstigatorData(schedule.cron_schedule, (now - timedelta(days=100)).timestamp())
        instance.add_instigator_state(
            InstigatorState(schedule.get_remote_origin(), InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, since)
        )
        list(launch_scheduled_runs(workspace, logging.getLogger("test"), now, iteration_times={}))
        [tick] = instance.get_ticks(schedule.get_remote_origin().get_id(), schedule.selector_id)
        [requested] = instance.get_runs()
    assert tick.status == TickStatus.SUCCESS
    assert requested.tags["dagster/partition"] == f"green|{month}"
    assert requested.tags["dagster/schedule_name"] == "green_schedule"
    assert requested.status == dg.DagsterRunStatus.QUEUED
