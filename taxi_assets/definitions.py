"""The code location: the only place where assets, checks and resources are put together."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from taxi_assets.assets.postgres import postgres_staging_trips, postgres_trips
from taxi_assets.assets.raw import raw_trips
from taxi_assets.automation import new_trip_files_sensor, postgres_trips_job, schedules
from taxi_assets.checks import all_checks
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.source import TripSource


def build_defs(resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """All definitions; `resource_overrides` replaces resources by name, as tests and commands do."""
    return dg.Definitions(
        assets=[raw_trips, postgres_staging_trips, postgres_trips],
        asset_checks=all_checks,
        jobs=[postgres_trips_job],
        schedules=schedules,
        sensors=[new_trip_files_sensor],
        resources={"source": TripSource(), "postgres": Postgres(), **(resource_overrides or {})},
        # The chain is linear: processes of their own would cost each step the start of Python (3-4 s in process,
        # 9-17 s otherwise), and parallelism comes from the run queue.
        executor=dg.in_process_executor,
    )


defs = build_defs()
