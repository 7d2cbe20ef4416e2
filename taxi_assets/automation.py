"""What runs without being asked, and the jobs that it runs: schedules by the calendar, a sensor by what is published.

All are off until somebody turns them on. None of them works on trips: they look at the source and request runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from taxi_assets.errors import NotPublishedError, TaxiError, TransientError
from taxi_assets.history import latest
from taxi_assets.partitions import TIMEZONE, color_and_month, trip_file_at
from taxi_assets.resources.bigquery import BigQuery
from taxi_assets.resources.source import TripSource
from taxi_assets.trips import COLORS, Color, TripFile

postgres_trips_job = dg.define_asset_job(
    "postgres_trips_job",
    selection=["raw_trips", "postgres_staging_trips", "postgres_trips"],
    description="One month of one color from the source into the final table in Postgres.",
)
bigquery_trips_job = dg.define_asset_job(
    "bigquery_trips_job",
    selection=["raw_trips", "gcs_trips", "bigquery_external_trips", "bigquery_staging_trips", "bigquery_trips"],
    description="One month of one color from the source through the bucket into the final table in BigQuery.",
)


@dataclass(frozen=True)
class Target:
    """A warehouse that trips are loaded into: the job that does it, and the asset that it ends in.

    Attributes:
        infix: of the names of its schedules and its sensor; those of Postgres, the first one, have none.
    """

    job: UnresolvedAssetJobDefinition
    asset: str
    infix: str = ""

    @property
    def asks_bigquery(self) -> Sequence[Color]:
        """The colors whose table in BigQuery tells what is loaded; none where the history does."""
        return list(COLORS.values()) if self.asset == "bigquery_trips" else []


# What `--target` may name.
TARGETS = {
    "postgres": Target(postgres_trips_job, "postgres_trips"),
    "bigquery": Target(bigquery_trips_job, "bigquery_trips", infix="bigquery_"),
}

FIRST_HOUR = {"green": 9, "yellow": 10}
FILES_PER_TICK = 8  # that a web server is asked about


def month_before(moment: datetime) -> str:
    """The month, `2020-04`, that ended last before a moment with a time zone, by the calendar of the schedules."""
    first_day = moment.astimezone(ZoneInfo(TIMEZONE)).date().replace(day=1)
    return f"{first_day - timedelta(days=1):%Y-%m}"


def monthly_schedule(target: Target, color: Color, hour: int) -> dg.ScheduleDefinition:
    """On the 1st of a month: the file of the month that has just ended."""

    @dg.schedule(
        name=f"{color.name}_{target.infix}schedule",
        job=target.job,
        cron_schedule=f"0 {hour} 1 * *",
        execution_timezone=TIMEZONE,
        description=f"The month that has just ended, on the 1st at {hour:02}:00 {TIMEZONE}.",
    )
    def schedule(context: dg.ScheduleEvaluationContext, source: TripSource) -> dg.RunRequest | dg.SkipReason:
        trip_file = TripFile(color, month_before(context.scheduled_execution_time))
        try:
            source.published(trip_file)
        except TransientError as error:
            # The run tries again, and shows it where the source stays away: there is no other tick for a month.
            context.log.warning(str(error))
        except TaxiError as error:
            return dg.SkipReason(str(error))
        return dg.RunRequest(partition_key=trip_file.partition_key)

    return schedule


schedules = [
    monthly_schedule(target, COLORS[name], hour) for target in TARGETS.values() for name, hour in FIRST_HOUR.items()
]


def new_files_sensor(target: Target) -> dg.SensorDefinition:
    """A run for every file that the source has and the table has not, and for every one published anew.

    A folder is looked through at each tick; a web server is asked about a few files, the next few at the next tick.
    """

    @dg.sensor(
        name=f"new_trip_files_{target.infix}sensor",
        job=target.job,
        minimum_interval_seconds=30,
        description="A run for every file that the source has and the table has not, and for every one published anew.",
    )
    def sensor(context: dg.SensorEvaluationContext, source: TripSource, bigquery: BigQuery) -> dg.SensorResult:
        try:
            # Another dataset, or one made anew, has none of the months that the history knows.
            tables = {color.name: bigquery.final_table(color) or {} for color in target.asks_bigquery}
        except TaxiError as error:
            return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
        return _look(context, source, target, tables)

    return sensor


sensors = [new_files_sensor(target) for target in TARGETS.values()]


def _look(
    context: dg.SensorEvaluationContext, source: TripSource, target: Target, tables: Mapping[str, Mapping[str, str]]
) -> dg.SensorResult:
    if source.kind == "sample":
        return dg.SensorResult(skip_reason="The source invents its files, none is ever published: use `taxi backfill`.")
    keys = list(reversed(color_and_month.get_partition_keys()))  # the newest months first
    due = _due(keys, context.cursor) if source.kind == "web" else keys
    news = _News(context.instance, keys, target.asset, tables)
    requests: list[dg.RunRequest] = []
    cursor, remark = context.cursor, ""
    for key in due:
        try:
            edition = source.published(trip_file_at(key))
            if news.is_new(key, edition):
                # Once for each edition and table: one that fails is not asked for again and again.
                words = [key, edition or "published", *news.table(key).values()]
                requests.append(dg.RunRequest(partition_key=key, run_key=" ".join(words)))
        except NotPublishedError:
            pass
        except TaxiError as error:
            remark = str(error)
            if isinstance(error, TransientError) or source.kind == "folder":
                break  # nobody is at home: from here on at the next tick
        cursor = key
    if remark:  # one warning a tick, however many files it is about
        context.log.warning(remark)
    looked = f"{len(due)} files looked for, {due[0]} to {due[-1]}: none is new."
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else remark or looked, cursor=cursor)


def _due(keys: Sequence[str], cursor: str | None) -> Sequence[str]:
    """The next few keys after the one looked at last, beginning again at the end."""
    start = keys.index(cursor) + 1 if cursor in keys else 0
    return [*keys[start:], *keys[:start]][:FILES_PER_TICK]


class _News:
    """Tells an edition that is not in the table from those that are, or are on their way.

    Args:
        tables: by color, what a materialization says of the table if it was merged into the one that is there now.
    """

    def __init__(
        self, instance: dg.DagsterInstance, keys: Sequence[str], asset: str, tables: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.statuses = instance.get_status_by_partition(dg.AssetKey(asset), keys, color_and_month) or {}
        self.raw, self.loaded = latest(instance, "raw_trips"), latest(instance, asset)
        self.tables = tables

    def table(self, key: str) -> Mapping[str, str]:
        return self.tables.get(trip_file_at(key).color.name, {})

    def is_new(self, key: str, edition: str) -> bool:
        status = self.statuses.get(key)
        raw, loaded = self.raw.get(key, {}), self.loaded.get(key, {})
        if status == dg.AssetPartitionStatus.MATERIALIZED and self._in_table(key, loaded):
            fetched = raw.get("edition")
            # The raw file may have been fetched anew for another warehouse.
            stale = "sha256" in loaded and raw.get("sha256") != loaded["sha256"]
            return bool(edition and fetched) and (edition != fetched or stale)
        return status != dg.AssetPartitionStatus.IN_PROGRESS

    def _in_table(self, key: str, loaded: Mapping[str, Any]) -> bool:
        if not self.tables:
            return True
        table = self.table(key)
        return bool(table) and table.items() <= loaded.items()
