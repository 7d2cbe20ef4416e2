"""Fixtures of the tests of the web UI: an installation, its UI, and a page in a browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page

from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile
from tests.e2e.ui import NO_CHROMIUM, browser, served, without_settings

TIMEZONE = "America/New_York"  # of the schedules, and of whoever looks at them


@dataclass(frozen=True)
class Installation:
    """A running `taxi dev`.

    Attributes:
        url: where its UI is.
        home: its TAXI_HOME.
        source: the folder that it takes trip files from.
    """

    url: str
    home: Path
    source: Path

    @property
    def environment(self) -> dict[str, str]:
        """For commands that are to work on it."""
        return without_settings() | {"TAXI_HOME": str(self.home), "TAXI_SOURCE": str(self.source)}


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(NO_CHROMIUM)
    return path


@pytest.fixture(scope="module")
def installation(
    chromium: str, open_tmp: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """One for all tests of a module, since it takes some seconds to start: each test loads months of its own."""
    kept = tmp_path_factory.mktemp("taxi-dev")
    home, source = open_tmp(), kept / "source"
    source.mkdir()
    environment = without_settings() | {"TAXI_SOURCE": str(source)}
    with (kept / "taxi-dev.log").open("w") as output, served(home, environment, output) as url:
        yield Installation(url, home, source)


@pytest.fixture
def publish(installation: Installation, tmp_path: Path) -> Iterator[Callable[[TripFile, int], None]]:
    """Puts a sample file of so many rows into the source's folder; after the test there are none."""

    def move_into_source(trip_file: TripFile, rows: int) -> None:
        path = tmp_path / trip_file.gz_name
        write_sample(trip_file, path, rows)
        # Written a while ago, then moved: what looks as if it were still being written is left alone for some seconds.
        written = time.time() - 60
        os.utime(path, (written, written))
        shutil.move(path, installation.source)

    yield move_into_source
    for path in installation.source.iterdir():
        path.unlink()


@pytest.fixture
def page(chromium: str, installation: Installation, tmp_path: Path) -> Iterator[Page]:
    """A page with addresses relative to the UI's."""
    viewport = {"width": 1440, "height": 1000}
    with browser(chromium, base_url=installation.url, viewport=viewport, timezone_id=TIMEZONE) as page:
        yield page
        page.screenshot(path=tmp_path / "last-page.png")  # pytest keeps it, with taxi-dev.log, for who looks into it
