"""What runs without being asked, and the jobs that it runs: schedules by the calendar, a sensor by what is published.

All are off until somebody turns them on. None of them works on trips: they look at the source and request runs.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from taxi_assets.errors import NotPublishedError, TaxiError, TransientError
from taxi_assets.history import latest
from taxi_assets.partitions import TIMEZONE, color_and_month, trip_file_at
from taxi_assets.resources.source import TripSource
from taxi_assets.trips import COLORS, Color, TripFile

postgres_trips_job = dg.define_asset_job(
    "postgres_trips_job",
    selection=["raw_trips", "postgres_staging_trips", "postgres_trips"],
    description="One month of one color from the source into the final table in Postgres.",
)

# What `taxi backfill --target` may name: the job, and the asset that it ends in.
TARGETS = {"postgres": (postgres_trips_job.name, "postgres_trips")}

FIRST_HOUR = {"green": 9, "yellow": 10}
FILES_PER_TICK = 8  # that a web server is asked about


def month_before(moment: datetime) -> str:
    """The month, `2020-04`, that ended last before a moment with a time zone, by the calendar of the schedules."""
    first_day = moment.astimezone(ZoneInfo(TIMEZONE)).date().replace(day=1)
    return f"{first_day - timedelta(days=1):%Y-%m}"


def monthly_schedule(color: Color, hour: int) -> dg.ScheduleDefinition:
    """On the 1st of a month: the file of the month that has just ended."""

    @dg.schedule(
        name=f"{color.name}_schedule",
        job=postgres_trips_job,
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


schedules = [monthly_schedule(COLORS[name], hour) for name, hour in FIRST_HOUR.items()]


@dg.sensor(
    job=postgres_trips_job,
    minimum_interval_seconds=30,
    description="A run for every file that the source has and the table has not, and for every one published anew.",
)
def new_trip_files_sensor(context: dg.SensorEvaluationContext, source: TripSource) -> dg.SensorResult:
    """Every file that the source has and the table has not, and every one that is published anew.

    A folder is looked through at each tick; a web server is asked about a few files, the next few at the next tick.
    """
    if source.kind == "sample":
        return dg.SensorResult(skip_reason="The source invents its files, none is ever published: use `taxi backfill`.")
    keys = list(reversed(color_and_month.get_partition_keys()))  # the newest months first
    due = _due(keys, context.cursor) if source.kind == "web" else keys
    news = _News(context.instance, keys)
    requests: list[dg.RunRequest] = []
    cursor, remark = context.cursor, ""
    for key in due:
        try:
            edition = source.published(trip_file_at(key))
            if news.is_new(key, edition):
                # Once for each edition: one that fails is not asked for again and again.
                requests.append(dg.RunRequest(partition_key=key, run_key=f"{key} {edition or 'published'}"))
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
    """Tells an edition that is not in the table from those that are, or are on their way."""

    def __init__(self, instance: dg.DagsterInstance, keys: Sequence[str]) -> None:
        trips = dg.AssetKey("postgres_trips")
        self.statuses = instance.get_status_by_partition(trips, keys, color_and_month) or {}
        self.editions = {key: metadata.get("edition") for key, metadata in latest(instance, "raw_trips").items()}

    def is_new(self, key: str, edition: str) -> bool:
        status = self.statuses.get(key)
        if status == AssetPartitionStatus.MATERIALIZED:
            loaded = self.editions.get(key)
            return bool(edition and loaded) and edition != loaded
        return status != AssetPartitionStatus.IN_PROGRESS
