"""Group `bigquery`: the raw file into the bucket, and from there by SQL into the final table."""

from typing import Any

import dagster as dg
from pydantic import Field

from taxi_assets.assets.raw import raw_trips
from taxi_assets.assets.steps import FRESHNESS, column_schema, now_and_then, preview, step
from taxi_assets.charts import trips_per_day_chart
from taxi_assets.errors import BadTripFileError
from taxi_assets.partitions import color_and_month
from taxi_assets.resources.bigquery import BigQuery, Cost
from taxi_assets.resources.cloud_storage import CloudStorage
from taxi_assets.resources.source import TripSource
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import COLORS

POOL = "bigquery"  # the runs that work in Google Cloud at once are limited together; dagster.yaml says to how many
OUTSIDE_DAYS = "pickup_days_outside_month"  # in the metadata: the checks read these days too


class BigQueryMergeConfig(dg.Config):
    """What the merge leaves behind."""

    purge_raw_file: bool = Field(False, description="Delete the raw file on this machine once it is merged.")


@dg.asset(partitions_def=color_and_month, group_name="bigquery", kinds={"gcs"}, deps=[raw_trips], pool=POOL)
def gcs_trips(
    context: dg.AssetExecutionContext, source: TripSource, cloud_storage: CloudStorage
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The raw file in the bucket, sent again only where another one is there."""
    with step(context) as trip_file:
        raw_file = source.raw_file(trip_file)
        tell = now_and_then(context.log.info)
        uploaded = cloud_storage.upload(
            trip_file, raw_file.path, progress=lambda done, total: tell(f"{done:,} of {total:,} bytes uploaded")
        )
        context.log.info(
            f"{uploaded.uri}: {uploaded.bytes:,} bytes "
            f"{f'uploaded in {uploaded.seconds:.1f} s' if uploaded.sent else 'there already, equal'}"
        )
        return dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count": raw_file.rows,
                "dagster/uri": uploaded.uri,
                "bytes": uploaded.bytes,
                "seconds": round(uploaded.seconds, 3),
                "crc32c": uploaded.crc32c,
                "generation": str(uploaded.generation),
                "uploaded": uploaded.sent,
                "sha256": raw_file.sha256,
            },
            data_version=dg.DataVersion(uploaded.crc32c),
        )


@dg.asset(partitions_def=color_and_month, group_name="bigquery", kinds={"bigquery"}, deps=[gcs_trips], pool=POOL)
def bigquery_external_trips(
    context: dg.AssetExecutionContext, cloud_storage: CloudStorage, bigquery: BigQuery
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The file in the bucket shown as a table, `green_tripdata_2020_04_ext`; nothing is copied."""
    with step(context) as trip_file:
        cost = bigquery.make_external_table(trip_file, cloud_storage.uri(trip_file), context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                **column_schema(trip_file.color.columns, "bigquery"),
                "dagster/table_name": bigquery.table_name(trip_file.external_table),
                "dagster/uri": cloud_storage.uri(trip_file),
                **_told(cost),
            }
        )


@dg.asset(
    partitions_def=color_and_month, group_name="bigquery", kinds={"bigquery"}, deps=[bigquery_external_trips],
    pool=POOL,
)  # fmt: skip
def bigquery_staging_trips(
    context: dg.AssetExecutionContext, source: TripSource, bigquery: BigQuery
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The external table's rows with `unique_row_id` and `filename`, in a table of the month, all or nothing."""
    with step(context) as trip_file:
        try:
            staged = bigquery.stage(trip_file, context.run.run_id)
        except BadTripFileError:
            if source.raw_path(trip_file).exists():
                for _ in TripCsv(source.raw_path(trip_file), trip_file).blocks():  # names the line and the column
                    pass
            raise
        context.log.info(f"{staged.rows:,} rows staged in {staged.cost.seconds:.1f} s")
        return dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count": staged.rows,
                "dagster/table_name": bigquery.table_name(trip_file.staging_table),
                **_told(staged.cost),
            }
        )


@dg.asset(
    partitions_def=color_and_month, group_name="bigquery", kinds={"bigquery"}, deps=[bigquery_staging_trips],
    pool=POOL, freshness_policy=FRESHNESS,
    # Of all colors: each materialization shows those of its own.
    metadata=column_schema(
        dict.fromkeys(column for color in COLORS.values() for column in color.table_columns), "bigquery"
    ),
)  # fmt: skip
def bigquery_trips(
    context: dg.AssetExecutionContext, config: BigQueryMergeConfig, source: TripSource, bigquery: BigQuery
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Staged rows merged into `yellow_tripdata` or `green_tripdata`: what is not there is inserted."""
    with step(context) as trip_file:
        merged = bigquery.merge(trip_file, context.run.run_id)
        context.log.info(
            f"{merged.inserted:,} rows inserted, {merged.there_already:,} there already, in {merged.cost.seconds:.1f} s"
        )
        if config.purge_raw_file:
            source.raw_file(trip_file).purge()
        schema = column_schema(trip_file.color.table_columns, "bigquery")
        noted = source.noted(trip_file)
        in_month = [(day, trips) for day, trips in merged.trips_per_day if trip_file.has(day)]
        return dg.MaterializeResult(
            metadata={
                **schema,
                "dagster/partition_row_count": merged.rows,
                **merged.table,
                "rows_inserted": merged.inserted,
                "rows_there_already": merged.there_already,
                **_told(merged.cost),
                **({"sha256": noted.sha256} if noted else {}),
                OUTSIDE_DAYS: dg.MetadataValue.json(
                    [str(day) for day, _ in merged.trips_per_day if not trip_file.has(day)]
                ),
                "trips_per_day": dg.MetadataValue.md(trips_per_day_chart(trip_file, in_month)),
                "preview": preview(bigquery.preview(trip_file), schema),
            }
        )


def _told(cost: Cost) -> dict[str, Any]:
    return {
        "bytes_processed": cost.bytes_processed,
        "bytes_billed": cost.bytes_billed,
        "slot_seconds": round(cost.slot_seconds, 3),
        "seconds": round(cost.seconds, 3),
        "job": cost.job,
    }
