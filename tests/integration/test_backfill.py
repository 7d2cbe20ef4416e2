"""`taxi backfill` and `taxi status` as people call them, killed and resumed in every way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taxi_assets.automation import TARGETS
from taxi_assets.cli import backfill as command
from taxi_assets.history import POD_TAG, end_dead_runs, is_alive
from taxi_assets.instance import TaxiRunLauncher, dagster_instance
from taxi_assets.resources.postgres import Postgres
from taxi_assets.sample import write_sample
from taxi_assets.trips import COLORS, TripFile
from tests.conftest import PROJECT
from tests.integration.conftest import KEY, run
from tests.servers import one, rows

TAXI = str(Path(sys.executable).with_name("taxi"))
MONTHS = ["2019-01", "2019-02"]


@pytest.fixture
def source(tmp_path):
    """A folder with two small months of both colors; a later month has more rows."""
    folder = tmp_path / "source"
    folder.mkdir()
    write_months(folder, MONTHS)
    return folder


def write_months(folder, months):
    for number, month in enumerate(months):
        for color in COLORS:
            trip_file = TripFile.of(color, month)
            write_sample(trip_file, folder / trip_file.gz_name, rows=200 + number)


@pytest.fixture
def environment(password_server, home, source, monkeypatch):
    """An installation of its own, also for this process."""
    settings = {
        "TAXI_POSTGRES_URL": password_server.make_database(),
        "DAGSTER_POSTGRES_URL": password_server.make_database(),
        "TAXI_SOURCE": str(source),
        "COLUMNS": "200",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def taxi(environment):
    def call(*arguments, **settings):
        return subprocess.run(
            [TAXI, *arguments], env=environment | settings, text=True, capture_output=True, timeout=300
        )

    return call


@pytest.fixture
def start(environment):
    """Begins a command and leaves it running."""
    begun = []

    def begin(*arguments):
        process = subprocess.Popen(
            [TAXI, *arguments], env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def span(*months):
    return ("--from", months[0], "--to", months[-1])


def rows_of_files():
    """Of each file in the tables: the number of its rows."""
    with Postgres().connect() as connection:
        found = {}
        for color in COLORS.values():
            if connection.execute(f"SELECT to_regclass('{color.table}')").fetchone() != (None,):
                found |= dict(connection.execute(f"SELECT filename, count(*) FROM {color.table} GROUP BY 1").fetchall())
        return found


def successes():
    """Of each partition: how many runs loaded it."""
    query = "SELECT partition, count(*) FROM runs WHERE status = 'SUCCESS' GROUP BY 1"
    return dict(rows(os.environ["DAGSTER_POSTGRES_URL"], query))


def states(taxi):
    done = taxi("status", "--json")
    assert done.returncode == 0, done.stderr
    return {f"{p['color']}|{p['month']}": p for p in json.loads(done.stdout)}


def wait_for(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.05)


def workers_of(process):
    """The worker processes of a backfill, by their command lines."""
    done = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def test_months_of_both_colors_and_again(taxi):
    planned = taxi("backfill", *span(*MONTHS), "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "yellow: 2019-01 to 2019-02" in planned.stdout
    assert "4 of 4 partitions to load (4 missing)" in planned.stdout
    assert rows_of_files() == {}

    done = taxi("backfill", *span(*MONTHS), "--label", "owner=ann", "--label", "team/why=test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 loaded (802 rows inserted)" in done.stdout
    assert rows_of_files() == {
        f"{color}_tripdata_{month}.csv": 200 + number for color in COLORS for number, month in enumerate(MONTHS)
    }
    with dagster_instance() as instance:
        for record in instance.get_run_records():
            tags = record.dagster_run.tags
            assert (tags["backfill"], tags["owner"], tags["team/why"]) == ("true", "ann", "test")
            assert tags["file"] == f"{tags['dagster/partition/color']}_tripdata_{tags['dagster/partition/month']}.csv"

    again = taxi("backfill", *span(*MONTHS))
    assert again.returncode == 0
    assert "0 of 4 partitions to load" in again.stdout
    everything = taxi("backfill", *span(*MONTHS), "--all", "--color", "green", "--jobs", "1")
    assert everything.returncode == 0
    assert "2 loaded (0 rows inserted)" in everything.stdout
    assert successes() == {"yellow|2019-01": 1, "yellow|2019-02": 1, "green|2019-01": 2, "green|2019-02": 2}


def test_a_month_that_fails_does_not_keep_the_others(taxi, source):
    missing = source / "green_tripdata_2019-01.csv.gz"
    kept = missing.read_bytes()
    missing.unlink()
    bad = source / "yellow_tripdata_2019-02.csv.gz"
    good = bad.read_bytes()
    bad.write_bytes(good[:-100])
    done = taxi("backfill", *span(*MONTHS))
    assert done.returncode == 1
    assert "2 loaded (401 rows inserted), 2 failed" in done.stdout
    assert f"green  2019-01  failed  green_tripdata_2019-01.csv.gz is not in {source}: put it there" in done.stdout
    assert "yellow 2019-02  failed  yellow_tripdata_2019-02.csv.gz" in done.stdout
    assert "run the same command again" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr

    found = states(taxi)
    assert {key: found[key]["state"] for key in successes()} == {"yellow|2019-01": "loaded", "green|2019-02": "loaded"}
    assert found["green|2019-01"]["state"] == found["yellow|2019-02"]["state"] == "failed"
    assert "put it there" in found["green|2019-01"]["cause"]
    calendar = taxi("status").stdout
    assert "2 loaded" in calendar
    assert "failed green  2019-01  green_tripdata_2019-01.csv.gz is not in" in calendar

    missing.write_bytes(kept)
    bad.write_bytes(good)
    again = taxi("backfill", *span(*MONTHS))
    assert again.returncode == 0, again.stdout
    assert "2 of 4 partitions to load (2 failed)" in again.stdout
    assert set(successes().values()) == {1}
    assert len(rows_of_files()) == 4


def test_what_status_tells(taxi, source):
    assert taxi("backfill", "--color", "green", *span(*MONTHS)).returncode == 0
    found = states(taxi)
    assert found["green|2019-01"] == {
        "color": "green", "month": "2019-01", "state": "loaded", "fetched": True, "staged": False, "rows": 200,
        "cause": None,
    }  # fmt: skip
    assert found["yellow|2019-01"]["state"] == "missing"

    # Fetched anew, and not merged since.
    write_sample(TripFile.of("green", "2019-01"), source / "green_tripdata_2019-01.csv.gz", rows=300)
    with dagster_instance() as instance:
        assert run(instance, "green|2019-01", selection=["raw_trips"]).success
    # Deleted from the table, whatever the history says.
    with Postgres().connect() as connection:
        connection.execute("DELETE FROM green_tripdata WHERE filename = 'green_tripdata_2019-02.csv'")
    found = states(taxi)
    assert found["green|2019-01"]["state"] == "stale"
    assert found["green|2019-02"]["state"] == "missing"
    [line] = [line for line in taxi("status", "--list").stdout.splitlines() if "green|2019-01" in line]
    assert line.replace("│", " ").split() == ["green|2019-01", "◪", "stale", "fetched", "200"]

    again = taxi("backfill", "--color", "green", *span(*MONTHS))
    assert again.returncode == 0
    assert "2 of 2 partitions to load" in again.stdout
    assert {states(taxi)[key]["state"] for key in ("green|2019-01", "green|2019-02")} == {"loaded"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*span("2019-01"), "--color", "blue"], "'blue' is not one of 'yellow', 'green'"),
        (span("2018-12", "2019-01"), "'2018-12' is no month of the data: from 2019-01 to 20"),
        (span("2019-01", "2099-01"), "'2099-01' is no month of the data"),
        (span("2020-13"), "'2020-13' is no month of the data"),
        (span("2020-4"), "'2020-4' is no month of the data"),
        (span("2020-04", "2020-03"), "--from 2020-04 is after --to 2020-03: give the earlier month first."),
        (["--to", "2020-04"], "Missing option '--from'"),
        ([*span("2019-01"), "--jobs", "0"], "0 is not in the range"),
        ([*span("2019-01"), "--target", "oracle"], "'oracle' is not"),
        ([*span("2019-01"), "--label", "owner"], "'owner' is no label: write it like owner=ann"),
        ([*span("2019-01"), "--label", "dagster/backfill=x"], "given by taxi and Dagster themselves"),
        ([*span("2019-01"), "--submit", "--jobs", "2"], "--jobs is for backfills here"),
    ],
)
def test_wrong_usage(arguments, said):
    done = subprocess.run([TAXI, "backfill", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_targets_are_those_of_the_jobs():
    [target] = [option for option in command.params if option.name == "target"]
    assert set(target.type.choices) == set(TARGETS)


def test_submitting_without_a_daemon(taxi):
    done = taxi("backfill", *span(*MONTHS), "--submit")
    assert done.returncode == 1
    assert "No daemon is running that would take the backfill: start `taxi dev`" in done.stderr
    assert one(os.environ["DAGSTER_POSTGRES_URL"], "SELECT count(*) FROM bulk_actions") == 0


def test_two_backfills_of_the_same_months_at_once(start):
    """Each month is loaded by one of them, and the other finds nothing to do."""
    both = [start("backfill", *span(*MONTHS), "--jobs", "2") for _ in range(2)]
    said = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert successes() == {f"{color}|{month}": 1 for color in COLORS for month in MONTHS}
    assert len(rows_of_files()) == 4


def test_ctrl_c_brings_to_an_end_what_has_begun(start, taxi):
    process = start("backfill", *span(*MONTHS), "--jobs", "1")
    wait_for(lambda: rows(os.environ["DAGSTER_POSTGRES_URL"], "SELECT to_regclass('runs')") != [(None,)])
    wait_for(lambda: one(os.environ["DAGSTER_POSTGRES_URL"], "SELECT count(*) FROM runs") > 0)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 1
    assert "Stopping: what has begun is brought to its end." in said
    assert "not begun" in said
    assert "run the same command again" in said
    loaded = successes()
    assert loaded
    assert one(os.environ["DAGSTER_POSTGRES_URL"], "SELECT count(*) FROM runs") == len(loaded)

    assert taxi("backfill", *span(*MONTHS)).returncode == 0
    assert successes() == {f"{color}|{month}": 1 for color in COLORS for month in MONTHS}


@pytest.fixture
def big_month(source):
    """A month that takes some seconds to load, as the first."""
    trip_file = TripFile.of("yellow", "2019-01")
    write_sample(trip_file, source / trip_file.gz_name, rows=400_000)
    return trip_file


def staging(trip_file):
    """Whether its staging table is being filled."""
    return one(
        os.environ["TAXI_POSTGRES_URL"],
        f'SELECT count(*) FROM pg_stat_activity WHERE query LIKE \'COPY "staging"."{trip_file.staging_table}"%\'',
    )


def test_ctrl_c_twice_rolls_back_what_has_begun(start, taxi, big_month):
    process = start("backfill", *span(*MONTHS), "--jobs", "1")
    wait_for(lambda: staging(big_month))
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 1
    assert "yellow 2019-01  failed  interrupted: what it had not committed was undone" in said
    assert "Traceback" not in said
    assert rows_of_files() == {}
    assert Postgres().staged() == set()
    assert states(taxi)["yellow|2019-01"]["state"] == "failed"


def test_a_worker_that_is_killed_fails_its_month_alone(start, taxi, big_month):
    process = start("backfill", *span(*MONTHS), "--jobs", "1")
    wait_for(lambda: staging(big_month))
    [worker] = workers_of(process)
    os.kill(worker, signal.SIGKILL)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 1
    assert (
        "yellow 2019-01  failed  its process was ended by signal SIGKILL, what it had not committed was undone" in said
    )
    assert "3 loaded" in said
    found = states(taxi)["yellow|2019-01"]
    assert found["state"] == "failed"
    assert "its process ended before it was done" in found["cause"]


def test_killed_in_the_middle_and_resumed(start, taxi, source):
    """Two years of both colors, killed without warning, workers and all: as if nothing had happened."""
    months = [f"{year}-{month:02}" for year in (2019, 2020) for month in range(1, 13)]
    write_months(source, months)
    process = start("backfill", *span(*months))
    wait_for(lambda: len(rows_of_files()) >= 10)
    killed = [process.pid, *workers_of(process)]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name = 'taxi'"
    wait_for(lambda: one(os.environ["TAXI_POSTGRES_URL"], active) == 0)
    before = states(taxi)
    # A month may be merged whose run was killed before it could say so: it counts as failed, and inserts nothing again.
    assert 8 <= sum(found["state"] == "loaded" for found in before.values()) < 48
    assert not any(found["state"] == "running" for found in before.values())

    resumed = taxi("backfill", *span(*months))
    assert resumed.returncode == 0, resumed.stdout
    loaded_before = [key for key, found in before.items() if found["state"] == "loaded"]
    assert f"{48 - len(loaded_before)} of 48 partitions to load" in resumed.stdout
    assert rows_of_files() == {
        f"{color}_tripdata_{month}.csv": 200 + number for color in COLORS for number, month in enumerate(months)
    }
    assert {found["state"] for key, found in states(taxi).items() if key.partition("|")[2] in months} == {"loaded"}


def test_the_real_month(taxi, real_data):
    done = taxi("backfill", "--color", "green", *span("2020-04"), TAXI_SOURCE=str(real_data / "real"))
    assert done.returncode == 0, done.stdout
    assert "1 loaded (35,612 rows inserted)" in done.stdout
    assert rows_of_files() == {"green_tripdata_2020-04.csv": 35_612}


RUN_AND_WAIT = """
import sys, time
from tests.conftest import PROJECT
from tests.integration.conftest import run
from taxi_assets.instance import dagster_instance
from taxi_assets.resources.source import TripSource
class Slow(TripSource):
    def fetch(self, trip_file, progress=None):
        print("fetching", flush=True)
        time.sleep(600)
with dagster_instance() as instance:
    run(instance, source=Slow())
"""


def test_a_run_whose_process_was_killed_is_found(environment, monkeypatch):
    """As the daemon's monitor finds it: a run of `dagster` lives as long as its process works on a step."""
    monkeypatch.setattr("taxi_assets.history.QUIET_SECONDS", 0)
    command = [sys.executable, "-c", RUN_AND_WAIT]
    process = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "fetching\n"
    with dagster_instance() as instance:
        [started] = instance.get_runs()
        launcher = instance.run_launcher
        assert isinstance(launcher, TaxiRunLauncher)
        assert launcher.supports_check_run_worker_health
        assert launcher.check_run_worker_health(started).status.value == "RUNNING"
        end_dead_runs(instance)
        assert instance.get_run_by_id(started.run_id).status.value == "STARTED"

        process.kill()
        process.communicate()
        wait_for(lambda: not is_alive(instance, started))
        assert launcher.check_run_worker_health(started).status.value == "FAILED"
        instance.add_run_tags(started.run_id, {POD_TAG: "ours"})  # then a cluster would look after it
        end_dead_runs(instance)
        assert instance.get_run_by_id(started.run_id).status.value == "STARTED"
        instance.add_run_tags(started.run_id, {POD_TAG: ""})
        end_dead_runs(instance)
        assert instance.get_run_by_id(started.run_id).status.value == "FAILURE"


def test_a_run_that_lost_its_connection_a_moment_ago_is_alive(environment):
    """It holds nothing then, but has just written an event."""
    with dagster_instance() as instance:
        result = run(instance, KEY, selection=["postgres_trips"])
        assert is_alive(instance, instance.get_run_by_id(result.run_id))


def test_the_queue_is_limited_as_the_file_says(environment):
    with dagster_instance() as instance:
        config = instance.get_concurrency_config()
        assert config.run_queue_config.max_concurrent_runs == 4
        [limit] = config.run_queue_config.tag_concurrency_limits
        assert (limit["key"], limit["limit"]) == ("dagster/partition/color", 2)
        assert config.pool_config.default_pool_limit == 4
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.get_settings("run_retries")["retry_on_asset_or_op_failure"]
