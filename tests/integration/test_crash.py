"""Killed at any moment, by whatever side: the same command again gives exactly the undisturbed table."""

import signal
import subprocess
import sys
import time

import pytest

from taxi_assets.errors import TransientError
from taxi_assets.resources.postgres import Postgres
from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile
from tests.servers import connect, one, rows

ROWS = 300_000
LOADER = """
import sys
from pathlib import Path
from taxi_assets.resources.postgres import Postgres
from taxi_assets.trips import TripFile
trip_file = TripFile.of("green", "2020-04")
postgres = Postgres(url=sys.argv[1])
postgres.stage(trip_file, Path(sys.argv[2]))
postgres.merge(trip_file)
"""


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    trip_file = TripFile.of("green", "2020-04")
    path = tmp_path_factory.mktemp("month") / trip_file.gz_name
    write_sample(trip_file, path, ROWS)
    return trip_file, path


@pytest.fixture(scope="module")
def neighbor(tmp_path_factory):
    """A small month before, some of whose pickups lie in ours."""
    trip_file = TripFile.of("green", "2020-03")
    path = tmp_path_factory.mktemp("neighbor") / trip_file.gz_name
    write_sample(trip_file, path, 2000)
    return trip_file, path


@pytest.fixture
def database(own_server, neighbor):
    postgres = Postgres(url=own_server.make_database())
    postgres.stage(*neighbor)
    postgres.merge(neighbor[0])
    assert one(postgres.url, "SELECT to_regclass('partitions.green_tripdata_2020_04') IS NOT NULL")
    return postgres


@pytest.fixture(scope="module")
def undisturbed(own_server, month, neighbor):
    postgres = Postgres(url=own_server.make_database())
    for trip_file, path in (neighbor, month):
        postgres.stage(trip_file, path)
        postgres.merge(trip_file)
    return fingerprint(postgres)


def fingerprint(postgres):
    return rows(
        postgres.url,
        "SELECT filename, count(*), sum(hashtextextended(t::text, 0)::numeric) "
        "FROM green_tripdata t GROUP BY 1 ORDER BY 1",
    )


def loader(postgres, path):
    return subprocess.Popen([sys.executable, "-c", LOADER, postgres.url, str(path)], stderr=subprocess.PIPE, text=True)


def wait_for(url, query):
    deadline = time.monotonic() + 60
    while not one(url, query):
        assert time.monotonic() < deadline, f"never true: {query}"
        time.sleep(0.005)


def in_copy(url):
    wait_for(url, "SELECT coalesce(max(tuples_processed), 0) > 1000 FROM pg_stat_progress_copy")


def in_merge(url):
    wait_for(url, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ATTACH%'")


@pytest.mark.parametrize("moment", [in_copy, in_merge], ids=["in mid-COPY", "in mid-merge"])
def test_the_loader_is_killed(database, month, undisturbed, moment):
    with connect(database.url) as blocker:
        if moment is in_merge:  # holds the merge where its rows are written but not yet attached
            blocker.execute("LOCK TABLE partitions.green_tripdata_2020_04 IN SHARE UPDATE EXCLUSIVE MODE")
        process = loader(database, month[1])
        moment(database.url)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert database.merged_rows(month[0]) == 0, "nothing of the file is visible"
    subprocess.run([sys.executable, "-c", LOADER, database.url, str(month[1])], check=True, timeout=120)
    assert fingerprint(database) == undisturbed
    assert database.staged() == set()


@pytest.mark.parametrize("moment", [in_copy, in_merge], ids=["in mid-COPY", "in mid-merge"])
@pytest.mark.parametrize("end", ["crash", "immediate stop", "fast stop"])
def test_the_server_stops(own_server, database, month, undisturbed, moment, end):
    with connect(database.url) as blocker:
        if moment is in_merge:
            blocker.execute("LOCK TABLE partitions.green_tripdata_2020_04 IN SHARE UPDATE EXCLUSIVE MODE")
        process = loader(database, month[1])
        moment(database.url)
        if end == "crash":
            own_server.crash()
        else:
            own_server.stop(mode=end.partition(" ")[0])
        blocker.close()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "TransientError: " in said.strip().splitlines()[-1]
    own_server.start()
    assert database.merged_rows(month[0]) == 0
    subprocess.run([sys.executable, "-c", LOADER, database.url, str(month[1])], check=True, timeout=120)
    assert fingerprint(database) == undisturbed


def test_a_lost_connection_is_told_in_a_sentence(own_server, database, month):
    with (
        pytest.raises(TransientError, match="connection to Postgres was lost .*run this again") as lost,
        database.connect() as connection,
    ):
        with connect(database.url) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        time.sleep(0.1)
        connection.execute("SELECT 1")
    assert "\n" not in str(lost.value)
