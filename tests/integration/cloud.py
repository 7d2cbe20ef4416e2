"""A project of Google Cloud for tests, with a bucket and a dataset of their own: on emulators, or Google's.

`TAXI_LIVE_GCP=1` runs the tests of the path a second time on the project `GCP_PROJECT_ID`, in `GCP_LOCATION` or
us-central1, as the account of `GCP_CREDS` or of gcloud; what they make there they remove.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from dotenv import dotenv_values
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from taxi_assets.resources.bigquery import BigQuery
from taxi_assets.resources.cloud_storage import CloudStorage
from taxi_assets.resources.gcp import account
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings_store import SettingsStore
from tests.conftest import PROJECT as FOLDER

# Read before any test empties them.
GIVEN = {
    name: os.environ.get(name) or dotenv_values(FOLDER / ".env").get(name) or ""
    for name in ("TAXI_LIVE_GCP", "GCP_PROJECT_ID", "GCP_LOCATION", "GCP_CREDS", "GOOGLE_APPLICATION_CREDENTIALS")
}
WHERE = ["emulators", "Google"]
PROJECT, LOCATION = "taxi-test", "us-central1"


@dataclass
class Cloud:
    """A bucket and a dataset, and the settings that name them; no addresses of emulators mean Google's."""

    storage_url: str = ""
    bigquery_url: str = ""
    name: str = field(default_factory=lambda: f"trips_{uuid.uuid4().hex[:10]}")

    @property
    def live(self) -> bool:
        return not self.bigquery_url

    @property
    def project(self) -> str:
        return GIVEN["GCP_PROJECT_ID"] if self.live else PROJECT

    @property
    def location(self) -> str:
        return (GIVEN["GCP_LOCATION"] if self.live else "") or LOCATION

    @property
    def bucket(self) -> str:
        return f"{'taxi-' if self.live else ''}{self.name.replace('_', '-')}"

    @property
    def settings(self) -> Mapping[str, str]:
        """As environment variables; without a value those that must not be there."""
        named = {
            "GCP_PROJECT_ID": self.project, "GCP_LOCATION": self.location, "GCP_BUCKET_NAME": self.bucket,
            "GCP_DATASET": self.name, "STORAGE_EMULATOR_HOST": self.storage_url,
            "BIGQUERY_EMULATOR_HOST": self.bigquery_url,
        }  # fmt: skip
        if self.live:
            named |= {name: GIVEN[name] for name in ("GCP_CREDS", "GOOGLE_APPLICATION_CREDENTIALS")}
        return named

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.settings.items():
            monkeypatch.setenv(name, value)
            if not value:
                monkeypatch.delenv(name)

    @property
    def storage(self) -> storage.Client:
        if self.live:
            return storage.Client(self.project, account("STORAGE_EMULATOR_HOST"))
        return storage.Client(self.project, AnonymousCredentials(), client_options={"api_endpoint": self.storage_url})

    @property
    def bigquery(self) -> bigquery.Client:
        if self.live:
            return bigquery.Client(self.project, account("BIGQUERY_EMULATOR_HOST"), location=self.location)
        options = {"api_endpoint": self.bigquery_url}
        return bigquery.Client(self.project, AnonymousCredentials(), location=self.location, client_options=options)

    def make(self) -> None:
        self.storage.create_bucket(self.bucket, location=self.location)
        self.make_dataset()

    def make_dataset(self) -> None:
        dataset = bigquery.Dataset(f"{self.project}.{self.name}")
        dataset.location = self.location
        self.bigquery.create_dataset(dataset)

    def remove(self) -> None:
        """Remove both, as far as they are there."""
        with contextlib.suppress(NotFound):
            self.storage.bucket(self.bucket).delete(force=True)
        self.bigquery.delete_dataset(self.name, delete_contents=True, not_found_ok=True)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query in which {dataset} stands for the dataset."""
        return [tuple(row.values()) for row in self.bigquery.query(sql.format(dataset=self.name)).result()]

    def one(self, sql: str) -> Any:
        return self.query(sql)[0][0]

    def ids(self, color: str = "green") -> list[str]:
        return [row[0] for row in self.query(f"SELECT unique_row_id FROM {{dataset}}.{color}_tripdata ORDER BY 1")]


def services(postgres: Postgres, **options: Any) -> tuple[CloudStorage, BigQuery]:
    store = SettingsStore(postgres=postgres)
    return CloudStorage(settings_store=store, backoff_seconds=0.01, **options), BigQuery(settings_store=store)
