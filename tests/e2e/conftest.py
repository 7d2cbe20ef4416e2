"""What the tests of the web UI share: `taxi dev` as people start it, and a browser that looks at it.

What is clicked and expected is in the tests; nothing here knows an asset.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values
from playwright.sync_api import Page, expect, sync_playwright

from taxi_assets.resources.settings import PROJECT

START_SECONDS = 120
PATIENCE_MS = 60_000  # for whatever the UI has to show; it waits no longer than it needs


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("there is no browser to look at the UI with: apt-get install chromium")
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
    _refuse_dotenv()
    port = _free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "taxi-dev.log"
    command = [str(Path(sys.executable).with_name("taxi")), "dev", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=os.environ | {"TAXI_SOURCE": str(source)}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        up = _wait_until(lambda: process.poll() is not None or _answers(url), START_SECONDS)
        assert up and process.poll() is None, f"`taxi dev` did not start:\n{log.read_text()}"
        yield url
    finally:
        _stop(process)
        # The embedded server lingers for some seconds; its files must not go before it does.
        stopped = _wait_until(lambda: not (home / "postgres" / "data" / "postmaster.pid").exists(), 60)
    assert stopped, "the embedded Postgres is still running"


@pytest.fixture
def page(chromium: str, ui: str, tmp_path: Path) -> Iterator[Page]:
    """A page of a headless browser, with addresses relative to the UI's."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(base_url=ui, viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        page.screenshot(path=tmp_path / "last-page.png")  # pytest keeps it, with taxi-dev.log, for who looks into it
        browser.close()


def _refuse_dotenv() -> None:
    """Dagster puts the project's .env above the environment, and so would load the sample into a developer's tables."""
    names = [name for name in dotenv_values(PROJECT / ".env") if name.startswith(("TAXI_", "DAGSTER_"))]
    if names:
        pytest.skip(f"{PROJECT / '.env'} sets {', '.join(names)}: move it away to test the UI")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the whole group, as Ctrl-C does: web server, daemon, code location and runs; kill what does not end."""
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
