"""Take the pictures of the UI that the README shows: `make screenshots`, which needs Chromium.

The sample months are loaded into an installation of its own, in a temporary folder, which is gone afterwards; for
Google Cloud stand the emulators of the tests.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from taxi_assets.trips import TripFile
from tests.e2e.ui import NO_CHROMIUM, TAXI, browser, served, without_settings
from tests.emulators.bigquery import FakeBigQuery
from tests.emulators.demo import SETTINGS
from tests.emulators.storage import StorageEmulator

IMAGES = Path(__file__).resolve().parent / "images"
MARGIN = 16  # pixels of the page around what is shown
SCALE = 2  # for screens with small pixels
MOST_BYTES = 150_000
DEMO_MONTHS = ("--from", "2025-01", "--to", "2025-03")
LATER_MONTHS = [f"2025-{month:02}" for month in range(4, 9)]  # after those of the demo
UNPUBLISHED = TripFile.of("green", "2025-06")
BACKFILL_MS = 300_000  # the daemon looks after a backfill each 30 seconds


def main() -> None:
    """Load, serve, look, stop."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit(NO_CHROMIUM)
    with tempfile.TemporaryDirectory(prefix="taxi-screenshots-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)  # as root, Postgres runs as another user
        with StorageEmulator(home / "cloud") as storage, FakeBigQuery(storage.url) as fake:
            environment = without_settings() | {
                "TAXI_SOURCE": "sample", "TAXI_HOME": folder, **SETTINGS,
                "STORAGE_EMULATOR_HOST": storage.url, "BIGQUERY_EMULATOR_HOST": fake.url,
            }  # fmt: skip
            subprocess.run([TAXI, "demo"], env=environment, check=True)
            subprocess.run([TAXI, "gcp", "setup"], env=environment, check=True)
            into_bigquery = ["backfill", *DEMO_MONTHS, "--target", "bigquery"]
            subprocess.run([TAXI, *into_bigquery], env=environment, check=True)
            _take(chromium, home, environment)


def _take(chromium: str, home: Path, environment: dict[str, str]) -> None:
    with served(home, environment) as url, browser(chromium, device_scale_factor=SCALE) as page:
        _take_graph(page, url)
        _take_partition(page, url, "postgres_trips", "partition.png")
        _take_partition(page, url, "bigquery_trips", "bigquery-partition.png")
        _load_all_but_one(home / "source", environment)
        _take_partitions(page, url)
        _take_backfill(page, url, _submitted_backfill(environment))


def _load_all_but_one(source: Path, environment: dict[str, str]) -> None:
    """Load some more months of 2025 from a folder, where one is missing."""
    months = [option for month in LATER_MONTHS for option in ("--month", month)]
    subprocess.run([TAXI, "sample", *months, str(source)], env=environment, check=True)
    (source / UNPUBLISHED.gz_name).unlink()
    backfill: list[str | Path] = [TAXI, "backfill", "--from", LATER_MONTHS[0], "--to", LATER_MONTHS[-1]]
    done = subprocess.run(backfill, env=environment | {"TAXI_SOURCE": str(source)})
    assert done.returncode == 1, "one partition should have failed"


def _submitted_backfill(environment: dict[str, str]) -> str:
    """Leave three months to the daemon; returns the backfill's id."""
    backfill: list[str | Path] = [TAXI, "backfill", "--from", "2024-10", "--to", "2024-12", "--submit"]
    done = subprocess.run(backfill, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found = re.search(r"/runs/b/(\w+)", done.stdout)
    assert found, done.stdout
    return found[1]


def _take_graph(page: Page, url: str) -> None:
    """The ways of the trips into both warehouses, without what is around the graph."""
    chosen = quote('+key:"postgres_trips" or +key:"bigquery_trips"')
    expanded = quote("global@global:raw,global@global:postgres,global@global:bigquery")
    page.set_viewport_size({"width": 2600, "height": 1000})  # so wide that the graph needs no shrinking
    page.goto(f"{url}/asset-groups~{chosen}?expanded={expanded}")
    graph = page.locator("svg foreignObject")
    for words in ("raw_trips", "postgres_trips", "gcs_trips", "bigquery_trips", "1 / 1 Passed", "5 / 5 Passed"):
        expect(graph.get_by_text(words, exact=True).first).to_be_visible()
    graph.get_by_text("postgres_trips", exact=True).hover(trial=True)  # waits until nothing moves any more
    page.mouse.move(0, 0)  # what the mouse is over is drawn larger
    _save(page, "asset-graph.png", _around(graph))


def _take_partition(page: Page, url: str, asset: str, name: str) -> None:
    """What Dagster knows of one month, down to how long it took."""
    page.set_viewport_size({"width": 1200, "height": 1000})
    loaded = "FAILED,MATERIALIZED,MATERIALIZING"
    page.goto(f"{url}/assets/{asset}?view=partitions&partition={quote('green|2025-01')}&status={loaded}")
    last = page.get_by_role("row").filter(has=page.get_by_role("cell", name="seconds", exact=True))
    expect(last).to_be_visible()
    hide = page.get_by_role("button", name="Hide navigation")
    if hide.is_visible():  # once hidden, it stays so from page to page
        hide.click()
        expect(hide).not_to_be_visible()
    _save(page, name, {"x": 0, "y": 0, "width": 1200, "height": _bottom(last) + 1})


def _take_partitions(page: Page, url: str) -> None:
    """The months of a year: loaded, failed and missing."""
    page.set_viewport_size({"width": 1200, "height": 1000})
    page.goto(f"{url}/assets/postgres_trips?view=partitions&partition={quote(UNPUBLISHED.partition_key)}")
    months = page.get_by_placeholder("Filter by month")
    months.fill(UNPUBLISHED.month[:4])
    months.blur()
    for words in ("Failed (1)", "failed, and did not materialize this asset"):
        expect(page.get_by_text(words)).to_be_visible()
    january = page.get_by_title(f"{UNPUBLISHED.month[:4]}-01", exact=True)
    _save(page, "partitions.png", {"x": 0, "y": 0, "width": 1200, "height": _bottom(january) + 2 * MARGIN})


def _take_backfill(page: Page, url: str, backfill: str) -> None:
    """A backfill that is done."""
    width = 1400  # less would cut a heading of the table
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{url}/runs/b/{backfill}")
    expect(page.get_by_text("Status", exact=True).locator("..")).to_contain_text("Succeeded", timeout=BACKFILL_MS)
    done = page.get_by_text("100% completed")
    expect(done).to_have_count(3)  # assets
    _save(page, "backfill.png", {"x": 0, "y": 0, "width": width, "height": _bottom(done.last) + 2 * MARGIN})


def _bottom(part: Locator) -> float:
    box = part.bounding_box()
    assert box is not None  # it is visible
    return box["y"] + box["height"]


def _around(parts: Locator) -> FloatRect:
    boxes = [box for part in parts.all() if (box := part.bounding_box())]
    left, top = (min(box[side] for box in boxes) - MARGIN for side in ("x", "y"))
    right = max(box["x"] + box["width"] for box in boxes) + MARGIN
    bottom = max(box["y"] + box["height"] for box in boxes) + MARGIN
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def _save(page: Page, name: str, clip: FloatRect) -> None:
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled"))).convert("RGB")
    IMAGES.mkdir(exist_ok=True)
    # A page has few colors: with a palette the file has a third of the size and looks the same. Without `kmeans` the
    # rarest of them, such as the green of a check mark, turn gray.
    picture.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)
    size = (IMAGES / name).stat().st_size
    print(f"{IMAGES / name}: {picture.width} x {picture.height}, {size:,} bytes")
    if size > MOST_BYTES:
        raise SystemExit(f"{name} is larger than {MOST_BYTES:,} bytes: show less, or lower SCALE.")


if __name__ == "__main__":
    main()
