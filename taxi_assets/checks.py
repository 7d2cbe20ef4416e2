"""Asset checks: what must hold of a partition, made from the nouns and counted in the warehouse itself.

Blocking checks stop what is downstream of the same partition; the others warn.
"""

import warnings
from collections.abc import Iterator
from datetime import date

import dagster as dg

from taxi_assets.assets.bigquery import OUTSIDE_DAYS, bigquery_staging_trips, bigquery_trips, gcs_trips
from taxi_assets.assets.postgres import postgres_staging_trips, postgres_trips
from taxi_assets.assets.raw import raw_trips
from taxi_assets.assets.steps import staged_for_this_run, step
from taxi_assets.errors import BadTripFileError
from taxi_assets.history import last
from taxi_assets.partitions import color_and_month
from taxi_assets.resources.bigquery import BigQuery
from taxi_assets.resources.postgres import Postgres, StagingLostError, StagingMissingError
from taxi_assets.resources.source import TripSource
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import TripFile, header_difference

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
            if not staged_for_this_run(context, trip_file):
                raise
            return dg.AssetCheckResult(passed=True, description="the staged rows are merged already")
        except StagingLostError as lost:  # the merge copies them again, so this need not stop it
            return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(lost))
        return _equal(source.raw_rows(trip_file), staged, "in staging")


TABLE_CHECKS = {
    "merged_rows_equal_file": "The final table has as many rows of the file as the file has.",
    "published_row_count": "The table has the published number of rows; a warning, since a source may be a sample.",
    "pickups_in_month": "Nearly all pickups lie in the file's month.",
    "shared_ids": "How many rows share their id with another; never a failure, since an id is no key.",
}
SAME_IDS = "same_ids_as_postgres"


def _specs(asset: dg.AssetsDefinition, checks: dict[str, str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=color_and_month)
        for name, description in checks.items()
    ]


@dg.multi_asset_check(specs=_specs(postgres_trips, TABLE_CHECKS))
def postgres_trips_checks(
    context: dg.AssetCheckExecutionContext, source: TripSource, postgres: Postgres
) -> Iterator[dg.AssetCheckResult]:
    """What must hold of the final table, in one step: each step costs a run some tenths of a second."""
    with step(context) as trip_file:
        rows, outside = postgres.pickups_outside_month(trip_file)
        shared = postgres.rows_sharing_an_id(trip_file)
        yield from _of_table(trip_file, source.raw_rows(trip_file), rows, outside, shared)


@dg.asset_check(asset=gcs_trips, partitions_def=color_and_month, blocking=True)
def rows(context: dg.AssetCheckExecutionContext, source: TripSource) -> dg.AssetCheckResult:
    """Every row is one of the color's, field by field, before BigQuery reads it in its own, more lenient way."""
    with step(context) as trip_file:
        csv = TripCsv(source.raw_file(trip_file).path, trip_file)
        try:
            for _ in csv.blocks():
                pass
        except BadTripFileError as error:
            context.log.error(str(error))
            return dg.AssetCheckResult(passed=False, description=str(error))
        return dg.AssetCheckResult(passed=True, metadata={"rows": csv.rows, "bytes": csv.bytes})


@dg.asset_check(
    asset=bigquery_staging_trips, partitions_def=color_and_month, blocking=True, name="staged_rows_equal_file"
)
def bigquery_staged_rows_equal_file(
    context: dg.AssetCheckExecutionContext, source: TripSource, bigquery: BigQuery
) -> dg.AssetCheckResult:
    """The staging table has as many rows as the file."""
    with step(context) as trip_file:
        return _equal(source.raw_rows(trip_file), bigquery.staged_rows(trip_file), "in staging")


@dg.multi_asset_check(
    specs=_specs(
        bigquery_trips,
        TABLE_CHECKS | {SAME_IDS: "Where the month is in Postgres too, it has as many rows there, with the same ids."},
    )
)
def bigquery_trips_checks(
    context: dg.AssetCheckExecutionContext, source: TripSource, postgres: Postgres, bigquery: BigQuery
) -> Iterator[dg.AssetCheckResult]:
    """The same of the final table in BigQuery, in one statement over the days that the file touches."""
    with step(context) as trip_file:
        merged = last(context.instance, "bigquery_trips", trip_file.partition_key)
        days = [date.fromisoformat(day) for day in merged.get(OUTSIDE_DAYS, [])]
        found = bigquery.count(trip_file, days, context.run.run_id)
        yield from _of_table(
            trip_file, source.raw_rows(trip_file), found.rows, found.outside_month, found.sharing_an_id
        )  # fmt: skip
        in_postgres, sum_in_postgres = postgres.id_sum(trip_file)
        same = (found.rows, found.id_sum) == (in_postgres, sum_in_postgres)
        yield dg.AssetCheckResult(
            check_name=SAME_IDS,
            passed=same or not in_postgres,
            severity=dg.AssetCheckSeverity.WARN,  # either may hold another edition of the file
            metadata={"rows": found.rows, "rows_in_postgres": in_postgres},
            description=f"{found.rows:,} rows, in Postgres {in_postgres:,} with {'the same' if same else 'other'} ids"
            if in_postgres
            else "the month is not in Postgres",
        )


all_checks = [
    header, staged_rows_equal_file, postgres_trips_checks,
    rows, bigquery_staged_rows_equal_file, bigquery_trips_checks,
]  # fmt: skip


def _of_table(
    trip_file: TripFile, rows_in_file: int, rows: int, outside: int, shared: int
) -> Iterator[dg.AssetCheckResult]:
    """What must hold of a file's rows in the final table of either warehouse."""
    yield _equal(rows_in_file, rows, "in the table")._replace(check_name="merged_rows_equal_file")
    yield _as_published(trip_file, rows)._replace(check_name="published_row_count")
    yield dg.AssetCheckResult(
        check_name="pickups_in_month",
        passed=outside <= rows * MOST_OUTSIDE_MONTH,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"outside": outside, "share_outside": outside / rows if rows else 0.0},
        description=f"{outside:,} of {rows:,} pickups lie outside {trip_file.month}",
    )
    yield dg.AssetCheckResult(
        check_name="shared_ids",
        passed=True,
        metadata={"rows": shared},
        description=f"{shared:,} rows share their id with another",
    )


def _as_published(trip_file: TripFile, rows: int) -> dg.AssetCheckResult:
    published = trip_file.color.published_rows.get(trip_file.month)
    if published is None:
        return dg.AssetCheckResult(passed=True, description="no row count is published for this month")
    result = _equal(published, rows, "in the table", expected_from="published")
    return result._replace(severity=dg.AssetCheckSeverity.WARN)


def _equal(expected: int, found: int, where: str, expected_from: str = "in the file") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=expected == found,
        metadata={"expected": expected, "found": found},
        description=f"{found:,} rows {where}, {expected:,} {expected_from}",
    )
