"""The path into BigQuery on emulators: what this machine does beyond the upload, its memory, the bytes of the merge.

What BigQuery takes itself is not told: a fake stands in for it, whose own seconds are taken off.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click

from taxi_assets.cli_gcp import google_cloud
from taxi_assets.resources import embedded
from taxi_assets.resources.postgres import Postgres
from taxi_assets.sample import write_sample
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import COLORS, YELLOW, TripFile
from tests.emulators.storage import StorageEmulator

RESULTS = Path(__file__).with_name("results")
TRIP_FILE = TripFile(YELLOW, "2020-01")
MONTHS = [TripFile(COLORS["green"], f"{year}-{month:02}") for year in (2019, 2020) for month in range(1, 13)]
SMALL_ROWS, QUICK_ROWS, FULL_ROWS = 2_000, 200_000, 1_000_000
QUICK_MB, FULL_MB = 200, 1024
AIM_UPLOAD, AIM_BYTES, AIM_MEMORY = 1.3, 1.1, 250
START_SECONDS = 20


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--full", is_flag=True, help=f"{FULL_ROWS:,} rows and {FULL_MB} MB instead of {QUICK_ROWS:,} and {QUICK_MB}."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Of upload and month.")
def main(full: bool, rounds: int) -> None:
    """Measure the path into BigQuery on emulators beside a bare upload of the same bytes.

    \b
    Examples:
      python -m benchmarks.bigquery
      python -m benchmarks.bigquery --full
    """  # noqa: D301 - click looks for the character itself
    rows, megabytes = (FULL_ROWS, FULL_MB) if full else (QUICK_ROWS, QUICK_MB)
    with _installation() as folder, StorageEmulator(folder / "storage") as storage, _fake(storage.url) as fake:
        os.environ |= {
            "STORAGE_EMULATOR_HOST": storage.url, "BIGQUERY_EMULATOR_HOST": fake, "GCP_PROJECT_ID": "taxi-bench",
            "GCP_LOCATION": "us-central1", "GCP_BUCKET_NAME": "taxi-bench-trips", "GCP_DATASET": "trips",
        }  # fmt: skip
        _set_up()
        path = folder / TRIP_FILE.gz_name
        write_sample(TRIP_FILE, path, rows)
        numbers: dict[str, Any] = {"rows": rows, **measure_month(path, fake, rounds), "bytes": _bytes_of_statements()}
        os.environ["GCP_UPLOAD_GZIP"] = "false"
        numbers["plain"] = measure_month(path, fake, rounds)
        del os.environ["GCP_UPLOAD_GZIP"]
        numbers["etl_seconds"] = measure_etl(path, rounds)
        numbers["peak_mb"] = measure_memory(folder, megabytes)
        numbers["merge_bytes"] = measure_merges(folder)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bigquery.json").write_text(json.dumps(numbers, indent=1) + "\n")
    _show(numbers, megabytes)


def measure_month(path: Path, fake: str, rounds: int) -> dict[str, float]:
    """One month beside a bare upload of the same bytes, by turns; medians of the seconds, and their ratio."""
    bare, ours, check = [], [], []
    for number in range(rounds):
        cloud_storage, bigquery = google_cloud()
        plain = not cloud_storage.settings.upload_gzip
        payload = _unzipped(path) if plain else path
        with cloud_storage.client() as client:
            bucket = client.bucket(cloud_storage.settings.bucket)
            bare.append(_timed(partial(bucket.blob(f"bare-{number}").upload_from_filename, payload)))
            bucket.delete_blobs(list(bucket.list_blobs()))
        of_fake = _fake_seconds(fake)
        started = time.perf_counter()
        cloud_storage.upload(TRIP_FILE, path)
        bigquery.make_external_table(TRIP_FILE, cloud_storage.uri(TRIP_FILE), "bench")
        bigquery.stage(TRIP_FILE, "bench")
        merged = bigquery.merge(TRIP_FILE, "bench")
        ours.append(time.perf_counter() - started - (_fake_seconds(fake) - of_fake))
        check.append(_timed(lambda: _read(path)))
        outside = [day for day, _ in merged.trips_per_day if f"{day:%Y-%m}" != TRIP_FILE.month]
        bigquery.count(TRIP_FILE, outside, "bench")
    ratio = median(o / b for o, b in zip(ours, bare, strict=True))
    return {"upload": median(bare), "month": median(ours), "check": median(check), "ratio": ratio}


def measure_etl(path: Path, rounds: int) -> float:
    """The same month into Postgres on this machine, which does all of the work there."""
    postgres = Postgres()

    def load() -> None:
        postgres.stage(TRIP_FILE, path)
        postgres.merge(TRIP_FILE)

    seconds = []
    for _ in range(rounds):
        with postgres.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS yellow_tripdata CASCADE")
        seconds.append(_timed(load))
    return median(seconds)


def measure_memory(folder: Path, megabytes: int) -> float:
    """The peak memory, in MB, of a process that uploads a file of so many megabytes."""
    path = folder / "large.gz"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.bigquery", "upload", path], check=True, capture_output=True, text=True
    )
    path.unlink()
    return float(said.stdout)


def measure_merges(folder: Path) -> list[int]:
    """Two years of small months, one after the other: the bytes that each merge processed, by the fake's account."""
    cloud_storage, bigquery = google_cloud()
    found = []
    for trip_file in MONTHS:
        path = folder / trip_file.gz_name
        write_sample(trip_file, path, SMALL_ROWS)
        cloud_storage.upload(trip_file, path)
        bigquery.make_external_table(trip_file, cloud_storage.uri(trip_file), "bench")
        bigquery.stage(trip_file, "bench")
        found.append(bigquery.merge(trip_file, "bench").cost.bytes_processed)
    return found


def _show(numbers: dict[str, Any], megabytes: int) -> None:
    from rich.console import Console
    from rich.table import Table

    merges, plain = numbers["merge_bytes"], numbers["plain"]
    table = Table("", "measured", "limit", title=f"{numbers['rows']:,} yellow rows, on emulators")
    lines: list[tuple[str, str, str]] = [
        ("month / bare upload of the same bytes, gzip", f"{numbers['ratio']:.2f}", f"{AIM_UPLOAD}"),
        ("month / bare upload of the same bytes, plain CSV", f"{plain['ratio']:.2f}", f"{AIM_UPLOAD}"),
        ("seconds of the bare upload, gzip and plain", f"{numbers['upload']:.2f} and {plain['upload']:.2f}", ""),
        ("seconds of the month, gzip and plain", f"{numbers['month']:.2f} and {plain['month']:.2f}", ""),
        ("seconds of the check of its rows", f"{numbers['check']:.2f}", ""),
        ("seconds of the same month into Postgres here", f"{numbers['etl_seconds']:.2f}", ""),
        (f"peak memory of an upload of {megabytes:,} MB", f"{numbers['peak_mb']:.0f} MB", f"{AIM_MEMORY} MB"),
        ("bytes of the merge, month 24 / month 2", f"{merges[-1] / merges[1]:.3f}", f"{AIM_BYTES}"),
        *((f"MB read by the statement `{verb}`", f"{size / 1e6:.0f}", "") for verb, size in numbers["bytes"].items()),
    ]
    for line in lines:
        table.add_row(*line)
    Console().print(table)


def _bytes_of_statements() -> dict[str, int]:
    """Of each kind of statement: the bytes that it reads of a month that is there already, by the fake's account."""
    with google_cloud()[1].client() as client:
        jobs = [job for job in client.list_jobs() if job.labels.get("file") == TRIP_FILE.stem]
    return {job.job_id.split("_")[1]: job.total_bytes_processed or 0 for job in reversed(jobs)}


def _set_up() -> None:
    from taxi_assets.resources.gcp_setup import set_up

    set_up(*google_cloud(), tell=lambda said: None)


def _read(path: Path) -> None:
    for _ in TripCsv(path, TRIP_FILE).blocks():
        pass


def _unzipped(path: Path) -> Path:
    import gzip

    plain = path.with_suffix("")
    if not plain.exists():
        with gzip.open(path) as zipped, plain.open("wb") as file:
            shutil.copyfileobj(zipped, file, 1 << 20)
    return plain


def _timed(work: Callable[[], object]) -> float:
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _fake_seconds(fake: str) -> float:
    with urllib.request.urlopen(f"{fake}/fake/account") as answer:
        return float(json.load(answer)["seconds"])


@contextmanager
def _fake(storage_url: str) -> Iterator[str]:
    """The fake BigQuery in a process of its own, so that its work does not slow ours down."""
    port = StorageEmulator(Path()).port  # a free one
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.emulators.bigquery", "--port", str(port), "--storage", storage_url]
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                _fake_seconds(url)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def _installation() -> Iterator[Path]:
    """A throwaway `TAXI_HOME` with a server of its own, whatever the settings of the caller."""
    for name in [name for name in os.environ if name.startswith(("TAXI_", "DAGSTER_", "GCP_"))]:
        del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="taxi-bench-", dir="/tmp"))
    home.chmod(0o755)  # for root, the server runs as another user
    os.environ |= {"TAXI_HOME": str(home), "TAXI_SECRETS": os.devnull}
    try:
        yield home
    finally:
        embedded._stop(home / "postgres" / "data" / "postmaster.pid")
        shutil.rmtree(home, ignore_errors=True)


def _peak() -> float:
    """The most memory that this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # where getrusage would tell that of the process that started this one, if it was more
        [peak] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(peak.split()[1]) / (1 << 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["upload"]:  # the process whose memory is measured
        google_cloud()[0].upload(TRIP_FILE, Path(sys.argv[2]))
        print(_peak())
    else:
        main()
