"""Asset checks: what must hold of a partition, made from the nouns and counted in the warehouse itself.

Blocking checks stop what is downstream of the same partition; the others warn.
"""

import warnings

import dagster as dg

from taxi_assets.assets.postgres import postgres_staging_trips, postgres_trips
from taxi_assets.assets.raw import raw_trips
from taxi_assets.assets.steps import staged_in_this_run, step
from taxi_assets.partitions import color_and_month
from taxi_assets.resources.postgres import Postgres, StagingMissingError
from taxi_assets.resources.source import TripSource
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import header_difference

# Dagster calls partitioned checks a preview; they are pinned with it, and the tests run them.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)

# More than this share outside the month means another month's file; real files have at most some in ten thousand.
MOST_OUTSIDE_MONTH = 0.01


@dg.asset_check(asset=raw_trips, partitions_def=color_and_month, blocking=True)
def header(context: dg.AssetCheckExecutionContext, source: TripSource) -> dg.AssetCheckResult:
    """The header is exactly the color's: every column, in its place, and no other."""
    with step(context) as trip_file:
        found = TripCsv(source.raw_file(trip_file).path, trip_file).header()
        difference = header_difference(trip_file.color.header, found)
        if difference:
            context.log.error(
                f"{trip_file.gz_name} does not have the header of {trip_file.color.name} trips: {difference}"
            )
        return dg.AssetCheckResult(
            passed=difference is None,
            metadata={"columns": len(found)},
            description=f"{trip_file.gz_name}: {difference}" if difference else None,
        )


@dg.asset_check(asset=postgres_staging_trips, partitions_def=color_and_month, blocking=True)
def staged_rows_equal_file(
    context: dg.AssetCheckExecutionContext, source: TripSource, postgres: Postgres
) -> dg.AssetCheckResult:
    """The staging table has as many rows as the file."""
    with step(context) as trip_file:
        try:
            staged = postgres.staged_rows(trip_file)
        except StagingMissingError:
            if not staged_in_this_run(context, trip_file):
                raise
            return dg.AssetCheckResult(passed=True, description="another run has merged the staged rows already")
        return _equal(source.rows(trip_file), staged, "in staging")


@dg.asset_check(asset=postgres_trips, partitions_def=color_and_month)
def merged_rows_equal_file(
    context: dg.AssetCheckExecutionContext, source: TripSource, postgres: Postgres
) -> dg.AssetCheckResult:
    """The final table has as many rows of the file as the file has."""
    with step(context) as trip_file:
        return _equal(source.rows(trip_file), postgres.merged_rows(trip_file), "in the table")


@dg.asset_check(asset=postgres_trips, partitions_def=color_and_month)
def published_row_count(context: dg.AssetCheckExecutionContext, postgres: Postgres) -> dg.AssetCheckResult:
    """The table has the published number of rows of the month; a warning, since a source may be a sample."""
    with step(context) as trip_file:
        published = trip_file.color.published_rows.get(trip_file.month)
        if published is None:
            return dg.AssetCheckResult(passed=True, description="no row count is published for this month")
        result = _equal(published, postgres.merged_rows(trip_file), "in the table", expected_from="published")
        return result._replace(severity=dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=postgres_trips, partitions_def=color_and_month)
def pickups_in_month(context: dg.AssetCheckExecutionContext, postgres: Postgres) -> dg.AssetCheckResult:
    """Nearly all pickups lie in the file's month."""
    with step(context) as trip_file:
        rows, outside = postgres.pickups_outside_month(trip_file)
        share = outside / rows if rows else 0.0
        return dg.AssetCheckResult(
            passed=share <= MOST_OUTSIDE_MONTH,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"outside": outside, "share_outside": share},
            description=f"{outside:,} of {rows:,} pickups lie outside {trip_file.month}",
        )


@dg.asset_check(asset=postgres_trips, partitions_def=color_and_month)
def shared_ids(context: dg.AssetCheckExecutionContext, postgres: Postgres) -> dg.AssetCheckResult:
    """How many rows share their id with another; never a failure, since the id names a trip and is no key."""
    with step(context) as trip_file:
        shared = postgres.rows_sharing_an_id(trip_file)
        return dg.AssetCheckResult(
            passed=True, metadata={"rows": shared}, description=f"{shared:,} rows share their id with another"
        )


all_checks = [
    header, staged_rows_equal_file, merged_rows_equal_file, published_row_count, pickups_in_month, shared_ids,
]  # fmt: skip


def _equal(expected: int, found: int, where: str, expected_from: str = "in the file") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=expected == found,
        metadata={"expected": expected, "found": found},
        description=f"{found:,} rows {where}, {expected:,} {expected_from}",
    )
