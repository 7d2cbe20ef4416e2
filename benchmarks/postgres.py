"""The load, measured beside its limit and beside the ways in which such files are usually loaded.

Times, and what is made of them, belong here; what must hold on any machine belongs in the tests. A time by itself says
more about the machine than about the code, so what is compared runs one right after the other, and ratios are told.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from taxi_assets.resources import embedded
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings import PROJECT
from taxi_assets.sample import write_sample
from taxi_assets.trips import YELLOW, TripFile

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

RESULTS = Path(__file__).with_name("results")
FILES = [TripFile(YELLOW, f"2020-{month:02}") for month in range(1, 7)]
QUICK_ROWS, FULL_ROWS, PANDAS_ROWS = 200_000, 1_000_000, 100_000
BLOCK_BYTES = 1 << 20
OURS, COPY, COURSE, PANDAS = "taxi_assets", "bare COPY", "COPY, UPDATE, MERGE", "pandas to_sql"
DAGSTER_ROUNDS, IMPORTS = 3, 5
REAL_GRAPH = ("taxi_assets.definitions", "raw_trips,postgres_staging_trips,postgres_trips")
EMPTY_GRAPH = ("benchmarks.empty_assets", "first,second,third")
TIME_OF_IMPORT = """
import time, dagster
started = time.perf_counter()
import taxi_assets.definitions
print(time.perf_counter() - started)
"""

CSV_COLUMNS = ", ".join(f"{column.postgres_name} {column.type}" for column in YELLOW.columns)
CSV_NAMES = ", ".join(column.postgres_name for column in YELLOW.columns)
TABLE_COLUMNS = ", ".join(f"{column.postgres_name} {column.type}" for column in YELLOW.table_columns)
TABLE_NAMES = ", ".join(column.postgres_name for column in YELLOW.table_columns)
STAGED_NAMES = ", ".join(f"staging.{column.postgres_name}" for column in YELLOW.table_columns)
ROW_ID = " || ".join(f"coalesce({name}::text, '')" for name in YELLOW.row_id)
COURSE_MERGE = f"""
MERGE INTO course.trips AS trips USING course.staging AS staging ON trips.unique_row_id = staging.unique_row_id
WHEN NOT MATCHED THEN INSERT ({TABLE_NAMES}) VALUES ({STAGED_NAMES})
"""
CHECKSUM = "SELECT count(*), sum(hash_record_extended(trips, 0)) FROM {} AS trips"

Month = dict[str, float]  # a way of loading, or a part of it: its seconds
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Measure:
    """A number, measured once or several times; the median counts."""

    name: str
    values: list[float]
    limit: float | None = None
    aim: float | None = None
    unit: str = ""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--full", is_flag=True, help=f"{FULL_ROWS:,} rows a month instead of {QUICK_ROWS:,}.")
@click.option("--rows", type=click.IntRange(min=1000), help="Rows a month.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Of all ways of loading.")
def main(full: bool, rows: int | None, rounds: int) -> None:
    """Measure the load into Postgres beside its limit and its peers, on a server of its own.

    Prints the ratios with their limits, which are meant for --full: in small files, fixed costs weigh more.
    benchmarks/results/ gets a chart and all numbers.

    \b
    Examples:
      python benchmarks/postgres.py
      python benchmarks/postgres.py --full
      python benchmarks/postgres.py --rows 3000000 --rounds 1
    """  # noqa: D301 - click looks for the character itself
    rows = rows or (FULL_ROWS if full else QUICK_ROWS)
    with _installation() as home, _progress(len(FILES) * (1 + 3 * rounds) + 2 * rounds + 9) as tell:
        for trip_file in FILES:
            tell(f"writing {trip_file.csv_name}")
            _write(trip_file, home, rows)
        with Postgres().connect() as connection:
            # It would run beside whichever way is just being measured.
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
            machine = _machine(connection)
            loads = [measure_round(connection, home, f"round {n} of {rounds}", tell) for n in range(1, rounds + 1)]
            memory = measure_memory(connection, home, rows, tell)
            graphs = measure_dagster(connection, home, tell)
        imports = measure_import(tell)
    measures = _measures(loads, rows, memory, graphs, imports)
    numbers = {
        "machine": machine, "rows": rows, "measures": [asdict(measure) for measure in measures],
        "seconds": {"loads": loads, "dagster": graphs, "import": imports}, "peak_mb": memory,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "postgres.json").write_text(json.dumps(numbers, indent=1) + "\n")
    _draw(loads, rows, RESULTS / "postgres.png")
    _show(measures, loads, rows)


def measure_round(connection: Connection, home: Path, name: str, tell: Tell) -> list[Month]:
    """Load six months in every way, into tables that are empty at first; seconds by way, month by month.

    Raises:
        SystemExit: our table and the course's hold different rows.
    """
    _drop_tables(connection)
    connection.execute("CREATE SCHEMA course")
    connection.execute(f"CREATE TABLE course.staging ({TABLE_COLUMNS})")
    connection.execute(f"CREATE TABLE course.trips ({TABLE_COLUMNS})")
    months = [_measure_month(connection, home, trip_file, f"{name}, {trip_file.month}", tell) for trip_file in FILES]
    tell(f"{name}, {PANDAS}")
    months[0][PANDAS] = _timed(connection, lambda: load_with_pandas(FILES[0], home))
    tell(f"{name}, comparing the tables")
    ours, course = (connection.execute(CHECKSUM.format(t)).fetchone() for t in (YELLOW.table, "course.trips"))
    if ours != course:
        raise SystemExit(f"{name}: count and checksum of our rows are {ours}, those of the course's {course}.")
    return months


def _measure_month(connection: Connection, home: Path, trip_file: TripFile, name: str, tell: Tell) -> Month:
    seconds: Month = {}
    ways: dict[str, Callable[[], None]] = {
        COPY: lambda: copy_plain(connection, trip_file, home),
        OURS: lambda: seconds.update(load(trip_file, home)),
        COURSE: lambda: load_as_course(connection, trip_file, home),
    }
    connection.execute("DROP TABLE IF EXISTS plain")
    connection.execute(f"CREATE TABLE plain ({CSV_COLUMNS})")
    for way, work in ways.items():
        tell(f"{name}, {way}")
        seconds[way] = _timed(connection, work)
    connection.execute("ANALYZE course.trips")  # what autovacuum would have done for it
    return seconds


def load(trip_file: TripFile, home: Path) -> Month:
    """Our way; returns the seconds of its two parts."""
    staged = Postgres().stage(trip_file, home / trip_file.gz_name)
    return {"stage": staged.seconds, "merge": Postgres().merge(trip_file).seconds}


def copy_plain(connection: Connection, trip_file: TripFile, home: Path) -> None:
    """The limit: the server itself reads the unzipped file, and nothing else is done."""
    connection.execute(f"COPY plain FROM '{home / trip_file.csv_name}' (FORMAT csv, HEADER)")


def load_as_course(connection: Connection, trip_file: TripFile, home: Path) -> None:
    """As courses teach it: COPY, then UPDATE for the id, then MERGE on the id alone."""
    statement = f"COPY course.staging ({CSV_NAMES}) FROM STDIN (FORMAT csv, HEADER)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy, gzip.open(home / trip_file.gz_name) as file:
        while block := file.read(BLOCK_BYTES):
            copy.write(block)
    connection.execute(f"UPDATE course.staging SET unique_row_id = md5({ROW_ID}), filename = %s", [trip_file.csv_name])
    connection.execute(COURSE_MERGE)
    connection.execute("TRUNCATE course.staging")


def load_with_pandas(trip_file: TripFile, home: Path) -> None:
    """As notebooks do it, for the first rows of the file only."""
    import pandas as pd
    import sqlalchemy
    from psycopg.conninfo import conninfo_to_dict

    engine = sqlalchemy.create_engine("postgresql+psycopg2://", connect_args=conninfo_to_dict(Postgres().conninfo()))
    times = [column.name for column in YELLOW.columns if column.type == "timestamp"]
    texts: Any = {column.name: "str" for column in YELLOW.columns if column.type == "text"}
    path = home / trip_file.gz_name
    for chunk in pd.read_csv(path, nrows=PANDAS_ROWS, chunksize=100_000, parse_dates=times, dtype=texts):
        chunk.to_sql("pandas_trips", engine, if_exists="append", index=False)
    engine.dispose()


def measure_memory(connection: Connection, home: Path, rows: int, tell: Tell) -> dict[int, float]:
    """The peak memory, in MB, of a process that loads one file: by the file's number of rows."""
    trip_file, peaks = FILES[0], {}
    for number in (rows, 4 * rows):
        tell(f"writing {number:,} rows")
        _write(trip_file, home, number)
        _drop_tables(connection)
        tell(f"memory of a load of {number:,} rows")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            peaks[number] = process.submit(_load_and_tell_peak, trip_file, home).result()
    return peaks


def _load_and_tell_peak(trip_file: TripFile, home: Path) -> float:
    load(trip_file, home)
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands a parent's ru_maxrss on to its children, even through exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def measure_dagster(connection: Connection, home: Path, tell: Tell) -> dict[str, list[float]]:
    """Seconds of `dagster asset materialize`, of the real graph's first load and of empty assets, in turn."""
    # Not called in the project's folder: a .env there would win over this environment.
    shutil.copy(PROJECT / "dagster.yaml", home)
    tell("Dagster's first run")
    _materialize(*EMPTY_GRAPH, home)
    seconds: dict[str, list[float]] = {"empty": [], "real": []}
    for number in range(1, DAGSTER_ROUNDS + 1):
        tell(f"Dagster, round {number} of {DAGSTER_ROUNDS}")
        _drop_tables(connection)
        shutil.rmtree(home / "raw", ignore_errors=True)
        seconds["empty"].append(_timed(connection, lambda: _materialize(*EMPTY_GRAPH, home)))
        seconds["real"].append(_timed(connection, lambda: _materialize(*REAL_GRAPH, home)))
    return seconds


def _materialize(module: str, assets: str, home: Path) -> None:
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", module, "--select", assets]
    done = subprocess.run(
        [*command, "--partition", "green|2025-01"], cwd=home, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "TAXI_SOURCE": "sample"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


def measure_import(tell: Tell) -> list[float]:
    """Seconds that the import of the definitions takes where Dagster is imported already."""
    tell("importing")
    command = [sys.executable, "-c", TIME_OF_IMPORT]
    return [float(subprocess.run(command, cwd=PROJECT, check=True, capture_output=True).stdout) for _ in range(IMPORTS)]


def _measures(
    loads: list[list[Month]], rows: int, memory: dict[int, float], graphs: dict[str, list[float]], imports: list[float]
) -> list[Measure]:
    peak, peak_of_four = memory.values()
    pandas = [months[0][PANDAS] / min(rows, PANDAS_ROWS) / (months[0][OURS] / rows) for months in loads]
    dagster = [real / empty for real, empty in zip(graphs["real"], graphs["empty"], strict=True)]
    return [
        Measure("month 6 / bare COPY", [m[5][OURS] / m[5][COPY] for m in loads], limit=2.0, aim=1.5),
        Measure("month 6 / COPY, UPDATE, MERGE", [m[5][OURS] / m[5][COURSE] for m in loads], limit=0.3),
        Measure("month 6 / month 2", [m[5][OURS] / m[1][OURS] for m in loads], limit=1.1),
        Measure(f"pandas, {min(rows, PANDAS_ROWS):,} rows / ours, a row", pandas),
        Measure(f"peak memory, {4 * rows:,} rows", [peak_of_four], limit=350, unit="MB"),
        Measure(f"the same / of {rows:,} rows", [peak_of_four / peak], limit=1.1),
        Measure("dagster materialize / empty assets", dagster, limit=1.5),
        Measure("import beyond Dagster's", imports, limit=0.5, unit="s"),
    ]


def _show(measures: list[Measure], loads: list[list[Month]], rows: int) -> None:
    from rich.console import Console
    from rich.table import Table

    ratios = Table("measure", title=f"The load of {rows:,} rows a month")
    for heading in ("aim", "limit", "median", "range"):
        ratios.add_column(heading, justify="right")
    for measure in measures:
        value, low, high = (function(measure.values) for function in (median, min, max))
        aim, limit, middle = (
            "" if number is None else f"{number:.3g} {measure.unit}".strip()
            for number in (measure.aim, measure.limit, value)
        )
        style = "bold red" if measure.limit and value > measure.limit else "bold"
        ratios.add_row(
            measure.name, aim, limit, f"[{style}]{middle}", f"{low:.3g} - {high:.3g}" if low < high else ""
        )  # fmt: skip
    times = Table("seconds, medians", title="A month's load")
    for trip_file in FILES:
        times.add_column(trip_file.month, justify="right")
    for way, name in {COPY: COPY, OURS: OURS, "stage": "  stage", "merge": "  merge", COURSE: COURSE}.items():
        times.add_row(name, *(f"{seconds:.2f}" for seconds in _medians(loads, way)))
    console = Console()
    console.print(ratios, times, f"Chart and numbers: {RESULTS}/postgres.png, postgres.json", sep="\n")


def _medians(loads: list[list[Month]], way: str) -> list[float]:
    return [median(months[number][way] for months in loads) for number in range(len(FILES))]


def _draw(loads: list[list[Month]], rows: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5))
    axes = figure.add_axes((0.07, 0.09, 0.66, 0.8))
    months = [trip_file.month for trip_file in FILES]
    for way, paint in ((COURSE, "#8a8a8a"), (OURS, "#d89b00"), (COPY, "#3a6ea5")):
        seconds = _medians(loads, way)
        axes.plot(months, seconds, color=paint, linewidth=2.5, marker="o")
        axes.annotate(
            f"{way}  {seconds[-1]:.1f} s", (len(months) - 1, seconds[-1]), (12, 0), textcoords="offset points",
            va="center", color=paint, weight="bold", annotation_clip=False,
        )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(bottom=0)
    axes.set_title(f"Seconds to load one more month of {rows:,} rows", loc="left")
    figure.savefig(path, dpi=110)


def _write(trip_file: TripFile, home: Path, rows: int) -> None:
    """The file as gzip and unzipped."""
    write_sample(trip_file, home / trip_file.gz_name, rows)
    with gzip.open(home / trip_file.gz_name) as zipped, (home / trip_file.csv_name).open("wb") as plain:
        shutil.copyfileobj(zipped, plain, BLOCK_BYTES)


def _timed(connection: Connection, work: Callable[[], None]) -> float:
    """The seconds that `work` takes once what others wrote is on the disk."""
    connection.execute("CHECKPOINT")
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _drop_tables(connection: Connection) -> None:
    connection.execute("DROP TABLE IF EXISTS yellow_tripdata, green_tripdata, plain, pandas_trips CASCADE")
    connection.execute("DROP SCHEMA IF EXISTS course, staging, partitions CASCADE")


def _machine(connection: Connection) -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": connection.info.parameter_status("server_version"),
    }


@contextmanager
def _installation() -> Iterator[Path]:
    """A throwaway `TAXI_HOME` with a server of its own, whatever the settings of the caller."""
    for name in [name for name in os.environ if name.startswith(("TAXI_", "DAGSTER_"))]:
        del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="taxi-bench-", dir="/tmp"))
    home.chmod(0o755)  # for root, the server runs as another user, who reads the files
    os.environ["TAXI_HOME"] = str(home)
    try:
        yield home
    finally:
        embedded._stop(home / "postgres" / "data" / "postmaster.pid")
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _progress(steps: int) -> Iterator[Tell]:
    """A bar that is told what begins."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(), TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns) as progress:
        bar = progress.add_task("starting the server", total=steps, completed=-1)
        yield lambda what: progress.update(bar, description=what, advance=1)
        progress.update(bar, description="measured", advance=1)


if __name__ == "__main__":
    main()
