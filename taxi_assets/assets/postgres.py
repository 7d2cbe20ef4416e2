"""Group `postgres`: from the raw file through a staging table into the final table."""

from typing import Any

import dagster as dg
from pydantic import Field

from taxi_assets.assets.raw import raw_trips
from taxi_assets.assets.steps import FRESHNESS, column_schema, now_and_then, preview, staged_for_this_run, step
from taxi_assets.charts import trips_per_day_chart
from taxi_assets.partitions import color_and_month
from taxi_assets.resources.postgres import Merged, Postgres, StagingLostError, StagingMissingError
from taxi_assets.resources.source import TripSource
from taxi_assets.trips import COLORS, TripFile

POOL = "postgres"  # the runs that write to the database at once are limited together; dagster.yaml says to how many


class MergeConfig(dg.Config):
    """What the merge leaves behind."""

    keep_staging: bool = Field(False, description="Leave the staging table where it is dropped otherwise.")
    purge_raw_file: bool = Field(False, description="Delete the raw file once it is merged.")


@dg.asset(
    partitions_def=color_and_month, group_name="postgres", kinds={"postgres"}, deps=[raw_trips],
    pool=POOL,
)  # fmt: skip
def postgres_staging_trips(
    context: dg.AssetExecutionContext, source: TripSource, postgres: Postgres
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The raw file copied into a staging table of its own, `staging.green_tripdata_2020_04`, all or nothing."""
    with step(context) as trip_file:
        raw_file = source.raw_file(trip_file)
        tell = now_and_then(context.log.info)
        staged = postgres.stage(
            trip_file, raw_file.path, progress=lambda rows, _: tell(f"{rows:,} of {raw_file.rows:,} rows copied")
        )
        context.log.info(f"{staged.rows:,} rows copied in {staged.seconds:.1f} s")
        return dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count": staged.rows,
                "dagster/table_name": f"staging.{trip_file.staging_table}",
                "bytes": staged.bytes,
                "seconds": round(staged.seconds, 3),
                "sha256": raw_file.sha256,
            }
        )


@dg.asset(
    partitions_def=color_and_month, group_name="postgres", kinds={"postgres"}, deps=[postgres_staging_trips],
    pool=POOL, freshness_policy=FRESHNESS,
    # Of all colors: each materialization shows those of its own.
    metadata=column_schema(dict.fromkeys(column for color in COLORS.values() for column in color.table_columns)),
)  # fmt: skip
def postgres_trips(
    context: dg.AssetExecutionContext, config: MergeConfig, source: TripSource, postgres: Postgres
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Staged rows merged into `public.yellow_tripdata` or `public.green_tripdata`: what is not there is inserted."""
    with step(context) as trip_file:
        try:
            merged = postgres.merge(trip_file, keep_staging=config.keep_staging)
        except StagingLostError as lost:
            context.log.warning(f"{lost} It is done here, from the raw file.")
            postgres.stage(trip_file, source.raw_file(trip_file).path)
            merged = postgres.merge(trip_file, keep_staging=config.keep_staging)
        except StagingMissingError:
            if not staged_for_this_run(context, trip_file):
                raise
            # What was staged is merged already, and staging dropped.
            merged = Merged(rows=postgres.merged_rows(trip_file), inserted=0, seconds=0)
        context.log.info(
            f"{merged.inserted:,} rows inserted, {merged.there_already:,} there already, in {merged.seconds:.1f} s"
        )
        if config.purge_raw_file:
            source.raw_file(trip_file).purge()
        return dg.MaterializeResult(metadata=_metadata(trip_file, merged, source, postgres))


def _metadata(trip_file: TripFile, merged: Merged, source: TripSource, postgres: Postgres) -> dict[str, Any]:
    schema = column_schema(trip_file.color.table_columns)
    noted = source.noted(trip_file)  # None where staging came from another machine
    return {
        **schema,
        "dagster/partition_row_count": merged.rows,
        "dagster/table_name": f"public.{trip_file.color.table}",
        "rows_inserted": merged.inserted,
        "rows_there_already": merged.there_already,
        "seconds": round(merged.seconds, 3),
        **({"sha256": noted.sha256} if noted else {}),
        "trips_per_day": dg.MetadataValue.md(trips_per_day_chart(trip_file, postgres.trips_per_day(trip_file))),
        "preview": preview(postgres.preview(trip_file), schema),
    }  # fmt: skip
