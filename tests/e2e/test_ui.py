"""One month from the browser into the table: everything together, as people use it.

What the parts do by themselves is tested elsewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile

ROWS = 500
TRIP_FILE = TripFile.of("green", "2020-04")
ASSETS = ("raw_trips", "postgres_staging_trips", "postgres_trips")
RUN_SECONDS = 120

# Run by a process of its own: whoever asks the embedded server keeps it running until he ends.
COUNT_ROWS = """
from taxi_assets.resources.postgres import Postgres
from taxi_assets.trips import TripFile
print(Postgres().merged_rows(TripFile.of("green", "2020-04")))
"""


@pytest.fixture
def source(source: Path) -> Path:
    write_sample(TRIP_FILE, source / TRIP_FILE.gz_name, rows=ROWS)
    return source


def test_a_month_is_loaded_from_the_browser(page: Page) -> None:
    _open_graph(page)
    _launch(page, TRIP_FILE)
    _see_success(page, TRIP_FILE)
    for asset in ASSETS:
        _see_rows(page, asset, TRIP_FILE, ROWS)
    assert _rows_in_table() == ROWS


def _open_graph(page: Page) -> None:
    """The part of the graph that ends in the final table, its groups opened."""
    page.goto("/asset-groups~" + quote('+key:"postgres_trips"'))
    for group in ("raw", "postgres"):
        expect(page.locator("svg").get_by_text(group, exact=True)).to_be_visible()
    page.keyboard.press("Alt+e")  # "Expand all groups"
    for asset in ASSETS:
        expect(page.locator("svg").get_by_text(asset, exact=True)).to_be_visible()


def _launch(page: Page, trip_file: TripFile) -> None:
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog").filter(has_text=f"Launch runs to materialize {len(ASSETS)} assets")
    # First the month: before the dialog knows the partitions, it shows the same box for both dimensions.
    months = dialog.get_by_placeholder("2019-01")
    months.fill(trip_file.month)
    months.press("Enter")
    dialog.get_by_text("Select a partition").click()
    page.get_by_role("menuitem", name=trip_file.color.name).click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("View", exact=True).click()  # in the message that the run was launched


def _see_success(page: Page, trip_file: TripFile) -> None:
    status = page.get_by_text(re.compile("^(Success|Failure)$"))
    expect(status).to_be_visible(timeout=RUN_SECONDS * 1000)
    expect(status).to_have_text("Success")
    page.get_by_role("button", name="View tags and config").click()
    for tag in (f"taxi: {trip_file.color.name}", f"file: {trip_file.csv_name}"):
        expect(page.get_by_role("dialog").get_by_text(tag)).to_be_visible()


def _see_rows(page: Page, asset: str, trip_file: TripFile, rows: int) -> None:
    page.goto(f"/assets/{asset}?view=partitions&partition={quote(trip_file.partition_key)}")
    count = page.get_by_role("row").filter(has_text="dagster/partition_row_count")
    expect(count.get_by_role("cell", name=str(rows), exact=True)).to_be_visible()


def _rows_in_table() -> int:
    done = subprocess.run([sys.executable, "-c", COUNT_ROWS], capture_output=True, text=True, check=True)
    return int(done.stdout)
