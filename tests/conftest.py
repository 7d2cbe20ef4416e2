"""What all tests share: real files, real Postgres servers, and installations of their own."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taxi_assets.resources.postgres import Postgres
from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile
from tests.servers import Server

PROJECT = Path(__file__).resolve().parents[1]


SETTINGS = (
    "TAXI_SOURCE", "TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL", "TAXI_TIMEZONE",
    "GCP_PROJECT_ID", "GCP_LOCATION", "GCP_BUCKET_NAME", "GCP_DATASET", "GCP_MAXIMUM_BYTES_BILLED",
    "GCP_STAGING_EXPIRATION", "GCP_UPLOAD_GZIP", "GCP_CREDS", "SECRET_GCP_CREDS", "GOOGLE_APPLICATION_CREDENTIALS",
    "STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "TAXI_LOGS_BUCKET", "TAXI_URL",
    "ALERT_MAIL_TO", "ALERT_WEBHOOK_URL", "ALERT_SMTP_URL",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not reach a test, nor a test the developer's data."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # empty, so that the project's .env does not set it
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("TAXI_HOME", "/nonexistent")
    monkeypatch.setenv("TAXI_SECRETS", os.devnull)  # empty would mean the developer's


@pytest.fixture(scope="session")
def folder(open_tmp: Callable[[], Path]) -> Path:
    """The project's folder without its .env, which would win over what a test hands to `dagster` and `dg`."""
    copy = open_tmp()
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(PROJECT / name, copy)
    (copy / "taxi_assets").symlink_to(PROJECT / "taxi_assets")
    return copy


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real TLC files."""
    folder = Path(os.environ.get("TAXI_REAL_DATA") or PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real TLC files: set TAXI_REAL_DATA to the folder that holds real/, head/ and bad/")
    return folder


@pytest.fixture(scope="session")
def open_tmp() -> Iterator[Callable[[], Path]]:
    """Makes temporary folders that every user can reach: as root, Postgres runs as another one."""
    folders: list[Path] = []

    def make() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="taxi-test-", dir="/tmp"))
        folder.chmod(0o755)
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(open_tmp: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of its own."""
    folder = open_tmp()
    monkeypatch.setenv("TAXI_HOME", str(folder))
    return folder


@pytest.fixture(scope="session", params=["18 by socket", "16 by TCP with a password"])
def server(request: pytest.FixtureRequest, open_tmp: Callable[[], Path]) -> Iterator[Server]:
    version, tcp = (18, False) if request.param.startswith("18") else (16, True)
    server = Server(open_tmp(), version, tcp=tcp)
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture(scope="session")
def password_server(open_tmp: Callable[[], Path]) -> Iterator[Server]:
    """The kind of server that people bring: by TCP, with a password."""
    server = Server(open_tmp(), 16, tcp=True)
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture
def postgres(server: Server) -> Postgres:
    """A fresh database on each kind of server."""
    return Postgres(url=server.make_database())


@pytest.fixture(scope="session")
def own_server(open_tmp: Callable[[], Path]) -> Iterator[Server]:
    """A server that a test may crash."""
    server = Server(open_tmp(), 18, tcp=False)
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture
def green(tmp_path: Path) -> tuple[TripFile, Path]:
    """A small sample month."""
    trip_file = TripFile.of("green", "2020-04")
    path = tmp_path / trip_file.gz_name
    write_sample(trip_file, path, rows=2000)
    return trip_file, path


@pytest.fixture
def green_text(green: tuple[TripFile, Path]) -> bytes:
    """The text of the small sample month, CRLF and all."""
    return gzip.decompress(green[1].read_bytes())
