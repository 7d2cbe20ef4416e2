"""The web UI as people use it: months loaded by a backfill, by a sensor, and what a schedule would load.

Everything together, in a browser; what the parts do by themselves is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

from playwright.sync_api import Locator, Page, expect

from taxi_assets.trips import TripFile
from tests.e2e.conftest import TIMEZONE, Installation

ASSETS = ("raw_trips", "postgres_staging_trips", "postgres_trips")
# Each month has a number of its own, by which it is known everywhere; fewer rows would be too few for the strays.
BACKFILL = [
    (TripFile.of("yellow", "2020-04"), 700),
    (TripFile.of("yellow", "2020-05"), 800),
    (TripFile.of("green", "2020-04"), 900),
    (TripFile.of("green", "2020-05"), 1000),
]
RUNS_MS = 180_000  # for some runs; a daemon looks after sensors and backfills each 30 seconds
RUN_ID = re.compile("^[0-9a-f]{8}$")
ENDED = re.compile("^(Success|Failure|Canceled)$")

# Run by a process of its own: whoever asks the embedded server keeps it running until he ends.
COUNT_ROWS = """
import json, sys
from taxi_assets.partitions import trip_file_at
from taxi_assets.resources.postgres import Postgres
print(json.dumps({key: Postgres().merged_rows(trip_file_at(key)) for key in sys.argv[1:]}))
"""

Publish = Callable[[TripFile, int], None]
Files = Sequence[tuple[TripFile, int]]  # with their numbers of rows


def test_months_are_loaded_by_a_backfill(page: Page, installation: Installation, publish: Publish) -> None:
    for trip_file, rows in BACKFILL:
        publish(trip_file, rows)
    _open_graph(page)
    _launch(page, "[2020-04...2020-05]")
    backfill = page.url
    _see_runs_succeed(page, BACKFILL)
    for trip_file, rows in BACKFILL:
        _see_materialized(page, "postgres_trips", trip_file, rows)
    trip_file, rows = BACKFILL[-1]  # whose page is open
    _see_tags_of_run(page, trip_file, "backfill: true")
    for asset in ASSETS[:-1]:
        _see_materialized(page, asset, trip_file, rows)
    _see_checks(page, BACKFILL)
    _see_completed(page, backfill, len(BACKFILL))
    trip_files, numbers = zip(*BACKFILL, strict=True)
    assert _rows_in_table(installation, *trip_files) == list(numbers)


def test_a_sensor_loads_a_new_file(page: Page, installation: Installation, publish: Publish) -> None:
    new = TripFile.of("green", "2020-06")
    with _turned_on(page, "new_trip_files_sensor"):
        publish(new, 600)
        _see_tick_with_run(page)
        _see_tags_of_run(page, new, "new_trip_files_sensor")
        _see_materialized(page, "postgres_trips", new, 600)
    assert _rows_in_table(installation, new) == [600]


def test_a_schedule_asks_for_the_month_that_has_ended(page: Page, installation: Installation, publish: Publish) -> None:
    now = datetime.now(ZoneInfo(TIMEZONE))
    this_month = now.replace(day=1, hour=9, minute=0)
    next_month, last_month = _month_after(this_month), _month_before(this_month)
    there, not_there = (TripFile.of("green", f"{_month_before(tick):%Y-%m}") for tick in (this_month, last_month))
    publish(there, 600)
    with _turned_on(page, "green_schedule"):
        next_tick = page.get_by_role("row").filter(has_text="Next tick")
        expect(next_tick).to_contain_text(_shown(this_month if now < this_month else next_month, "9:00:00 AM E"))

        with _preview_of_tick(page, _shown(this_month, "9:00 AM E")) as preview:
            expect(preview).to_contain_text("Requested runs (1)")
            preview.get_by_role("row").filter(has_text="postgres_trips_job").get_by_role("button").click()
            expect(page.get_by_text(f"partition: {there.partition_key}", exact=True)).to_be_visible()
            page.get_by_role("button", name="OK").click()

        with _preview_of_tick(page, _shown(last_month, "9:00 AM E")) as preview:
            expect(preview).to_contain_text("Requested runs (0)")
            expect(preview).to_contain_text(f"{not_there.gz_name} is not in {installation.source}: put it there")


def _open_graph(page: Page) -> None:
    """The part of the graph that ends in the final table, its groups opened."""
    page.goto("/asset-groups~" + quote('+key:"postgres_trips"'))
    for group in ("raw", "postgres"):
        expect(page.locator("svg").get_by_text(group, exact=True)).to_be_visible()
    page.keyboard.press("Alt+e")  # "Expand all groups"
    for asset in ASSETS:
        expect(page.locator("svg").get_by_text(asset, exact=True)).to_be_visible()


def _launch(page: Page, months: str) -> None:
    """Launch a backfill of months of both colors, and go to its page."""
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog").filter(has_text=f"Launch runs to materialize {len(ASSETS)} assets")
    # First the months: before the dialog knows the partitions, it shows the same box for both dimensions.
    box = dialog.get_by_placeholder("2019-01")
    box.fill(months)
    box.press("Enter")
    dialog.get_by_text("Select a partition").click()
    page.get_by_role("menuitem", name="Select all").click()
    page.keyboard.press("Escape")
    expect(dialog.get_by_text(f"{len(BACKFILL)} partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("View", exact=True).click()  # in the message that the backfill was created
    page.wait_for_url("**/runs/b/*")


def _see_runs_succeed(page: Page, files: Files) -> None:
    """On the backfill's page: a run for each file."""
    page.get_by_role("tab", name="Runs").click()
    expect(page.get_by_text(ENDED)).to_have_count(len(files), timeout=RUNS_MS)
    expect(page.get_by_text("Success", exact=True)).to_have_count(len(files))
    expect(page.get_by_text("backfill: true", exact=True)).to_have_count(len(files))
    for trip_file, _ in files:
        expect(page.get_by_text(f"file: {trip_file.csv_name}", exact=True)).to_be_visible()


def _see_materialized(page: Page, asset: str, trip_file: TripFile, rows: int) -> None:
    """Among the partitions that are materialized, and with its number of rows."""
    key = quote(trip_file.partition_key)
    page.goto(f"/assets/{asset}?view=partitions&status=MATERIALIZED&partition={key}")
    expect(page.get_by_title(trip_file.month, exact=True)).to_be_visible()
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    count = page.get_by_role("row").filter(has_text="dagster/partition_row_count")
    expect(count.get_by_role("cell", name=str(rows), exact=True)).to_be_visible()


def _see_tags_of_run(page: Page, trip_file: TripFile, *tags: str) -> None:
    """Go to the run that the page links to: it succeeded and says what it was for."""
    page.goto(page.get_by_role("link", name=RUN_ID).get_attribute("href") or "")  # a click may open another tab
    expect(page.get_by_text(ENDED)).to_be_visible(timeout=RUNS_MS)
    expect(page.get_by_text(ENDED)).to_have_text("Success")
    page.get_by_role("button", name="View tags and config").click()
    for tag in (f"taxi: {trip_file.color.name}", f"file: {trip_file.csv_name}", *tags):
        expect(page.get_by_role("dialog").get_by_text(tag, exact=True)).to_be_visible()


def _see_checks(page: Page, files: Files) -> None:
    """On the tab Checks: the file is in the table, and is not what was published, which is a warning."""
    for check, result, told in (
        ("merged_rows_equal_file", "Passed", "{rows:,} rows in the table, {rows:,} in the file"),
        ("published_row_count", "Failed", "{rows:,} rows in the table, {published:,} published"),
    ):
        page.goto(f"/assets/postgres_trips?view=checks&checkDetail={check}")
        page.get_by_role("tab", name="Execution history").click()
        for trip_file, rows in files:
            row = page.get_by_role("row").filter(has_text=trip_file.partition_key)
            expect(row).to_contain_text(result)
            published = trip_file.color.published_rows[trip_file.month]
            expect(row).to_contain_text(told.format(rows=rows, published=published))


def _see_completed(page: Page, backfill: str, partitions: int) -> None:
    """The backfill's page says so, of itself and of each asset."""
    page.goto(backfill)
    status = page.get_by_text("Status", exact=True).locator("..")
    expect(status).to_have_text(re.compile("Succeeded|Failed|Canceled"), timeout=RUNS_MS)
    expect(status).to_contain_text("Succeeded")
    expect(page.get_by_role("button", name=f"{partitions} partitions")).to_be_visible()
    expect(page.get_by_text("100% completed")).to_have_count(len(ASSETS))


@contextlib.contextmanager
def _turned_on(page: Page, automation: str) -> Iterator[None]:
    """A schedule or sensor, turned on by its switch; off again at the end, for the other tests."""
    _turn(page, automation, on=True)
    try:
        yield
    finally:
        _turn(page, automation, on=False)


def _turn(page: Page, automation: str, on: bool) -> None:
    page.goto("/automation")
    page.get_by_role("link", name=automation).click()
    running = page.get_by_role("row").filter(has_text="Running")
    expect(running.get_by_role("checkbox")).to_be_checked(checked=not on)
    running.locator("label").click()
    expect(running.get_by_role("checkbox")).to_be_checked(checked=on)


def _see_tick_with_run(page: Page) -> None:
    """In the list of the sensor's ticks, without touching anything."""
    tick = page.get_by_role("row").filter(has=page.get_by_role("button", name="View logs"))
    expect(tick.filter(has_text="1 run requested")).to_be_visible(timeout=RUNS_MS)


@contextlib.contextmanager
def _preview_of_tick(page: Page, moment: str) -> Iterator[Locator]:
    """What the schedule would do at a moment, in a dialog."""
    page.get_by_role("button", name="Preview tick result").click()
    dialog = page.get_by_role("dialog").filter(has_text="Preview tick result for green_schedule")
    dialog.get_by_text("9:00 AM E").click()
    page.get_by_role("menuitem", name=moment).click()
    dialog.get_by_role("button", name="Continue").click()
    yield dialog
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def _month_before(moment: datetime) -> datetime:
    return (moment.replace(day=1) - timedelta(days=1)).replace(day=1)


def _month_after(moment: datetime) -> datetime:
    return (moment.replace(day=1) + timedelta(days=32)).replace(day=1)


def _shown(moment: datetime, time: str) -> str:
    """As the UI writes it: with the year if it is another one."""
    year = "" if moment.year == datetime.now(ZoneInfo(TIMEZONE)).year else f" {moment.year},"
    return f"{moment:%b} {moment.day},{year} {time}"


def _rows_in_table(installation: Installation, *trip_files: TripFile) -> list[int]:
    keys = [trip_file.partition_key for trip_file in trip_files]
    done = subprocess.run(
        [sys.executable, "-c", COUNT_ROWS, *keys], env=installation.environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    rows = json.loads(done.stdout)
    return [rows[key] for key in keys]
