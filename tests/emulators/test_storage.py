"""The storage emulator: it answers once it is started, and its folder outlives it."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.emulators.storage import StorageEmulator


def client(emulator: StorageEmulator) -> storage.Client:
    return storage.Client("a-project", AnonymousCredentials(), client_options={"api_endpoint": emulator.url})


def test_objects_outlive_it(tmp_path: Path) -> None:
    with StorageEmulator(tmp_path) as emulator:
        bucket = client(emulator).create_bucket("trips")
        bucket.blob("folder/month.csv").upload_from_string("1,2\n")
        port = emulator.port
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/storage/v1/b", timeout=1)
    with StorageEmulator(tmp_path, port) as emulator:
        assert client(emulator).bucket("trips").blob("folder/month.csv").download_as_bytes() == b"1,2\n"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with StorageEmulator(tmp_path / "one") as emulator, pytest.raises(RuntimeError, match="answers at .* already"):
        StorageEmulator(tmp_path / "two", emulator.port).start()
