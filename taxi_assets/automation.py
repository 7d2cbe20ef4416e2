"""What runs without being asked, and the jobs that it runs."""

from __future__ import annotations

import dagster as dg

postgres_trips_job = dg.define_asset_job(
    "postgres_trips_job",
    selection=["raw_trips", "postgres_staging_trips", "postgres_trips"],
    description="One month of one color from the source into the final table in Postgres.",
)
