"""Installations of earlier versions, from the backups that they made, go on in this one without losing anything."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from taxi_assets.backup import Backup, put_back
from taxi_assets.history import latest
from taxi_assets.instance import dagster_instance
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings_store import SettingsStore
from taxi_assets.resources.source import TripSource
from taxi_assets.sample import write_sample
from taxi_assets.status import statuses
from taxi_assets.trips import COLORS, TripFile
from tests.integration.conftest import loaded, run
from tests.servers import connect, one, rows
from tests.upgrade import make

FOLDERS = sorted(path.parent for path in make.FOLDERS.glob("*/backup.json"))
OLD = [TripFile.of(color, make.MONTH) for color in COLORS]
NEW = TripFile.of("green", "2020-05")


def test_every_release_has_its_backup():
    assert {folder.name for folder in FOLDERS} >= {"0.1.0"}
    for folder in FOLDERS:
        assert Backup.model_validate_json((folder / "backup.json").read_bytes()).taxi_assets == folder.name
        for path in folder.iterdir():
            assert path.stat().st_size < 300_000, "git keeps it for ever"


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def restored(request, own_server, home, tmp_path, monkeypatch):
    """The backup, restored into fresh databases, and the files that it was made from as the source."""
    for trip_file in (*OLD, NEW):
        write_sample(trip_file, tmp_path / trip_file.gz_name, make.ROWS)
    monkeypatch.setenv("TAXI_POSTGRES_URL", own_server.make_database())
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", own_server.make_database())
    monkeypatch.setenv("TAXI_SOURCE", str(tmp_path))
    return put_back(request.param, False, lambda what, done, total: None)


def command(*arguments, fails=False):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("taxi")), *arguments], text=True, capture_output=True, timeout=120
    )
    assert bool(done.returncode) == fails, done.stderr[-2000:]
    return done.stderr if fails else done.stdout


@contextmanager
def new_history(server):
    """A history that was never of another version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", url := server.make_database())
        with dagster_instance() as instance:
            instance.get_runs_count()
            yield url


def schema(url):
    columns = """
        SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'
        ORDER BY 1, 2
    """
    return rows(url, columns), one(url, "SELECT version_num FROM alembic_version")


def inserted(instance, trip_file):
    result = loaded(run(instance, key=trip_file.partition_key))
    [merged] = result.asset_materializations_for_node("postgres_trips")
    return merged.metadata["rows_inserted"].value


def test_upgrade(restored, own_server):
    history = os.environ["DAGSTER_POSTGRES_URL"]
    runs = rows(history, "SELECT run_id, status FROM runs ORDER BY 1")
    assert [status for _, status in runs] == ["SUCCESS", "SUCCESS"]
    said = command("migrate")
    assert said.endswith("The history is as this version of Dagster wants it.\n")
    assert rows(history, "SELECT run_id, status FROM runs ORDER BY 1") == runs
    with new_history(own_server) as anew:  # the tables are those that this Dagster makes
        assert schema(history) == schema(anew)

    postgres = Postgres()
    sums = [postgres.id_sum(trip_file) for trip_file in OLD]
    assert [count for count, _ in sums] == [make.ROWS] * 2
    assert SettingsStore(postgres=postgres).find("GCP_DATASET").text == "trips"
    with dagster_instance() as instance:
        found = {
            s.trip_file.partition_key: s for s in statuses(instance, TripSource(), postgres) if s.state != "missing"
        }
        assert {key: (status.state, status.rows) for key, status in found.items()} == {
            trip_file.partition_key: ("loaded", make.ROWS) for trip_file in OLD
        }
        for run_id, _ in runs:  # readable, from the run to its events and its plan
            old = instance.get_run_by_id(run_id)
            assert old.status == dg.DagsterRunStatus.SUCCESS
            kinds = [
                record.event_log_entry.dagster_event_type for record in instance.get_records_for_run(run_id).records
            ]
            assert kinds.count(dg.DagsterEventType.STEP_SUCCESS) >= 3
            assert dg.DagsterEventType.RUN_SUCCESS in kinds
            assert instance.get_execution_plan_snapshot(old.execution_plan_snapshot_id).steps
        assert set(latest(instance, "postgres_trips")) == set(found)

        assert [inserted(instance, trip_file) for trip_file in OLD] == [0, 0]
        assert inserted(instance, NEW) == make.ROWS
        assert [postgres.id_sum(trip_file) for trip_file in OLD] == sums
        states = {s.trip_file.partition_key: s.state for s in statuses(instance, TripSource(), postgres, [*OLD, NEW])}
        assert set(states.values()) == {"loaded"}
    assert one(history, "SELECT count(*) FROM runs") == 5


def test_a_history_of_a_later_dagster(own_server, home, monkeypatch):
    with new_history(own_server) as url:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
        command("migrate")
        with connect(url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        assert command("migrate", fails=True) == (
            f"taxi: The history was written by a later Dagster than {dg.__version__} (Can't locate revision identified "
            f"by 'ffffffffffff'): go back to that version, or restore the backup from before it.\n"
        )
