"""Take the pictures of the UI that the README shows: `make screenshots`, which needs Chromium.

The sample months are loaded into an installation of its own, in a temporary folder, which is gone afterwards.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from dotenv import dotenv_values
from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect, sync_playwright

from taxi_assets.resources.settings import PROJECT

IMAGES = Path(__file__).resolve().parent / "images"
TAXI = Path(sys.executable).with_name("taxi")
MARGIN = 16  # pixels of the page around what is shown
SCALE = 2  # for screens with small pixels
MOST_BYTES = 150_000


def main() -> None:
    """Load, serve, look, stop."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("There is no browser to take pictures with: apt-get install chromium")
    _refuse_dotenv()
    with _installation() as environment:
        subprocess.run([TAXI, "demo"], env=environment, check=True)
        with _ui(environment) as url, _browser(chromium) as page:
            _take_graph(page, url)
            _take_partition(page, url)


def _take_graph(page: Page, url: str) -> None:
    """The way of the trips into Postgres, without what is around the graph."""
    chosen = quote('+key:"postgres_trips"')
    expanded = quote("global@global:raw,global@global:postgres")
    page.set_viewport_size({"width": 2000, "height": 800})  # so wide that the graph needs no shrinking
    page.goto(f"{url}/asset-groups~{chosen}?expanded={expanded}")
    graph = page.locator("svg foreignObject")
    for words in ("raw_trips", "postgres_staging_trips", "postgres_trips", "1 / 1 Passed", "4 / 4 Passed"):
        expect(graph.get_by_text(words, exact=True).first).to_be_visible()
    graph.get_by_text("postgres_trips", exact=True).hover(trial=True)  # waits until nothing moves any more
    _save(page, "asset-graph.png", _around(graph))


def _take_partition(page: Page, url: str) -> None:
    """What Dagster knows of one month, down to the preview of its rows."""
    page.set_viewport_size({"width": 1200, "height": 1000})
    loaded = "FAILED,MATERIALIZED,MATERIALIZING"
    page.goto(f"{url}/assets/postgres_trips?view=partitions&partition={quote('green|2025-01')}&status={loaded}")
    page.get_by_role("button", name="Hide navigation").click()
    last = page.get_by_role("row").filter(has=page.get_by_role("cell", name="seconds", exact=True))
    box = last.bounding_box()
    assert box is not None  # it is visible
    _save(page, "partition.png", {"x": 0, "y": 0, "width": 1200, "height": box["y"] + box["height"] + 1})


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


@contextlib.contextmanager
def _browser(chromium: str) -> Iterator[Page]:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(device_scale_factor=SCALE)
        page.set_default_timeout(60_000)
        yield page
        browser.close()


@contextlib.contextmanager
def _installation() -> Iterator[dict[str, str]]:
    """The environment of an installation that is deleted at the end."""
    home = Path(tempfile.mkdtemp(prefix="taxi-screenshots-", dir="/tmp"))
    home.chmod(0o755)  # as root, Postgres runs as another user
    others = {name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "DAGSTER_"))}
    try:
        yield others | {"TAXI_HOME": str(home), "TAXI_SOURCE": "sample"}
    finally:
        # The embedded server lingers for some seconds; its files must not go before it does.
        _wait_until(lambda: not (home / "postgres" / "data" / "postmaster.pid").exists(), 60)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _ui(environment: dict[str, str]) -> Iterator[str]:
    """The address of the UI, served by `taxi dev`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([TAXI, "dev", "--port", str(port)], env=environment, start_new_session=True)
    try:
        if not _wait_until(lambda: process.poll() is not None or _answers(url), 120) or process.poll() is not None:
            raise SystemExit("`taxi dev` did not start; what it printed is above.")
        yield url
    finally:
        _stop(process)


def _refuse_dotenv() -> None:
    """Dagster puts the project's .env above the environment, and so would load the sample into one's own tables."""
    names = [name for name in dotenv_values(PROJECT / ".env") if name.startswith(("TAXI_", "DAGSTER_"))]
    if names:
        raise SystemExit(f"{PROJECT / '.env'} sets {', '.join(names)}: move it away while the pictures are taken.")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the whole group, as Ctrl-C does: web server, daemon and code location; kill what does not end."""
    for number, seconds in ((signal.SIGINT, 30), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if _wait_until(lambda: process.poll() is not None and not _group_lives(process.pid), seconds):
            return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    main()
