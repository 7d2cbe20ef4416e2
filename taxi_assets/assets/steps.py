"""What every step of the graph does around its one sentence: label the run, tell errors, collect metadata.

The assets themselves are in the other modules of this package.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import dagster as dg

from taxi_assets.errors import TaxiError, TransientError
from taxi_assets.partitions import trip_file_of
from taxi_assets.trips import Column, TripFile

# What failed for a moment, such as a lost connection, is tried again after some 5, 15 and 35 seconds. The jitter keeps
# runs that failed together from coming back together. Not given to the assets as their policy: Dagster would follow it
# for every error, and for a run that somebody cancels.
RETRIES = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

# The TLC publishes a month at a time, some two months late: a table that nothing came into for longer is worth a look.
FRESHNESS = dg.FreshnessPolicy.time_window(warn_window=timedelta(days=35), fail_window=timedelta(days=65))


@contextmanager
def step(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Iterator[TripFile]:
    """The trip file of the partition at work, its run labelled with color and file.

    Raises:
        dg.Failure: for a `TaxiError`, with its one sentence.
        dg.RetryRequested: for one that may be right at the next attempt.
    """
    trip_file = trip_file_of(context)
    if isinstance(context, dg.AssetExecutionContext):
        _label(context, trip_file)
    try:
        yield trip_file
    except TransientError as error:
        attempt = context.op_execution_context.retry_number + 1
        raise dg.RetryRequested(RETRIES.max_retries, RETRIES.calculate_delay(attempt)) from dg.Failure(str(error))
    except TaxiError as error:
        raise dg.Failure(str(error)) from None


def _label(context: dg.AssetExecutionContext, trip_file: TripFile) -> None:
    """The tags by which people find the run."""
    labels = {"taxi": trip_file.color.name, "file": trip_file.csv_name}
    if "dagster/backfill" in context.run.tags:
        labels["backfill"] = "true"
    if not labels.items() <= context.run.tags.items():
        context.instance.add_run_tags(context.run.run_id, labels)


def staged_for_this_run(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, trip_file: TripFile) -> bool:
    """Whether this run, or one that it retries from where it failed, filled the staging table.

    Where the table is gone all the same, it was merged: by another run of the same partition, or by the retried one
    just before it was killed.
    """
    run = context.run
    runs = {run.run_id, run.tags.get("dagster/parent_run_id"), run.tags.get("dagster/root_run_id")}
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey("postgres_staging_trips"), asset_partitions=[trip_file.partition_key]
        ),
        limit=20,
    ).records
    return any(record.run_id in runs for record in records)


def now_and_then(log: Callable[[str], None], seconds: float = 10.0) -> Callable[[str], None]:
    """A log for progress: takes every message, writes one in so many seconds."""
    due = time.monotonic() + seconds

    def tell(message: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            log(message)
            due = time.monotonic() + seconds

    return tell


def column_schema(
    columns: Iterable[Column], warehouse: Literal["postgres", "bigquery"] = "postgres"
) -> Mapping[str, Any]:
    """Columns as the definition's metadata shows them in the catalog, with a warehouse's names and types."""

    def shown(column: Column) -> dg.TableColumn:
        if warehouse == "bigquery":
            return dg.TableColumn(column.name, column.bigquery_type, description=column.description)
        return dg.TableColumn(column.postgres_name, column.type, description=column.description)

    return {"dagster/column_schema": dg.TableSchema([shown(column) for column in columns])}


def preview(rows: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> dg.TableMetadataValue:
    """Rows as the metadata shows them; a table record takes numbers and texts."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {name: value if isinstance(value, int | float) else str(value or "") for name, value in row.items()}
            )
            for row in rows
        ],
        schema["dagster/column_schema"],
    )
