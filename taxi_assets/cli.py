"""The `taxi` command: what people do with the graph from a terminal.

A command says what it does in its help, with examples; the work itself is in the other modules.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dotenv import load_dotenv

from taxi_assets.errors import TaxiError
from taxi_assets.resources.embedded import EmbeddedPostgresError
from taxi_assets.resources.settings import PROJECT, setting, taxi_home
from taxi_assets.trips import COLORS, FIRST_MONTH, TripFile

if TYPE_CHECKING:
    import dagster as dg
    import pandas as pd

# Outside what the public archive has (2019-01 to 2021-07), so that real months never mix with invented ones.
DEMO_MONTHS = ("2025-01", "2025-02", "2025-03")


def main() -> None:
    """Run `taxi`: exit 0 done, 1 the work failed, 2 wrong usage."""
    load_dotenv(PROJECT / ".env")
    try:
        taxi()
    except (TaxiError, EmbeddedPostgresError) as error:
        raise SystemExit(f"taxi: {error}") from None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def taxi() -> None:
    """New York's taxi trips, month by month, into Postgres.

    \b
    taxi demo               six months of sample trips into the embedded Postgres
    taxi dev                the web UI on http://127.0.0.1:3000
    taxi status             what is fetched, staged and merged
    taxi psql               a prompt on the trips
    """


@taxi.command()
def demo() -> None:
    """Load three sample months of both colors through Dagster, show what went in, and draw it.

    A second run finds everything there and inserts nothing.

    \b
    Example:
      taxi demo
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from taxi_assets.definitions import build_defs
    from taxi_assets.instance import dagster_instance
    from taxi_assets.resources.source import TripSource

    console = Console()
    job = build_defs({"source": TripSource(location="sample")}).resolve_job_def("postgres_trips_job")
    trip_files = [TripFile(color, month) for month in DEMO_MONTHS for color in COLORS.values()]
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    done: list[tuple[TripFile, dict[str, Any], dict[str, Any]]] = []
    with dagster_instance() as instance, Progress(*columns, console=console) as progress:
        bar = progress.add_task("loading", total=len(trip_files))
        for trip_file in trip_files:
            progress.update(bar, description=f"{trip_file.color.name} {trip_file.month}")
            result = job.execute_in_process(
                partition_key=trip_file.partition_key, instance=instance, raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )  # fmt: skip
            if not result.success:
                raise TaxiError(_why(result))
            done.append((trip_file, _metadata(result, "postgres_staging_trips"), _metadata(result, "postgres_trips")))
            progress.advance(bar)
        progress.update(bar, description="loaded")
    _show_demo(console, done)


def _show_demo(console: Any, done: Sequence[tuple[TripFile, dict[str, Any], dict[str, Any]]]) -> None:
    from rich.table import Table

    from taxi_assets.charts import write_trips_chart
    from taxi_assets.resources.postgres import Postgres

    table = Table("file", title="Through Dagster into Postgres")
    for heading in ("rows", "inserted", "before", "seconds", "MB/s"):
        table.add_column(heading, justify="right")
    total: dict[str, int] = {}
    for trip_file, staged, merged in done:
        seconds = staged["seconds"] + merged["seconds"]
        rows = merged["dagster/partition_row_count"]
        total[trip_file.color.table] = total.get(trip_file.color.table, 0) + rows
        table.add_row(
            trip_file.csv_name, f"{rows:,}", f"{merged['rows_inserted']:,}", f"{merged['rows_there_already']:,}",
            f"{seconds:.2f}", f"{staged['bytes'] / 1e6 / seconds:.0f}",
        )  # fmt: skip
    console.print(table)
    for name, rows in total.items():
        console.print(f"public.{name}: {rows:,} rows of {len(DEMO_MONTHS)} files")
    if not any(merged["rows_inserted"] for _, _, merged in done):
        console.print("Every row was there before: nothing was inserted.")
    chart = taxi_home() / "demo-trips-per-day.png"
    write_trips_chart(_trips_per_day(Postgres(), [trip_file for trip_file, _, _ in done]), chart)
    console.print(
        f"""
The trips per day are drawn in [bold]{chart}[/bold]

Next:
  [bold].venv/bin/taxi dev[/bold]       open the graph on http://127.0.0.1:3000
  [bold].venv/bin/taxi psql[/bold]      ask the tables
  [bold].venv/bin/dagster asset materialize -m taxi_assets.definitions \\
      --select 'raw_trips,postgres_staging_trips,postgres_trips' --partition 'green|2020-04'[/bold]
                            load a real month from the public archive (2019-01 to 2021-07)""",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def _trips_per_day(postgres: Any, trip_files: Sequence[TripFile]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (pd.Timestamp(day), trip_file.color.name, trips)
        for trip_file in trip_files
        for day, trips in postgres.trips_per_day(trip_file)
    ]
    return pd.DataFrame(rows, columns=["day", "color", "trips"]).pivot(index="day", columns="color", values="trips")


def _metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What a run's materialization of an asset says of itself."""
    materialization = result.asset_materializations_for_node(asset)[0]
    return {name: value.value for name, value in materialization.metadata.items()}


def _why(result: dg.ExecuteInProcessResult) -> str:
    """What went wrong in a run, in the words of the step that failed."""
    for event in result.all_events:
        if event.is_step_failure and "Interrupted" in str(event.step_failure_data.error):
            return "Interrupted: what is loaded stays, the rest was undone; run this again to go on."
        if event.is_step_failure and (failure := event.step_failure_data.user_failure_data):
            return str(failure.description)
        if event.is_step_failure and (error := event.step_failure_data.error):
            return str((error.cause or error).message).strip()
    return "The run failed; `taxi dev` shows its log."


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
    environment = os.environ | {"DAGSTER_HOME": str(dagster_home), "TAXI_HOME": str(taxi_home())}
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
@click.option("--all", "all_months", is_flag=True, help="Show the months without anything, too.")
def status(all_months: bool) -> None:
    """Show for each color and month what is fetched, staged and merged, and how many rows.

    \b
    Examples:
      taxi status
      taxi status --all
    """
    from rich.console import Console
    from rich.table import Table

    from taxi_assets.partitions import months
    from taxi_assets.resources.postgres import Postgres
    from taxi_assets.resources.source import TripSource

    source, postgres = TripSource(), Postgres()
    staged = postgres.staged()
    merged = {color.name: postgres.merged(color) for color in COLORS.values()}
    rows = _merged_rows()
    table = Table("month", *(color.name for color in COLORS.values()), title=f"Trips in {_database(postgres)}")
    for month in months.get_partition_keys():
        cells = []
        for trip_file in (TripFile(color, month) for color in COLORS.values()):
            states = {
                "fetched": source.raw_path(trip_file).exists(),
                "staged": trip_file.staging_table in staged,
                "merged": month in merged[trip_file.color.name],
            }
            count = rows.get(trip_file.partition_key)
            words = [name for name, true in states.items() if true]
            cells.append(" ".join(words) + (f"  {count:,} rows" if states["merged"] and count is not None else ""))
        if any(cells) or all_months:
            table.add_row(month, *cells)
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        console.print("Nothing is loaded yet: try `taxi demo`, or materialize a partition in `taxi dev`.")


def _merged_rows() -> dict[str, int]:
    """The rows of each partition at its last merge, from Dagster's history."""
    import dagster as dg

    from taxi_assets.instance import dagster_instance

    rows: dict[str, int] = {}
    with dagster_instance() as instance:
        cursor, more = None, True
        while more:
            page = instance.fetch_materializations(dg.AssetKey("postgres_trips"), limit=500, cursor=cursor)
            records, cursor, more = page.records, page.cursor, page.has_more
            for record in records:  # the newest comes first
                materialization = record.asset_materialization
                count = materialization.metadata.get("dagster/partition_row_count") if materialization else None
                if record.partition_key and count:
                    rows.setdefault(record.partition_key, int(str(count.value)))
    return rows


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
@click.option("--month", "months", multiple=True, required=True, help="Such as 2020-04; repeatable.")
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

    from taxi_assets.partitions import months as known_months
    from taxi_assets.sample import write_sample

    for month in months:
        if month not in known_months.get_partition_keys():
            raise click.BadParameter(
                f"'{month}' is no month of the data: from {FIRST_MONTH} to {known_months.get_last_partition_key()}, "
                f"written like 2020-04.",
                param_hint="--month",
            )
    folder.mkdir(parents=True, exist_ok=True)
    trip_files = [TripFile.of(name, month) for name in color or COLORS for month in months]
    for trip_file in track(trip_files, description="writing"):
        written = write_sample(trip_file, folder / trip_file.gz_name, rows)
        click.echo(f"{folder / trip_file.gz_name}: {written:,} rows")
