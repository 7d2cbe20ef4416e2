"""Fixtures of the tests of the web UI: an installation, its UI, and a page in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.e2e.ui import NO_CHROMIUM, browser, served, without_settings


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(NO_CHROMIUM)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder that `ui` takes its trip files from."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def ui(chromium: str, home: Path, source: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a running `taxi dev`, in an installation of its own."""
    environment = without_settings() | {"TAXI_SOURCE": str(source)}
    with (tmp_path / "taxi-dev.log").open("w") as output, served(home, environment, output) as url:
        yield url


@pytest.fixture
def page(chromium: str, ui: str, tmp_path: Path) -> Iterator[Page]:
    """A page with addresses relative to the UI's."""
    with browser(chromium, base_url=ui, viewport={"width": 1440, "height": 1000}) as page:
        yield page
        page.screenshot(path=tmp_path / "last-page.png")  # pytest keeps it, with taxi-dev.log, for who looks into it
