"""Backups of real installations, restored into other servers, refused, killed in the middle, and damaged."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from taxi_assets import backup
from taxi_assets.backup import back_up, put_back
from taxi_assets.errors import TaxiError
from taxi_assets.history import CLAIM_TAG, claimed
from taxi_assets.instance import dagster_instance
from taxi_assets.resources import dumps
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings_store import SettingsStore
from taxi_assets.resources.source import TripSource
from taxi_assets.sample import write_sample
from taxi_assets.status import statuses
from taxi_assets.trips import COLORS, TripFile
from tests.integration.conftest import KEY, loaded, run
from tests.servers import connect, one, rows

TAXI = str(Path(sys.executable).with_name("taxi"))
MONTHS = ("2020-04", "2020-05")
GREEN, LATER = TripFile.of("green", "2020-04"), TripFile.of("green", "2020-05")
BUSY = 4711  # an advisory lock that a restore is made to wait for


def quiet(what, done, total):
    assert 0 <= done <= total, what


@pytest.fixture(scope="module")
def own_home(open_tmp):
    """A folder of its own with small sample months, for all tests of this module."""
    home = open_tmp()
    (home / "files").mkdir()
    for color in COLORS:
        for month in MONTHS:
            trip_file = TripFile.of(color, month)
            write_sample(trip_file, home / "files" / trip_file.gz_name, rows=1000)
    return home


class Begun(subprocess.Popen):
    """A command that does not outlive a `with` block that fails."""

    def __exit__(self, failed, *args):
        if failed:
            self.kill()
        super().__exit__(failed, *args)


class Databases:
    """Where the trips and the history of an installation are, which are fresh databases."""

    def __init__(self, server, home, one=False):
        self.server = server
        self.trips = server.make_database()
        self.history = self.trips if one else server.make_database()
        self.settings = {
            "TAXI_POSTGRES_URL": self.trips, "DAGSTER_POSTGRES_URL": self.history, "TAXI_HOME": str(home),
            "TAXI_SOURCE": str(home / "files"),
        }  # fmt: skip

    @contextmanager
    def used(self):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings.items():
                patch.setenv(name, value)
            yield self

    def taxi(self, *arguments, **settings):
        environment = os.environ | {"COLUMNS": "120"} | self.settings | settings
        return subprocess.run([TAXI, *map(str, arguments)], env=environment, text=True, capture_output=True, timeout=60)

    def begin(self, *arguments):
        return Begun(
            [TAXI, *map(str, arguments)], env=os.environ | self.settings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def back_up(self, folder):
        with self.used():
            return back_up(folder, quiet)

    def put_back(self, folder, replace=False):
        with self.used():
            return put_back(folder, replace, quiet)

    def load(self, key):
        """The rows that a run inserted."""
        with self.used(), dagster_instance() as instance:
            result = loaded(run(instance, key=key))
            [merged] = result.asset_materializations_for_node("postgres_trips")
            return merged.metadata["rows_inserted"].value

    def statuses(self):
        with self.used(), dagster_instance() as instance:
            return statuses(instance, TripSource(), Postgres())

    def facts(self):
        """What must be the same after a restore."""
        found = {
            file.stem: Postgres(url=self.trips).id_sum(file)
            for file in (GREEN, TripFile.of("yellow", "2020-04"), LATER)
        }
        partitions = """
            SELECT inhparent::regclass::text, inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid)
            FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid ORDER BY 1, 2
        """
        comments = """
            SELECT objoid::regclass::text, objsubid, description FROM pg_description
            WHERE classoid = 'pg_class'::regclass AND objoid >= 16384 ORDER BY 1, 2
        """
        found["partitions"], found["comments"] = rows(self.trips, partitions), rows(self.trips, comments)
        there = one(self.trips, "SELECT to_regclass('taxi.settings') IS NOT NULL")
        found["taxi.settings"] = rows(self.trips, "SELECT * FROM taxi.settings ORDER BY 1") if there else None
        if one(self.history, "SELECT to_regclass('runs') IS NOT NULL"):
            for table in ("runs", "run_tags", "event_logs", "kvs", "alembic_version"):
                found[table] = rows(self.history, f"SELECT t::text FROM {table} AS t ORDER BY 1")
            found["next run"] = one(self.history, "SELECT last_value FROM runs_id_seq")
            found["indexes"] = rows(
                self.history, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
            )
        return found


@pytest.fixture
def fresh(own_home):
    return lambda server, **options: Databases(server, own_home, **options)


@pytest.fixture(scope="module")
def source(password_server, own_home):
    """An installation on a server of version 16 with two months, a setting, and runs in its history."""
    source = Databases(password_server, own_home)
    with source.used():
        SettingsStore(postgres=Postgres()).set("GCP_DATASET", "trips")
    assert [source.load(key) for key in (KEY, "yellow|2020-04")] == [1000, 1000]
    return source


@pytest.fixture(scope="module")
def folder(source, own_home):
    """A backup of it."""
    folder = own_home / "backup"
    done = source.taxi("backup", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{folder}: 2,000 trips of 2 files and the history of 2 runs, " in done.stdout
    return folder


@pytest.fixture(scope="module")
def folder_of_18(folder, own_server, own_home):
    """A backup of the same installation after it moved to a server of version 18."""
    moved = Databases(own_server, own_home)
    moved.put_back(folder)
    return moved.back_up(own_home / "backup-18")[0]


def refused(call, *arguments, **options):
    with pytest.raises(TaxiError) as info:
        call(*arguments, **options)
    return str(info.value)


@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("one_database", [False, True], ids=["two databases", "one database"])
def test_round_trip(source, folder, fresh, password_server, own_server, version, one_database):
    target = fresh(password_server if version == 16 else own_server, one=one_database)
    before, known = source.facts(), source.statuses()
    assert before["green_tripdata_2020-04"][0] == before["yellow_tripdata_2020-04"][0] == 1000
    assert len(before["runs"]) == 2 and before["partitions"] and before["comments"] and before["taxi.settings"]
    done = target.taxi("restore", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "restored: 2,000 trips of 2 files and the history of 2 runs, " in done.stdout
    after = target.facts()
    for what in before:
        if not (one_database and what in ("indexes", "comments")):  # there they are of both
            assert after[what] == before[what], what
    assert target.statuses() == known
    assert [status.state for status in known].count("loaded") == 2
    assert target.load(KEY) == 0
    assert target.load("green|2020-05") == 1000
    assert len(target.facts()["runs"]) == 4
    assert "4 loaded" not in target.taxi("status").stdout
    assert "3 loaded" in target.taxi("status").stdout


def test_what_a_backup_says(folder, source):
    assert sorted(path.name for path in folder.iterdir()) == ["backup.json", "history.dump", "trips.dump"]
    assert folder.stat().st_mode & 0o077 == 0
    said = json.loads((folder / "backup.json").read_text())
    assert (said["taxi_assets"], said["dagster"]) == (backup.version("taxi-assets"), dg.__version__)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["time"])
    assert said["trips"]["rows"] == {"green_tripdata_2020-04.csv": 1000, "yellow_tripdata_2020-04.csv": 1000}
    assert said["history"]["rows"] == {"runs": 2}
    assert said["trips"]["server"] == said["history"]["server"] == 16
    for name in ("trips", "history"):
        assert said[name]["bytes"] == (folder / f"{name}.dump").stat().st_size
    assert said["trips"]["tables"]["partitions"]["green_tripdata_2020_04__2020_04"] > 8192
    assert set(said["history"]["tables"]) == {"public"}


def test_without_a_folder_it_is_below_the_home(fresh, own_server, folder, open_tmp):
    target, home = fresh(own_server), open_tmp()
    target.put_back(folder)
    done = target.taxi("backup", TAXI_HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")
    [made] = (home / "backups").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d{6}Z", made.name)
    assert str(made) in done.stdout


def test_embedded_server(folder, source, open_tmp):
    """Into the embedded server, and from there into a folder that is there already and empty."""
    home = open_tmp()
    (home / "backup").mkdir()
    embedded = {"TAXI_POSTGRES_URL": "", "DAGSTER_POSTGRES_URL": "", "TAXI_HOME": str(home)}
    for arguments in (["restore", folder], ["backup", home / "backup"], ["restore", "--replace", home / "backup"]):
        done = source.taxi(*arguments, **embedded)
        assert (done.returncode, done.stderr) == (0, "")
        assert "2,000 trips of 2 files and the history of 2 runs" in done.stdout
    assert "2 loaded" in source.taxi("status", **embedded).stdout


def test_older_server(folder_of_18, fresh, password_server):
    target = fresh(password_server)
    assert refused(target.put_back, folder_of_18) == (
        "The dump of the trips is from Postgres 18 and the server of TAXI_POSTGRES_URL is Postgres 16: "
        "restore into Postgres 18 or later."
    )
    assert rows(target.trips, "SELECT FROM pg_class WHERE relname = 'green_tripdata'") == []


@pytest.mark.parametrize("what", ["trips", "settings", "runs"])
def test_databases_in_use(folder, fresh, own_server, what):
    target = fresh(own_server)
    if what == "trips":
        postgres = Postgres(url=target.trips)
        postgres.stage(GREEN, Path(target.settings["TAXI_SOURCE"]) / GREEN.gz_name)
        postgres.merge(GREEN)
        place, variable = "public.green_tripdata", "TAXI_POSTGRES_URL"
    elif what == "settings":
        SettingsStore(postgres=Postgres(url=target.trips)).set("GCP_DATASET", "mine")
        place, variable = "taxi.settings", "TAXI_POSTGRES_URL"
    else:
        with target.used(), dagster_instance() as instance:
            instance.add_run(dg.DagsterRun(job_name="mine", run_id=str(uuid.uuid4())))
        place, variable = "public.runs", "DAGSTER_POSTGRES_URL"
    before = target.facts()
    assert refused(target.put_back, folder) == (
        f"{place} in the database of {variable} has {what} already: restore into another database, or put the backup "
        f"in their place with --replace."
    )
    after = target.facts()
    assert {name: after[name] for name in before} == before
    done = target.taxi("restore", folder)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    target.put_back(folder, replace=True)
    assert target.facts()["taxi.settings"] != before["taxi.settings"]


def test_replace_what_came_after(source, folder, fresh, own_server):
    target = fresh(own_server)
    target.put_back(folder)
    assert target.load("green|2020-05") == 1000
    assert target.facts() != source.facts()
    target.put_back(folder, replace=True)
    assert target.facts() == source.facts()
    assert one(target.trips, "SELECT count(*) FROM green_tripdata") == 1000


def test_what_depends_on_the_tables_is_not_dropped(folder, fresh, own_server):
    target = fresh(own_server)
    target.put_back(folder)
    with connect(target.trips) as connection:
        connection.execute("CREATE VIEW fares AS SELECT fare_amount FROM green_tripdata")
    before = target.facts()
    said = refused(target.put_back, folder, replace=True)
    assert "view fares depends on table green_tripdata" in said
    assert said.endswith("nothing was changed in the database of TAXI_POSTGRES_URL; correct that, then restore again.")
    assert target.facts() == before


def test_history_refused_after_the_trips(folder, fresh, own_server):
    target = fresh(own_server)
    target.put_back(folder)
    assert target.load("green|2020-05") == 1000
    with connect(target.history) as connection:
        connection.execute("CREATE VIEW mine AS SELECT * FROM runs")
    said = refused(target.put_back, folder, replace=True)
    assert said.startswith("The trips are restored, the history is not yet, so restore again with --replace: ")
    assert "view mine depends on table runs" in said
    assert len(target.facts()["runs"]) == 3  # as before
    assert target.load("green|2020-05") == 1000  # they are gone


@pytest.mark.parametrize("alive", [True, False])
def test_runs_at_work(folder, fresh, own_server, alive):
    target = fresh(own_server)
    with target.used(), dagster_instance() as instance:
        run_id = str(uuid.uuid4())
        started = dg.DagsterRun(
            job_name="postgres_trips_job", run_id=run_id, status=DagsterRunStatus.STARTED, tags={CLAIM_TAG: "a month"}
        )
        instance.add_run(started)
        if alive:
            with claimed(instance, "a month"):
                said = refused(put_back, folder, True, quiet)
            assert said == (
                f"1 run is at work ({run_id[:8]}): wait until `taxi status` shows none as running, or terminate them "
                f"in the UI."
            )
            assert one(target.history, "SELECT status FROM runs") == "STARTED"
        else:
            put_back(folder, True, quiet)
            assert one(target.history, "SELECT count(*) FROM runs") == 2


def wait_until(url, query):
    deadline = time.monotonic() + 30
    while not one(url, query):
        assert time.monotonic() < deadline, f"never true: {query}"
        time.sleep(0.02)


def arguments_on_this_machine():
    """What every user can read of the programs that run."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield process.read_bytes().decode(errors="replace")
        except OSError:
            continue


HELD = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
# Which pg_dump looks at when it has locked the tables and before it writes them, and nobody else does.
DUMPING = "LOCK TABLE pg_policy"
OTHERS = """
    SELECT count(*) = 0 FROM pg_stat_activity
    WHERE datname = current_database() AND application_name IN ('psql', 'pg_dump')
"""


@contextmanager
def held_up(url, statement):
    """Keep a backup or a restore waiting for a lock."""
    with connect(url) as connection:
        connection.execute(statement)
        yield
        connection.rollback()


def break_off(url):
    """The connection of each that waits for a lock, as when the network fails."""
    query = HELD.replace("count(*) = 1", "pg_terminate_backend(pid)")
    with connect(url, autocommit=True) as connection:
        connection.execute(query)


def child(process, name):
    """The pid of a program that a process runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            command, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            if command == name and int(rest.split()[1]) == process.pid:
                return int(stat.parent.name)
    raise AssertionError(f"there is no {name}")


@pytest.fixture
def copy(folder, fresh, password_server):
    """A copy of the installation that a test may change."""
    copy = fresh(password_server)
    copy.put_back(folder)
    return copy


def test_backup_killed(copy, tmp_path):
    wanted = tmp_path / "wanted"
    with held_up(copy.trips, DUMPING):
        with copy.begin("backup", wanted) as process:
            wait_until(copy.trips, HELD)
            assert any("pg_dump" in line and "127.0.0.1" in line for line in arguments_on_this_machine())
            shown = " ".join(arguments_on_this_machine())
            process.kill()
        [begun] = tmp_path.iterdir()  # what it leaves, and the history is in it already
        assert begun.name.startswith(".taxi-backup-")
        assert (begun / "history.dump").stat().st_size > 0
    assert copy.server.password not in shown
    assert not wanted.exists()
    wait_until(copy.trips, OTHERS)  # pg_dump has noticed
    assert not wanted.exists()
    assert "is no backup" in refused(copy.put_back, begun, replace=True)
    copy.back_up(wanted)
    assert list(tmp_path.iterdir()) == [wanted]  # what was left is gone


def test_two_backups_at_once(copy, tmp_path):
    """The second does not take what the first has begun for something left by a killed one."""
    with held_up(copy.trips, DUMPING), copy.begin("backup", tmp_path / "first") as first:
        wait_until(copy.trips, HELD)
        with copy.begin("backup", tmp_path / "second") as second:
            wait_until(copy.trips, HELD.replace("= 1", "= 2"))
            assert len(list(tmp_path.iterdir())) == 2
            break_off(copy.trips)
            assert [process.wait(30) for process in (first, second)] == [1, 1]
    assert list(tmp_path.iterdir()) == []


def test_backup_breaks_off(copy, tmp_path):
    with held_up(copy.trips, DUMPING), copy.begin("backup", tmp_path / "wanted") as process:
        wait_until(copy.trips, HELD)
        break_off(copy.trips)
        said, failed = process.communicate(timeout=30)
    assert (process.returncode, said, failed.count("\n")) == (1, "", 1)
    assert failed.startswith(f"taxi: The trips could not be written to {tmp_path}")
    assert "terminating connection" in failed
    assert list(tmp_path.iterdir()) == []


def test_months_load_during_a_backup(copy, fresh, own_server, tmp_path):
    """A merge waits for nothing, and the backup has the rows that it counted."""
    postgres = Postgres(url=copy.trips)
    postgres.stage(LATER, Path(copy.settings["TAXI_SOURCE"]) / LATER.gz_name)
    with copy.begin("backup", tmp_path / "wanted") as process:
        with held_up(copy.trips, DUMPING):
            wait_until(copy.trips, HELD)
            Postgres(url=f"{copy.trips}?options=-clock_timeout%3D5s").merge(LATER)  # drops its staging table
            assert not postgres.staged()
        assert process.wait(30) == 0
    assert postgres.merged_rows(LATER) == 1000
    target = fresh(own_server)
    contents = target.put_back(tmp_path / "wanted")
    assert contents.trips.rows == {"green_tripdata_2020-04.csv": 1000, "yellow_tripdata_2020-04.csv": 1000}
    assert one(target.trips, "SELECT count(*) FROM green_tripdata") == 1000
    assert target.load("green|2020-05") == 1000


TRIGGER = """
CREATE FUNCTION wait_for_it() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = '{table}') THEN
        PERFORM pg_advisory_xact_lock({busy});
    END IF;
END $$;
CREATE EVENT TRIGGER wait_for_it ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION wait_for_it();
"""


@pytest.mark.parametrize("what", ["trips", "history"])
@pytest.mark.parametrize("who", ["taxi", "psql", "connection"])
def test_restore_killed(copy, folder, what, who):
    """When all rows are in their tables and only the last keys are missing."""
    assert copy.load("green|2020-05") == 1000
    before = copy.facts()
    url, table = (copy.trips, "taxi.settings") if what == "trips" else (copy.history, "public.alembic_version")
    with connect(url) as connection:
        connection.execute(TRIGGER.format(table=table, busy=BUSY))
    with copy.begin("restore", "--replace", folder) as process:
        with held_up(url, f"SELECT pg_advisory_lock({BUSY})"):
            wait_until(url, HELD)
            shown = " ".join(arguments_on_this_machine())
            if who == "taxi":
                process.kill()
                process.wait()
            elif who == "psql":
                os.kill(child(process, "psql"), signal.SIGKILL)
            else:
                break_off(url)
        failed = process.communicate(timeout=30)[1]  # psql goes on now, if it is still there
    assert "psql" in shown
    assert copy.server.password not in shown
    if who != "taxi":
        assert (process.returncode, failed.count("\n")) == (1, 1)
        assert f"The {what} could not be restored" in failed
    wait_until(url, OTHERS)
    after = copy.facts()
    if what == "trips":
        assert after == before
    else:
        assert {name: after[name] for name in ("runs", "event_logs", "indexes")} == {
            name: before[name] for name in ("runs", "event_logs", "indexes")
        }
        assert after["green_tripdata_2020-05"] == (0, 0)
    with connect(url) as connection:
        connection.execute("DROP EVENT TRIGGER wait_for_it")
    copy.put_back(folder, replace=True)
    assert len(copy.facts()["runs"]) == 2


@pytest.fixture
def another(folder, tmp_path):
    """A copy of the backup that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "another"))


def change(folder, **values):
    path = folder / "backup.json"
    said = json.loads(path.read_text())
    for name, value in values.items():
        part, _, field = name.partition("__")
        (said[part] if field else said)[field or part] = value
    path.write_text(json.dumps(said))


def damage(dump, how):
    content = dump.read_bytes()
    if how == "cut off":
        dump.write_bytes(content[: len(content) * 2 // 3])
    elif how == "changed":
        middle = len(content) * 2 // 3
        dump.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    else:
        dump.write_bytes(b"no dump")


@pytest.mark.parametrize("name", ["trips", "history"])
@pytest.mark.parametrize("how", ["cut off", "changed", "something else"])
def test_damaged(copy, another, name, how):
    before, dump = copy.facts(), another / f"{name}.dump"
    damage(dump, how)
    assert refused(copy.put_back, another, replace=True) == (
        f"{dump} is not as it was written, cut off or changed: take another backup."
    )
    assert copy.facts() == before


@pytest.mark.parametrize("how", ["cut off", "changed", "something else"])
def test_damaged_beyond_its_sum(copy, another, how):
    """What only pg_restore can tell, in the middle of its work."""
    before, dump = copy.facts(), another / "trips.dump"
    damage(dump, how)
    change(another, trips__bytes=dump.stat().st_size, trips__sha256=hashlib.sha256(dump.read_bytes()).hexdigest())
    said = refused(copy.put_back, another, replace=True)
    assert said.startswith(f"pg_restore cannot read {dump} (")
    assert said.endswith("): take another backup; nothing was changed in the database of the trips.")
    assert copy.facts() == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"taxi_assets": "99.0"}, "{folder} was made by taxi-assets 99.0 and this is {version}: install that version "
         "or a later."),
        ({"dagster": "99.1.2"}, "{folder} was made by Dagster 99.1 and this is {dagster}: install that version or a "
         "later."),
        ({"taxi_assets": "new"}, "{folder}/backup.json names the version 'new', which is none: take another backup."),
        ({"trips": {}}, "{folder}/backup.json is not as a backup has it: take another backup."),
    ],
)  # fmt: skip
def test_not_for_this_version(fresh, own_server, another, values, said):
    change(another, **values)
    dagster = ".".join(dg.__version__.split(".")[:2])
    expected = said.format(folder=another, version=backup.version("taxi-assets"), dagster=dagster)
    assert refused(fresh(own_server).put_back, another) == expected


def test_no_backup(fresh, own_server, another, tmp_path):
    target = fresh(own_server)
    (another / "history.dump").unlink()
    assert refused(target.put_back, another) == (
        f"{another} is not whole, history.dump is missing: take another backup."
    )
    (another / "backup.json").unlink()
    assert refused(target.put_back, another) == (
        f"{another} is no backup (No such file or directory: backup.json): name a folder that `taxi backup` made."
    )
    (another / "backup.json").write_bytes(b"\xff{")
    assert "backup.json is not as a backup has it" in refused(target.put_back, another)
    done = target.taxi("restore", tmp_path / "nowhere")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "nowhere is no backup" in done.stderr


def test_folders_that_a_backup_cannot_become(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    full = tmp_path / "full"
    assert refused(source.back_up, full) == f"{full} is there already and not empty: name another folder."
    file = full / "file"
    assert refused(source.back_up, file) == f"{file} is there already and not empty: name another folder."
    below = file / "below"
    assert refused(source.back_up, below) == (
        f"The backup cannot be written to {below} (File exists): name another folder."
    )
    assert file.read_text() == "mine"
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_nothing_to_back_up(fresh, own_server, tmp_path):
    assert refused(fresh(own_server).back_up, tmp_path / "wanted") == (
        "There is nothing of the trips in the database of TAXI_POSTGRES_URL: load a month first."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variable", ["TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL"])
@pytest.mark.parametrize("command", [["backup"], ["restore", "--replace"]])
def test_wrong_password(source, another, tmp_path, variable, command):
    folder = another if command[0] == "restore" else tmp_path / "wanted"
    wrong = source.server.url("postgres", password="hidden:too")
    done = source.taxi(*command, folder, **{variable: wrong})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f'password authentication failed for user "postgres"): check user and password in {variable}' in done.stderr
    assert "hidden" not in done.stderr
    assert source.server.password not in done.stderr


def test_environment_of_the_caller(source, fresh, password_server, tmp_path):
    """What libpq would read there is for other databases."""
    others = {
        "PGHOST": "192.0.2.1", "PGPORT": "9", "PGUSER": "nobody", "PGDATABASE": "nothing", "PGPASSWORD": "wrong",
        "PGCLIENTENCODING": "LATIN1", "PGAPPNAME": "mine", "LC_ALL": "", "LANGUAGE": "de", "PG_COLOR": "always",
    }  # fmt: skip
    done = source.taxi("backup", tmp_path / "wanted", **others)
    assert (done.returncode, done.stderr) == (0, "")
    target = fresh(password_server)
    done = target.taxi("restore", tmp_path / "wanted", **others)
    assert (done.returncode, done.stderr) == (0, "")
    assert target.facts() == source.facts()
    with target.used(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGOPTIONS", "-c default_transaction_read_only=on -c search_path=nowhere")
        database = dumps.Database("trips", "TAXI_POSTGRES_URL", Postgres())
        with database.connect() as connection:
            parameters, environment = dumps._reached(database, connection)
    assert "nowhere" not in parameters
    assert source.server.password not in parameters
    assert {name for name in environment if name.startswith("PG")} == {"PGPASSWORD"}


def test_role_that_owns_its_tables_only(source, folder, fresh, password_server, tmp_path):
    """And may not read what else is in the database."""
    role, target, second = f"loader_{uuid.uuid4().hex[:8]}", fresh(password_server), fresh(password_server)
    with connect(target.trips, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p/w'")
    for databases in (target, second):
        for url in (databases.trips, databases.history):
            with connect(url, autocommit=True) as connection:
                connection.execute(f"GRANT CREATE ON DATABASE {connection.info.dbname} TO {role}")
                connection.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
                connection.execute("CREATE TABLE public.others (secret text)")
                connection.execute("CREATE SCHEMA others CREATE TABLE mine (secret text)")
        for variable in ("TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL"):
            url = databases.settings[variable]
            databases.settings[variable] = f"postgresql://{role}:p%2Fw@{url.partition('@')[2]}"
    target.put_back(folder)
    assert target.facts() == source.facts()
    assert one(target.trips, "SELECT tableowner FROM pg_tables WHERE tablename = 'green_tripdata'") == role
    target.put_back(target.back_up(tmp_path / "theirs")[0], replace=True)
    second.put_back(tmp_path / "theirs")
    assert second.facts() == source.facts()
    assert second.load(KEY) == 0
    assert one(second.trips, "SELECT count(*) FROM others.mine") == 0


def test_role_without_rights(folder, fresh, password_server):
    role, target = f"reader_{uuid.uuid4().hex[:8]}", fresh(password_server)
    with connect(target.trips, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p/w'")
    target.settings["TAXI_POSTGRES_URL"] = f"postgresql://{role}:p%2Fw@{target.trips.partition('@')[2]}"
    said = refused(target.put_back, folder)
    assert re.fullmatch(
        r"The trips could not be restored \(permission denied for [^()]+\): nothing was changed in the database of "
        r"TAXI_POSTGRES_URL; correct that, then restore again\.",
        said,
    )


def test_server_newer_than_pg_dump(source, tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "_programs", lambda: dumps._Programs(Path("/nonexistent"), 15))
    assert refused(source.back_up, tmp_path / "wanted") == (
        "The server of DAGSTER_POSTGRES_URL is Postgres 16, pg_dump here is 15 and reads no newer ones: install the "
        "client programs of Postgres 16, and put them on the PATH."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("on_the_path", "taken"), [(17, False), (18, False), (99, True)])
def test_which_programs(tmp_path, monkeypatch, on_the_path, taken):
    program = tmp_path / "pg_dump"
    program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {on_the_path}.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = dumps._programs.__wrapped__()
    assert (found.folder == tmp_path) is taken
    assert found.version == (on_the_path if taken else 18)


def test_progress(copy, another, tmp_path):
    """By the bytes of the tables, forward and to the end of each part."""
    told = []

    def tell(what, done, total):
        told.append((what, done, total))

    with copy.used():
        back_up(tmp_path / "wanted", tell)
        put_back(another, True, tell)
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "writing history", "checking history", "writing trips", "checking trips", "restoring trips",
        "restoring history",
    ]  # fmt: skip
    for part in ("writing trips", "restoring trips", "restoring history"):
        steps = [(done, total) for what, done, total in told if what == part]
        assert len(steps) > 3
        assert steps == sorted(steps)
        assert 0 == steps[0][0] < steps[-1][0] <= steps[-1][1]
