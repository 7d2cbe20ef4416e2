"""`make demo-gcp`: the whole path into BigQuery on this machine, by the commands that a person with a project uses.

Cloud Storage is the real fake-gcs-server, BigQuery the fake of these tests; clients, commands and Dagster are the real
ones. State is kept in .taxi/demo-gcp, so that a second run finds everything there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from rich.console import Console
from rich.table import Table

from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings import taxi_home
from taxi_assets.trips import COLORS, TripFile
from tests.emulators.bigquery import FakeBigQuery
from tests.emulators.storage import StorageEmulator

PROJECT, DATASET = "taxi-demo", "trips_data"
LOCATION = "us-central1"  # where fake-gcs-server says that its buckets are
SETTINGS = {
    "GCP_PROJECT_ID": PROJECT, "GCP_LOCATION": LOCATION, "GCP_BUCKET_NAME": "taxi-demo-trips", "GCP_DATASET": DATASET,
}  # fmt: skip
MONTHS = ("--from", "2025-01", "--to", "2025-02")
QUERY = """
SELECT filename, COUNT(*) AS trips, SUM(total_amount) AS dollars,
    SUM(CAST(CONCAT('0x', SUBSTR(unique_row_id, 1, 8)) AS INT64)) AS id_sum
FROM `{dataset}.{color}_tripdata` GROUP BY filename ORDER BY filename
"""


def main() -> None:
    """Run the commands; ends with the exit code of the first that fails."""
    console = Console(highlight=False)
    home = taxi_home() / "demo-gcp"
    (home / "cloud").mkdir(parents=True, exist_ok=True)
    console.print(
        "Cloud Storage is played by fake-gcs-server, BigQuery by a fake that knows this project's statements; "
        "everything else is real.",
        style="dim",
    )
    with StorageEmulator(home / "cloud" / "storage") as storage, FakeBigQuery(storage.url, home / "cloud") as fake:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GCP_")} | {
            "TAXI_HOME": str(home), "TAXI_SOURCE": "sample", "TAXI_POSTGRES_URL": "", "DAGSTER_POSTGRES_URL": "",
            "GCP_CREDS": "", "STORAGE_EMULATOR_HOST": storage.url, "BIGQUERY_EMULATOR_HOST": fake.url,
        }  # fmt: skip
        for name, value in SETTINGS.items():
            _taxi(console, environment, "settings", "set", name, value)
        _taxi(console, environment, "gcp", "setup")
        _taxi(console, environment, "gcp", "check")
        _taxi(console, environment, "backfill", *MONTHS, "--target", "bigquery")
        _taxi(console, environment, "backfill", *MONTHS, "--target", "bigquery", "--all")
        _taxi(console, environment, "status", "--target", "bigquery")
        _taxi(console, environment, "backfill", *MONTHS)
        os.environ |= environment
        _show(console, fake)


def _taxi(console: Console, environment: dict[str, str], *arguments: str) -> None:
    console.print(f"\n$ taxi {' '.join(arguments)}", style="bold")
    code = subprocess.run([Path(sys.executable).with_name("taxi"), *arguments], env=environment).returncode
    if code:
        raise SystemExit(code)


def _show(console: Console, fake: FakeBigQuery) -> None:
    client = bigquery.Client(PROJECT, AnonymousCredentials(), client_options={"api_endpoint": fake.url})
    table = Table()
    table.add_column("filename", no_wrap=True)
    for name in ("trips", "dollars"):
        table.add_column(name, justify="right")
    table.add_column("same ids in Postgres", justify="center")
    for color in COLORS:
        for row in client.query_and_wait(QUERY.format(dataset=DATASET, color=color)):
            trip_file = TripFile.of(color, row.filename[-len("2025-01.csv") : -len(".csv")])
            same = Postgres().id_sum(trip_file) == (row.trips, row.id_sum)
            table.add_row(row.filename, f"{row.trips:,}", f"{row.dollars:,.2f}", "yes" if same else "no")
    console.print("\nIn BigQuery, asked by Google's own client:")
    console.print(table)
    console.print("With a project of your own: docs/bigquery.md")


if __name__ == "__main__":
    main()
