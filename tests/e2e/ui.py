"""The web UI as people start it, and a browser that looks at it: for the tests and for the README's pictures.

What is clicked and expected belongs to them; nothing here knows an asset.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from playwright.sync_api import Page, expect, sync_playwright

from tests.ports import free_port

TAXI = Path(sys.executable).with_name("taxi")
START_SECONDS = 120
PATIENCE_MS = 60_000  # for whatever the UI has to show; it waits no longer than it needs
NO_CHROMIUM = "there is no browser to look at the UI with: apt-get install chromium"


@contextlib.contextmanager
def served(home: Path, environment: dict[str, str], output: IO[str] | None = None) -> Iterator[str]:
    """The address of a running `taxi dev`; when it is over, the embedded server of `home` has stopped, too."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [TAXI, "dev", "--port", str(port)], env=environment | {"TAXI_HOME": str(home)}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=output, stderr=output,
    )  # fmt: skip
    try:
        up = wait_until(lambda: process.poll() is not None or _answers(url), START_SECONDS)
        assert up and process.poll() is None, "`taxi dev` did not start"
        yield url
    finally:
        _stop(process)
        # The embedded server lingers for some seconds; its files must not go before it does.
        stopped = wait_until(lambda: not (home / "postgres" / "data" / "postmaster.pid").exists(), 60)
    assert stopped, "the embedded Postgres is still running"


@contextlib.contextmanager
def browser(chromium: str, **page_options: Any) -> Iterator[Page]:
    """A page of a headless browser."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = running.new_page(**page_options)
        page.set_default_timeout(PATIENCE_MS)
        yield page
        running.close()


def without_settings() -> dict[str, str]:
    """The environment without a developer's own settings; empty ones keep the project's .env from setting them."""
    settings = ("TAXI_SOURCE", "TAXI_TIMEZONE", "TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL")
    return {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"} | dict.fromkeys(settings, "")


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


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
        if wait_until(lambda: process.poll() is not None and not _group_lives(process.pid), seconds):
            return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
