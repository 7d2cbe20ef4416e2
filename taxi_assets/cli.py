"""The `taxi` command: what people do with the graph from a terminal.

A command says what it does in its help, with examples; the work itself is in the other modules.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dotenv import load_dotenv

from taxi_assets.cli_backup import backup, restore
from taxi_assets.cli_gcp import gcp, google_cloud
from taxi_assets.cli_settings import secrets, settings
from taxi_assets.cli_stack import init, migrate, preflight
from taxi_assets.errors import TaxiError
from taxi_assets.resources.embedded import EmbeddedPostgresError
from taxi_assets.resources.settings import PROJECT, setting, taxi_home
from taxi_assets.trips import COLORS, FIRST_MONTH, TripFile

if TYPE_CHECKING:
    import dagster as dg
    import pandas as pd
    from rich.console import Console

    from taxi_assets.backfill import Order, Outcome
    from taxi_assets.resources.bigquery import BigQuery
    from taxi_assets.resources.postgres import Postgres

# Outside what the public archive has (2019-01 to 2021-07), so that real months never mix with invented ones.
DEMO_MONTHS = ("2025-01", "2025-02", "2025-03")

WAREHOUSES = ("postgres", "bigquery")  # as in automation.TARGETS, which takes a second to import

OWN_TAGS = ("taxi", "file", "backfill")  # of runs


def main() -> None:
    """Run `taxi`: exit 0 done, 1 the work failed, 2 wrong usage."""
    try:
        _read_env(PROJECT / ".env")
        taxi()
    except (TaxiError, EmbeddedPostgresError) as error:
        raise SystemExit(f"taxi: {error}") from None


def _read_env(file: Path) -> None:
    """Set what .env says where the environment does not; a line of it that is none is an error, not left out."""
    from dotenv.parser import parse_stream

    if file.exists():
        with file.open(encoding="utf-8-sig") as stream:
            for row in parse_stream(stream):
                if row.error:
                    line = row.original.line + row.original.string.rstrip().count("\n")
                    raise TaxiError(f"{file}, line {line}, is not written as NAME=value on one line: correct it.")
        load_dotenv(file, encoding="utf-8-sig")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def taxi() -> None:
    """New York's taxi trips, month by month, into Postgres and BigQuery.

    \b
    taxi demo               six months of sample trips into the embedded Postgres
    taxi dev                the web UI on http://127.0.0.1:3000
    taxi backfill           all months from one to another
    taxi status             which months are loaded, running, failed or missing
    taxi psql               a prompt on the trips
    taxi settings           what is set, and where that comes from
    taxi backup             trips and history into a folder; taxi restore puts them back
    taxi gcp                set up Google Cloud for the trips
    taxi init               passwords for `docker compose up`
    """


taxi.add_command(gcp)
taxi.add_command(settings)
taxi.add_command(secrets)
taxi.add_command(init)
taxi.add_command(preflight)
taxi.add_command(migrate)
taxi.add_command(backup)
taxi.add_command(restore)


@taxi.command()
def demo() -> None:
    """Load three sample months of both colors through Dagster, show what went in, and draw it.

    A second run finds everything there and inserts nothing.

    \b
    Example:
      taxi demo
    """
    from rich.console import Console

    from taxi_assets.backfill import Backfill
    from taxi_assets.display import watch
    from taxi_assets.resources.postgres import Postgres

    os.environ["TAXI_SOURCE"] = "sample"
    with Postgres().connect():  # else each run would wait for a server that is not there
        pass
    console = Console()
    keys = [TripFile(color, month).partition_key for month in DEMO_MONTHS for color in COLORS.values()]
    outcomes = watch(
        console, Backfill(keys, _order("postgres", {"demo": "true"}, only_missing=False), jobs=2), len(keys)
    )
    failures = [outcome.cause for outcome in outcomes if outcome.state == "failed"]
    if failures:
        raise TaxiError(failures[0])
    if len(outcomes) < len(keys):
        raise TaxiError("Interrupted: what is loaded stays; run this again to go on.")
    _show_demo(console, outcomes)


def _order(target: str, tags: Mapping[str, str], only_missing: bool) -> Order:
    from taxi_assets.automation import TARGETS
    from taxi_assets.backfill import Order

    job, asset = TARGETS[target].job.name, TARGETS[target].asset
    return Order(job=job, asset=asset, tags=tags, only_missing=only_missing, started=time.time())


def _show_demo(console: Console, outcomes: Sequence[Outcome]) -> None:
    from taxi_assets.charts import write_trips_chart
    from taxi_assets.partitions import trip_file_at
    from taxi_assets.resources.postgres import Postgres

    for color in COLORS.values():
        rows = sum(outcome.rows for outcome in outcomes if trip_file_at(outcome.key).color == color)
        console.print(f"public.{color.table}: {rows:,} rows of {len(DEMO_MONTHS)} files", highlight=False)
    if not any(outcome.inserted for outcome in outcomes):
        console.print("Every row was there before: nothing was inserted.")
    chart = taxi_home() / "demo-trips-per-day.png"
    write_trips_chart(_trips_per_day(Postgres(), [trip_file_at(outcome.key) for outcome in outcomes]), chart)
    console.print(
        f"""
The trips per day are drawn in [bold]{chart}[/bold]

Next:
  [bold].venv/bin/taxi dev[/bold]       open the graph on http://127.0.0.1:3000
  [bold].venv/bin/taxi psql[/bold]      ask the tables
  [bold].venv/bin/taxi backfill --color green --from 2020-04 --to 2020-06[/bold]
                            load real months from the public archive (2019-01 to 2021-07)""",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def _trips_per_day(postgres: Postgres, trip_files: Sequence[TripFile]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (pd.Timestamp(day), trip_file.color.name, trips)
        for trip_file in trip_files
        for day, trips in postgres.trips_per_day(trip_file)
    ]
    return pd.DataFrame(rows, columns=["day", "color", "trips"]).pivot(index="day", columns="color", values="trips")


class Month(click.ParamType):  # type: ignore[type-arg]
    """A month of the data, such as 2020-04."""

    name = "month"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is no month, or not one that has ended."""
        from taxi_assets.partitions import months

        if value not in months.get_partition_keys():
            self.fail(
                f"'{value}' is no month of the data: from {FIRST_MONTH} to {months.get_last_partition_key()}, "
                f"written like 2020-04.",
                param, ctx,
            )  # fmt: skip
        return value


class Label(click.ParamType):  # type: ignore[type-arg]
    """A tag for runs, such as `why=audit`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split it, and keep off the tags that Dagster and this project give a meaning."""
        name, found, text = value.partition("=")
        if not (re.fullmatch(r"[\w.-]{1,63}(/[\w.-]{1,63})?", name, re.ASCII) and found and text):
            self.fail(
                f"'{value}' is no label: write it like owner=ann, its name in letters, digits, '_', '-' and '.'.",
                param, ctx,
            )  # fmt: skip
        if name in OWN_TAGS or name.startswith(("dagster/", "taxi/", ".dagster/")):
            self.fail(f"the label '{name}' is given by taxi and Dagster themselves: choose another name.", param, ctx)
        return name, text


@taxi.command()
@click.option(
    "--color", "colors", type=click.Choice(list(COLORS)), multiple=True, help="Repeatable; both where it is not given."
)
@click.option("--from", "first", type=Month(), required=True, help="The first month, such as 2019-01.")
@click.option("--to", "last", type=Month(), required=True, help="The last month, included.")
@click.option("--only-missing/--all", default=True, help="Leave out what is loaded (the default), or load it again.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Partitions at a time; 2 where it is not given.")
@click.option("--target", type=click.Choice(WAREHOUSES), default="postgres", show_default=True, help="Into what.")
@click.option("--label", "labels", type=Label(), multiple=True, help="A tag for each run; repeatable.")
@click.option("--dry-run", is_flag=True, help="Say what would be loaded, and load nothing.")
@click.option("--submit", is_flag=True, help="Leave it to the daemon of `taxi dev`, as a backfill of the UI.")
def backfill(
    colors: tuple[str, ...],
    first: str,
    last: str,
    only_missing: bool,
    jobs: int | None,
    target: str,
    labels: tuple[tuple[str, str], ...],
    dry_run: bool,
    submit: bool,
) -> None:
    """Load all months from one to another, both included.

    It runs here and now, some partitions at a time, and needs no daemon. Ctrl-C brings those at work to their end and
    begins no more; the same command goes on with what is missing or failed.

    \b
    Examples:
      taxi backfill --color green --from 2020-04 --to 2020-04
      taxi backfill --from 2019-01 --to 2020-12 --jobs 2 --label owner=ann
      taxi backfill --from 2019-01 --to 2020-12 --dry-run
      taxi backfill --from 2019-01 --to 2020-12 --submit
      taxi backfill --color green --from 2020-01 --to 2020-12 --target bigquery
    """  # fmt: skip
    from rich.console import Console

    from taxi_assets.automation import TARGETS
    from taxi_assets.backfill import Backfill
    from taxi_assets.backfill import submit as submit_backfill
    from taxi_assets.display import show_outcomes, watch
    from taxi_assets.history import end_dead_runs
    from taxi_assets.instance import dagster_instance
    from taxi_assets.partitions import months

    if first > last:
        raise click.UsageError(f"--from {first} is after --to {last}: give the earlier month first.")
    if submit and jobs:
        raise click.UsageError("--jobs is for backfills here; how many runs the daemon starts is said in dagster.yaml.")
    wanted = [
        TripFile.of(name, month) for month in months.get_partition_keys() if first <= month <= last
        for name in COLORS if name in (colors or COLORS)
    ]  # fmt: skip
    console = Console()
    tags = {"backfill": "true", **dict(labels)}
    order = _order(target, tags, only_missing)
    with dagster_instance() as instance:
        keys = _to_load(console, instance, target, wanted, only_missing)
        if dry_run or not keys:
            return
        if submit:
            title = f"taxi backfill {first} to {last}"
            number = submit_backfill(instance, keys, TARGETS[target].job.name, tags, title)
            base = (setting("TAXI_URL") or "http://127.0.0.1:3000").rstrip("/")
            usual = "" if setting("TAXI_URL") else ", where `taxi dev` has its usual port"
            console.print(
                f"The daemon has backfill {number}: {base}/runs/b/{number} shows it{usual}.",
                soft_wrap=True, highlight=False,
            )  # fmt: skip
            return
        running = Backfill(keys, order, jobs or 2)
        outcomes = watch(console, running, len(keys))
        end_dead_runs(instance)
    show_outcomes(console, outcomes, len(running.left), time.time() - order.started)
    if running.left or any(outcome.state == "failed" for outcome in outcomes):
        raise SystemExit(1)


def _to_load(
    console: Console, instance: dg.DagsterInstance, target: str, wanted: Sequence[TripFile], only_missing: bool
) -> list[str]:
    """The partitions to load, after it was said which."""
    from taxi_assets.display import show_plan
    from taxi_assets.resources.source import TripSource
    from taxi_assets.status import statuses

    found = statuses(instance, TripSource(), _warehouse(target), wanted)
    to_load = [status for status in found if not only_missing or status.state not in ("loaded", "running")]
    show_plan(console, found, to_load)
    return [status.trip_file.partition_key for status in to_load]


def _warehouse(target: str) -> Postgres | BigQuery:
    from taxi_assets.resources.postgres import Postgres

    return google_cloud()[1] if target == "bigquery" else Postgres()


@taxi.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Where the UI listens.")
@click.option("--host", default="127.0.0.1", show_default=True, help="There is no login: keep it on this machine.")
def dev(host: str, port: int) -> None:
    """Serve the UI, the schedules and the run queue until Ctrl-C.

    \b
    Examples:
      taxi dev
      taxi dev --port 3001
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TaxiError(
                f"{host}:{port} cannot be used ({error.strerror}): choose another --port or --host."
            ) from None
    click.echo(f"The UI will be on http://{host}:{port} in some seconds; Ctrl-C stops it.")
    # A home of Dagster's own below ours: in the project's folder it would take a temporary one, and let .env win over
    # the environment, unlike `taxi`.
    dagster_home = taxi_home() / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / "dagster.yaml", dagster_home)
    environment = os.environ | {
        "DAGSTER_HOME": str(dagster_home), "TAXI_HOME": str(taxi_home()),
        # A backfill waits while the code location is away; else the daemon takes the assets for gone and ends it.
        "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",
    }  # fmt: skip
    source = setting("TAXI_SOURCE")
    if source and Path(source).is_dir():
        environment["TAXI_SOURCE"] = str(Path(source).resolve())  # it may be relative to where we are now
    os.chdir(dagster_home)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored by what a script starts with &; Dagster needs it to stop
    os.execve(  # noqa: S606
        sys.executable,
        # `dg dev` is its successor, but no part of what is installed here.
        [sys.executable, "-W", "ignore:Function `dev_command` is superseded", "-m", "dagster", "dev",
         "--host", host, "--port", str(port), "--workspace", str(PROJECT / "workspace.yaml")],
        environment,
    )  # fmt: skip


@taxi.command()
@click.option("--target", type=click.Choice(WAREHOUSES), default="postgres", show_default=True, help="Where.")
@click.option("--list", "as_list", is_flag=True, help="A line for each partition instead of the calendar.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known of each partition, for scripts.")
def status(target: str, as_list: bool, as_json: bool) -> None:
    """Show which months are loaded, stale, running, failed or missing, and how many rows they have.

    \b
    Examples:
      taxi status
      taxi status --list
      taxi status --target bigquery
      taxi status --json | jq '.[] | select(.state == "failed")'
    """
    from rich.console import Console

    from taxi_assets.display import show_months, show_statuses
    from taxi_assets.instance import dagster_instance
    from taxi_assets.resources.source import TripSource
    from taxi_assets.status import statuses

    warehouse = _warehouse(target)
    with dagster_instance() as instance:
        found = statuses(instance, TripSource(), warehouse)
    if as_json:
        click.echo(json.dumps([status.as_json() for status in found], indent=2))
    elif as_list:
        show_months(Console(), found)
    else:
        show_statuses(Console(), found, f"Trips in {_place(warehouse)}")


@taxi.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open a prompt on the trips database, or hand ARGUMENTS to psql.

    \b
    Examples:
      taxi psql
      taxi psql -c 'SELECT filename, count(*) FROM green_tripdata GROUP BY filename'
    """
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from taxi_assets.resources.embedded import binary
    from taxi_assets.resources.postgres import Postgres

    postgres = Postgres()
    with postgres.connect():  # says what is wrong better than psql would
        parameters = {name: str(value) for name, value in conninfo_to_dict(postgres.conninfo()).items()}
    password = parameters.pop("password", None)
    program = shutil.which("psql") or binary("psql")
    if program is None:
        click.echo(f"There is no psql here; any other client can open {_database(postgres)}.")
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's: it cancels a query
    # In the environment, not in the arguments, which every user of the machine may read. Not exec: this process
    # keeps the embedded server running.
    environment = os.environ | ({"PGPASSWORD": password} if password else {})
    raise SystemExit(subprocess.run([program, make_conninfo("", **parameters), *arguments], env=environment).returncode)


def _place(warehouse: Postgres | BigQuery) -> str:
    from taxi_assets.resources.postgres import Postgres

    if isinstance(warehouse, Postgres):
        return _database(warehouse)
    return f"{warehouse.settings.project}.{warehouse.settings.dataset} of BigQuery"


def _database(postgres: Any) -> str:
    """The trips database's URL without its password."""
    from urllib.parse import quote

    from psycopg.conninfo import conninfo_to_dict

    parameters = {name: str(value) for name, value in conninfo_to_dict(postgres.conninfo()).items()}
    host, database, user = (parameters.get(name, "") for name in ("host", "dbname", "user"))
    if host.startswith("/"):
        return f"postgresql://{user}@/{database}?host={quote(host, safe='/')}"
    return f"postgresql://{user}@{host}:{parameters.get('port', '5432')}/{database}"


@taxi.command()
@click.option("--color", type=click.Choice(list(COLORS)), multiple=True, help="Repeatable; both where it is not given.")
@click.option("--month", "months", type=Month(), multiple=True, required=True, help="Such as 2020-04; repeatable.")
@click.option("--rows", type=click.IntRange(min=1), help="Rows of each file.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def sample(color: tuple[str, ...], months: tuple[str, ...], rows: int | None, folder: Path) -> None:
    """Write sample files in the TLC's format into FOLDER, to be loaded with TAXI_SOURCE=FOLDER.

    \b
    Examples:
      taxi sample --month 2020-04 samples
      taxi sample --color yellow --month 2020-01 --month 2020-02 --rows 1000000 samples
    """
    from rich.progress import track

    from taxi_assets.sample import write_sample

    folder.mkdir(parents=True, exist_ok=True)
    trip_files = [TripFile.of(name, month) for name in color or COLORS for month in months]
    for trip_file in track(trip_files, description="writing"):
        written = write_sample(trip_file, folder / trip_file.gz_name, rows)
        click.echo(f"{folder / trip_file.gz_name}: {written:,} rows")
