"""The code location: the only place where assets, checks and resources are put together."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from taxi_assets.alerts import failed_run_alert
from taxi_assets.assets.bigquery import (
    bigquery_external_trips,
    bigquery_staging_trips,
    bigquery_trips,
    gcs_trips,
)
from taxi_assets.assets.postgres import postgres_staging_trips, postgres_trips
from taxi_assets.assets.raw import raw_trips
from taxi_assets.automation import TARGETS, schedules, sensors
from taxi_assets.checks import all_checks
from taxi_assets.operations import gcp_setup_job, set_settings
from taxi_assets.resources.bigquery import BigQuery
from taxi_assets.resources.cloud_storage import CloudStorage
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings_store import SettingsStore
from taxi_assets.resources.source import TripSource


def build_defs(resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """All definitions; `resource_overrides` replaces resources by name, as tests and commands do."""
    settings_store = SettingsStore(postgres=Postgres())
    resources = {
        "source": TripSource(),
        "postgres": settings_store.postgres,
        "settings_store": settings_store,
        "cloud_storage": CloudStorage(settings_store=settings_store),
        "bigquery": BigQuery(settings_store=settings_store),
    }
    return dg.Definitions(
        assets=[
            raw_trips,
            postgres_staging_trips, postgres_trips,
            gcs_trips, bigquery_external_trips, bigquery_staging_trips, bigquery_trips,
        ],
        asset_checks=all_checks,
        jobs=[*(target.job for target in TARGETS.values()), set_settings, gcp_setup_job],
        schedules=schedules,
        sensors=[*sensors, failed_run_alert],
        resources=resources | dict(resource_overrides or {}),
        # The chain is linear: processes of their own would cost each step the start of Python (3-4 s in process,
        # 9-17 s otherwise), and parallelism comes from the run queue.
        executor=dg.in_process_executor,
    )  # fmt: skip


defs = build_defs()
