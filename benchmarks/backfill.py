"""Backfills of many small months: what each run costs beyond the work that it does, here and with the daemon.

The work alone, without Dagster, runs beside them in the same minutes; the difference is the overhead.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import psycopg

from taxi_assets.resources import embedded
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.source import TripSource
from taxi_assets.sample import write_sample
from taxi_assets.trips import COLORS, TripFile
from tests.e2e.ui import served, wait_until, without_settings

RESULTS = Path(__file__).with_name("results")
MONTHS = [f"{year}-{month:02}" for year in (2019, 2020) for month in range(1, 13)]
FILES = [TripFile.of(color, month) for month in MONTHS for color in COLORS]
ROWS = 2_000
TAXI = str(Path(sys.executable).with_name("taxi"))
RANGE = ["--from", MONTHS[0], "--to", MONTHS[-1]]
EDGE = 8  # runs at each end whose medians are compared
AIM_SECONDS, AIM_GROWTH = 1.0, 1.1
DAEMON_SECONDS = 1200

Spans = list[tuple[float, float]]  # of each run: seconds since 1970 of its begin and end, in the order of the begins


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--rows", type=click.IntRange(min=1), default=ROWS, show_default=True, help="Rows a month.")
@click.option("--daemon/--no-daemon", default=True, help="Also measure `taxi backfill --submit`, some minutes.")
def main(rows: int, daemon: bool) -> None:
    """Measure backfills of 24 small months of both colors: runs per minute, and overhead per run.

    \b
    Examples:
      python -m benchmarks.backfill
      python -m benchmarks.backfill --no-daemon
    """  # noqa: D301 - click looks for the character itself
    folder = Path(tempfile.mkdtemp(prefix="taxi-bench-", dir="/tmp"))
    folder.chmod(0o755)  # for root, the server runs as another user
    try:
        source = folder / "source"
        source.mkdir()
        for trip_file in FILES:
            write_sample(trip_file, source / trip_file.gz_name, rows)
        numbers: dict[str, Any] = {"rows": rows, "cores": os.cpu_count(), "runs": len(FILES)}
        click.echo(f"{len(FILES)} runs of {rows:,} rows on {os.cpu_count()} cores")
        work = median(measure_work(folder / "work", source))
        numbers["work_seconds"] = work
        click.echo(f"the work alone: {work:.2f} s a month")
        for jobs in (1, 2):
            spans = measure_here(folder / f"jobs-{jobs}", source, jobs)
            numbers[f"jobs_{jobs}"] = _tell(f"taxi backfill --jobs {jobs}", spans, work if jobs == 1 else None)
        if daemon:
            numbers["daemon"] = _tell("taxi backfill --submit", measure_daemon(folder / "daemon", source), None)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "backfill.json").write_text(json.dumps(numbers, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_work(home: Path, source: Path) -> list[float]:
    """Seconds of each month: fetched, staged, merged and counted, without Dagster."""
    _use(home, source)
    seconds = []
    trip_source, postgres = TripSource(), Postgres()
    for trip_file in FILES:
        started = time.perf_counter()
        postgres.stage(trip_file, trip_source.fetch(trip_file).path)
        postgres.merge(trip_file)
        postgres.pickups_outside_month(trip_file)
        postgres.rows_sharing_an_id(trip_file)
        postgres.trips_per_day(trip_file)
        postgres.preview(trip_file)
        seconds.append(time.perf_counter() - started)
    embedded._stop(home / "postgres" / "data" / "postmaster.pid")
    return seconds


def measure_here(home: Path, source: Path, jobs: int) -> Spans:
    """The runs of `taxi backfill`, so many at a time."""
    _use(home, source)
    command = [TAXI, "backfill", *RANGE, "--jobs", str(jobs)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    spans = _spans(home)
    embedded._stop(home / "postgres" / "data" / "postmaster.pid")
    return spans


def measure_daemon(home: Path, source: Path) -> Spans:
    """The runs of the daemon of `taxi dev`."""
    _use(home, source)
    settings = without_settings() | {"TAXI_SOURCE": str(source)}
    with (home / "dev.log").open("w") as log, served(home, settings, log):
        submit = [TAXI, "backfill", *RANGE, "--submit"]
        environment = settings | {"TAXI_HOME": str(home)}

        def submitted() -> bool:  # the daemon needs some seconds to say that it is there
            return subprocess.run(submit, env=environment, capture_output=True).returncode == 0

        if not wait_until(submitted, 60):
            raise SystemExit("the daemon took no backfill")
        if not wait_until(lambda: len(_spans(home)) == len(FILES), DAEMON_SECONDS):
            raise SystemExit(f"the daemon did not end all runs in {DAEMON_SECONDS} s")
        return _spans(home)


def _use(home: Path, source: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("TAXI_", "DAGSTER_"))]:
        del os.environ[name]
    home.mkdir(mode=0o755)
    os.environ |= {"TAXI_HOME": str(home), "TAXI_SOURCE": str(source)}


def _spans(home: Path) -> Spans:
    """From the history, on a connection that does not keep the server running."""
    query = "SELECT start_time, end_time FROM runs WHERE status = 'SUCCESS' ORDER BY start_time"
    with psycopg.connect(host=str(home / "postgres"), user="postgres", dbname="dagster") as connection:
        return connection.execute(query).fetchall()


def _tell(name: str, spans: Spans, work: float | None) -> dict[str, float]:
    """Print and return what the spans say; the overhead where the work alone is known and nothing ran beside it."""
    begun, ended = min(begin for begin, _ in spans), max(end for _, end in spans)
    begins = [begin for begin, _ in spans]
    # From one begin to the next, so that what happens between two runs counts.
    intervals = [after - before for before, after in itertools.pairwise(begins)]
    numbers = {"runs_per_minute": 60 * len(spans) / (ended - begun)}
    parts = [f"{numbers['runs_per_minute']:.0f} runs a minute"]
    if work is not None:
        numbers["overhead_seconds"] = median(intervals) - work
        numbers["last_by_first"] = median(intervals[-EDGE:]) / median(intervals[1 : EDGE + 1])
        parts.append(f"overhead {numbers['overhead_seconds']:.2f} s a run (aim: below {AIM_SECONDS})")
        parts.append(f"the last {EDGE} / the first {EDGE}: {numbers['last_by_first']:.2f} (aim: below {AIM_GROWTH})")
    click.echo(f"{name}: {', '.join(parts)}")
    return numbers


if __name__ == "__main__":
    main()
